# SPDX-License-Identifier: MIT
target_link_libraries(http_routes_test PRIVATE cprof_http_static)
