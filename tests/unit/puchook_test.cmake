# SPDX-License-Identifier: MIT
# Built once for each Lua, as luavm_test is.
target_include_directories(puchook_test PRIVATE ${LUA5.4_INCLUDE_DIRS})
target_link_libraries(puchook_test PRIVATE cprof_lua5.4 cprof_static ${LUA5.4_LIBRARIES})

function(cprof_puchook_test NAME VERSION)
    add_executable(puchook_test_${NAME} unit/puchook_test.c)
    target_include_directories(puchook_test_${NAME} PRIVATE ${LUA${VERSION}_INCLUDE_DIRS})
    target_link_libraries(puchook_test_${NAME} PRIVATE cprof_flags cprof_lua${VERSION} cprof_static
        PkgConfig::CMOCKA ${ARGN})
    set_target_properties(puchook_test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME unit/puchook_test_${NAME} COMMAND puchook_test_${NAME})
endfunction()
cprof_puchook_test(5.1 5.1 ${LUA5.1_LIBRARIES})
cprof_puchook_test(5.2 5.2 ${LUA5.2_LIBRARIES})
cprof_puchook_test(5.3 5.3 ${LUA5.3_LIBRARIES})
