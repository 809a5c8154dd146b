# SPDX-License-Identifier: MIT
# The test is built once for each Lua, linked as a host that embeds Lua is: luavm_test itself with 5.4, and
# luavm_test_VERSION with the others (5.1's objects with LuaJIT's library as well).
pkg_check_modules(LUAJIT REQUIRED luajit)
target_include_directories(luavm_test PRIVATE ${LUA5.4_INCLUDE_DIRS})
target_link_libraries(luavm_test PRIVATE cprof_lua5.4 cprof_static ${LUA5.4_LIBRARIES})

function(cprof_luavm_test NAME VERSION)
    add_executable(luavm_test_${NAME} unit/luavm_test.c)
    target_include_directories(luavm_test_${NAME} PRIVATE ${LUA${VERSION}_INCLUDE_DIRS})
    target_link_libraries(luavm_test_${NAME} PRIVATE cprof_flags cprof_lua${VERSION} cprof_static PkgConfig::CMOCKA
        ${ARGN})
    set_target_properties(luavm_test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME unit/luavm_test_${NAME} COMMAND luavm_test_${NAME})
endfunction()
cprof_luavm_test(5.1 5.1 ${LUA5.1_LIBRARIES})
cprof_luavm_test(5.2 5.2 ${LUA5.2_LIBRARIES})
cprof_luavm_test(5.3 5.3 ${LUA5.3_LIBRARIES})
cprof_luavm_test(luajit 5.1 ${LUAJIT_LIBRARIES})
