# SPDX-License-Identifier: MIT
# What `cmake --install` puts where: libraries with their headers, for find_package(cprof) (cprof::cprof, cprof::http,
# cprof::lua5.4 …) and for pkg-config (cprof, cprof_http, cprof-lua5.4 …), and the Lua modules where a Lua of the same
# prefix looks. What belongs together finds itself by its own place ($ORIGIN), so any prefix will do.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cprof)

install(FILES src/cprof.h src/cprof_lua.h src/cprof_vm.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set_target_properties(cprof_http PROPERTIES EXPORT_NAME http INSTALL_RPATH "$ORIGIN")
install(TARGETS cprof cprof_http EXPORT cprof)
# The command, and what it preloads, which finds the other libraries beside itself.
install(TARGETS cprof_preload LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(PROGRAMS lua/bin/cprof DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(version 5.1 5.2 5.3 5.4)
    set_target_properties(cprof_lua${version} PROPERTIES EXPORT_NAME lua${version})
    install(TARGETS cprof_lua${version} EXPORT cprof)
    set_target_properties(cprof_lua${version}_core cprof_lua${version}_http PROPERTIES INSTALL_RPATH "$ORIGIN/../../..")
    install(TARGETS cprof_lua${version}_core cprof_lua${version}_http cprof_lua${version}_process
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/lua/${version}/cprof)
    install(FILES lua/cprof.lua DESTINATION ${CMAKE_INSTALL_DATADIR}/lua/${version})
    install(DIRECTORY lua/cprof DESTINATION ${CMAKE_INSTALL_DATADIR}/lua/${version} FILES_MATCHING PATTERN "*.lua")
endforeach()

install(EXPORT cprof NAMESPACE cprof:: FILE cprofConfig.cmake DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cprofConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/cprofConfigVersion.cmake DESTINATION ${package_dir})

# The prefix may be given as late as to `cmake --install`, so the files for pkg-config are written then.
function(cprof_pc PACKAGE PACKAGE_DESCRIPTION PACKAGE_REQUIRES)
    set(CMAKE_INSTALL_PREFIX "@CMAKE_INSTALL_PREFIX@")
    configure_file(cmake/package.pc.in ${CMAKE_BINARY_DIR}/${PACKAGE}.pc.in @ONLY)
    install(CODE "configure_file(\"${CMAKE_BINARY_DIR}/${PACKAGE}.pc.in\" \"${CMAKE_BINARY_DIR}/${PACKAGE}.pc\" @ONLY)")
    install(FILES ${CMAKE_BINARY_DIR}/${PACKAGE}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
cprof_pc(cprof "${PROJECT_DESCRIPTION}" "")
cprof_pc(cprof_http "Serves the profiles of cprof over HTTP" cprof)
foreach(version 5.1 5.2 5.3 5.4)
    cprof_pc(cprof-lua${version} "cprof for C programs that embed Lua ${version}" cprof)
endforeach()
