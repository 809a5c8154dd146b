# SPDX-License-Identifier: MIT
# A host that embeds LuaJIT; it exports its symbols to the FFI.
pkg_check_modules(LUAJIT REQUIRED luajit)
target_include_directories(jitsample_test PRIVATE ${LUA5.1_INCLUDE_DIRS})
target_link_libraries(jitsample_test PRIVATE cprof_lua5.1 cprof_static ${LUAJIT_LIBRARIES})
set_target_properties(jitsample_test PROPERTIES ENABLE_EXPORTS ON)
