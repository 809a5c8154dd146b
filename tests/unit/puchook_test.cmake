# SPDX-License-Identifier: MIT
# Built once for each Lua but LuaJIT, whose hook is another.
cprof_test_for_each_lua(puchook_test 5.1 5.2 5.3)
