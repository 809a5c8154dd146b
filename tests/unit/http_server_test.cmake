# SPDX-License-Identifier: MIT
target_sources(http_server_test PRIVATE unit/judge.c)
target_link_libraries(http_server_test PRIVATE cprof_http_static)
# Where the child of a fork starts a thread, TSan would give up unasked.
set_tests_properties(unit/http_server_test PROPERTIES ENVIRONMENT "TSAN_OPTIONS=die_after_fork=0")
