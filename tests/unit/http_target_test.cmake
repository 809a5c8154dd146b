# SPDX-License-Identifier: MIT
target_link_libraries(http_target_test PRIVATE cprof_http_static)
