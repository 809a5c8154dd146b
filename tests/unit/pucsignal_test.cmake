# SPDX-License-Identifier: MIT
# Built once for each Lua.
cprof_test_for_each_lua(pucsignal_test 5.1 5.2 5.3 luajit)
