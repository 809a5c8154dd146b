# SPDX-License-Identifier: MIT
target_sources(http_recorder_test PRIVATE unit/judge.c unit/client.c)
target_link_libraries(http_recorder_test PRIVATE cprof_http_static)
