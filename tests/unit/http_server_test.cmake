# SPDX-License-Identifier: MIT
target_sources(http_server_test PRIVATE unit/judge.c unit/client.c)
target_link_libraries(http_server_test PRIVATE cprof_http_static)
