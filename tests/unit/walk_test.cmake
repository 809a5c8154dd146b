# SPDX-License-Identifier: MIT
target_sources(walk_test PRIVATE unit/maze.c)
set_source_files_properties(unit/maze.c PROPERTIES
    COMPILE_OPTIONS "-O2;-g;-fomit-frame-pointer;-fno-optimize-sibling-calls;-fno-sanitize=all")
target_link_libraries(walk_test PRIVATE PkgConfig::UNWIND)
if(CPROF_SANITIZE)
    target_compile_definitions(walk_test PRIVATE WALK_TEST_SANITIZED)
endif()
