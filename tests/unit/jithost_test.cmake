# SPDX-License-Identifier: MIT
# A host that embeds LuaJIT.
pkg_check_modules(LUAJIT REQUIRED luajit)
target_include_directories(jithost_test PRIVATE ${LUA5.1_INCLUDE_DIRS})
target_link_libraries(jithost_test PRIVATE cprof_lua5.1 cprof_static ${LUAJIT_LIBRARIES})
