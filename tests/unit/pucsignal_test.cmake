# SPDX-License-Identifier: MIT
# Built once for each Lua, as luavm_test is.
pkg_check_modules(LUAJIT REQUIRED luajit)
target_include_directories(pucsignal_test PRIVATE ${LUA5.4_INCLUDE_DIRS})
target_link_libraries(pucsignal_test PRIVATE cprof_lua5.4 cprof_static ${LUA5.4_LIBRARIES})

function(cprof_pucsignal_test NAME VERSION)
    add_executable(pucsignal_test_${NAME} unit/pucsignal_test.c)
    target_include_directories(pucsignal_test_${NAME} PRIVATE ${LUA${VERSION}_INCLUDE_DIRS})
    target_link_libraries(pucsignal_test_${NAME} PRIVATE cprof_flags cprof_lua${VERSION} cprof_static PkgConfig::CMOCKA
        ${ARGN})
    set_target_properties(pucsignal_test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME unit/pucsignal_test_${NAME} COMMAND pucsignal_test_${NAME})
endfunction()
cprof_pucsignal_test(5.1 5.1 ${LUA5.1_LIBRARIES})
cprof_pucsignal_test(5.2 5.2 ${LUA5.2_LIBRARIES})
cprof_pucsignal_test(5.3 5.3 ${LUA5.3_LIBRARIES})
cprof_pucsignal_test(luajit 5.1 ${LUAJIT_LIBRARIES})
