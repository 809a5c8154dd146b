# SPDX-License-Identifier: MIT
set_source_files_properties(unit/symbols_test.c PROPERTIES COMPILE_OPTIONS "-O2;-g;-fno-sanitize=all")

add_executable(named_stripped unit/named.c)
target_link_options(named_stripped PRIVATE -s)

add_executable(named_fixed unit/named.c)
target_link_options(named_fixed PRIVATE -s -no-pie)

# Its debug information is in named_apart.debug, which .gnu_debuglink names; it has no build id to be found by.
add_executable(named_apart unit/named.c)
target_compile_options(named_apart PRIVATE -g)
target_link_options(named_apart PRIVATE -Wl,--build-id=none)
add_custom_command(TARGET named_apart POST_BUILD
    COMMAND ${CMAKE_OBJCOPY} --only-keep-debug $<TARGET_FILE:named_apart> $<TARGET_FILE:named_apart>.debug
    COMMAND ${CMAKE_OBJCOPY} --strip-all --add-gnu-debuglink=$<TARGET_FILE:named_apart>.debug $<TARGET_FILE:named_apart>
    VERBATIM)

add_executable(named_split unit/named.c)
target_compile_options(named_split PRIVATE -g -gsplit-dwarf)

foreach(program named_stripped named_fixed named_apart named_split)
    target_link_libraries(${program} PRIVATE cprof_flags cprof_static)
    set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_dependencies(symbols_test ${program})
    string(TOUPPER ${program} upper)
    target_compile_definitions(symbols_test PRIVATE ${upper}="$<TARGET_FILE:${program}>")
endforeach()
