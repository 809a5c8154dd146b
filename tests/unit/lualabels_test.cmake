# SPDX-License-Identifier: MIT
# Built once for each Lua, as luavm_test is.
pkg_check_modules(LUAJIT REQUIRED luajit)
target_include_directories(lualabels_test PRIVATE ${LUA5.4_INCLUDE_DIRS})
target_link_libraries(lualabels_test PRIVATE cprof_lua5.4 cprof_static ${LUA5.4_LIBRARIES})

function(cprof_lualabels_test NAME VERSION)
    add_executable(lualabels_test_${NAME} unit/lualabels_test.c)
    target_include_directories(lualabels_test_${NAME} PRIVATE ${LUA${VERSION}_INCLUDE_DIRS})
    target_link_libraries(lualabels_test_${NAME} PRIVATE cprof_flags cprof_lua${VERSION} cprof_static
        PkgConfig::CMOCKA ${ARGN})
    set_target_properties(lualabels_test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME unit/lualabels_test_${NAME} COMMAND lualabels_test_${NAME})
endfunction()
cprof_lualabels_test(5.1 5.1 ${LUA5.1_LIBRARIES})
cprof_lualabels_test(5.2 5.2 ${LUA5.2_LIBRARIES})
cprof_lualabels_test(5.3 5.3 ${LUA5.3_LIBRARIES})
cprof_lualabels_test(luajit 5.1 ${LUAJIT_LIBRARIES})
