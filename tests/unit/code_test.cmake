# SPDX-License-Identifier: MIT
set(number 0)
foreach(version first second)
    math(EXPR number "${number} + 1")
    add_library(loaded_${version} MODULE unit/loaded.c)
    target_compile_definitions(loaded_${version} PRIVATE LOADED_NAME=loaded_${version} LOADED_NUMBER=${number})
    target_compile_options(loaded_${version} PRIVATE -O2 -g -fno-sanitize=all)
    target_link_options(loaded_${version} PRIVATE -fno-sanitize=all)
    set_target_properties(loaded_${version} PROPERTIES PREFIX "" C_VISIBILITY_PRESET default
        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_dependencies(code_test loaded_${version})
    string(TOUPPER ${version} upper)
    target_compile_definitions(code_test PRIVATE LOADED_${upper}="$<TARGET_FILE:loaded_${version}>")
endforeach()
