# SPDX-License-Identifier: MIT
add_library(hooked MODULE unit/hooked.c)
target_compile_options(hooked PRIVATE -fno-sanitize=all)
target_link_options(hooked PRIVATE -fno-sanitize=all -Wl,-z,now -Wl,-z,relro)
set_target_properties(hooked PROPERTIES PREFIX "" C_VISIBILITY_PRESET default
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_dependencies(hooks_test hooked)
target_compile_definitions(hooks_test PRIVATE HOOKED="$<TARGET_FILE:hooked>")
