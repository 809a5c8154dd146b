# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What is installed serves on its own, under any prefix: to pkg-config, to CMake's find_package, and to Lua.
. "$(dirname "$0")/lib.sh"

PREFIX=$TMP/prefix
unset LD_LIBRARY_PATH "${!LUA_PATH@}" "${!LUA_CPATH@}"

runs "cmake --install" cmake --install "$BUILD" --prefix "$PREFIX"
LIBDIR=$(dirname "$(find "$PREFIX" -name libcprof.so)")
is "nothing of the build's own place is left in it" "$(grep -rlF "$BUILD/lib" "$PREFIX")" ''

cat >"$TMP/main.c" <<'C'
#include <cprof.h>
#include <cprof_lua.h>
#include <cprof_vm.h>
#include <stdio.h>
#ifdef WITH_LUA
#include <lauxlib.h>
#endif

int main(void)
{
    cprof_profile *profile;
    cprof_http *server;
    if (cprof_profile_new("installed", NULL, &profile) || cprof_profile_add(profile, &profile, 1) ||
        cprof_http_start(NULL, &server))
        return 1;
    cprof_http_stop(server);
#ifdef WITH_LUA
    lua_State *L = luaL_newstate();
    if (cprof_lua_attach(L))
        return 1;
    lua_close(L);
#endif
    printf("%s %d\n", cprof_version(), (int)cprof_profile_count(profile));
    return 0;
}
C
VERSION=$(sed -n 's/^#define CPROF_VERSION "\(.*\)"/\1/p' "$ROOT/src/cprof.h")

export PKG_CONFIG_PATH=$LIBDIR/pkgconfig
is "pkg-config tells the version" "$(pkg-config --modversion cprof cprof_http)" "$VERSION"$'\n'"$VERSION"
read -ra flags < <(pkg-config --cflags --libs cprof_http)
runs "a program builds by pkg-config" cc -o "$TMP/by_pkg_config" "$TMP/main.c" "${flags[@]}" "-Wl,-rpath,$LIBDIR"
is "and runs" "$("$TMP/by_pkg_config" 2>&1)" "$VERSION 1"

read -ra flags < <(pkg-config --cflags --libs cprof-lua5.4 cprof_http lua5.4)
runs "a host of Lua builds by pkg-config" cc -DWITH_LUA -o "$TMP/host_by_pkg_config" "$TMP/main.c" "${flags[@]}" \
    "-Wl,-rpath,$LIBDIR"
is "and runs" "$("$TMP/host_by_pkg_config" 2>&1)" "$VERSION 1"

mkdir "$TMP/project"
cat >"$TMP/project/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.25)
project(installed LANGUAGES C)
find_package(cprof ${VERSION%.*} REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LUA REQUIRED IMPORTED_TARGET lua5.4)
add_executable(by_cmake ../main.c)
target_compile_definitions(by_cmake PRIVATE WITH_LUA)
target_link_libraries(by_cmake PRIVATE cprof::lua5.4 cprof::http cprof::cprof PkgConfig::LUA)
add_executable(lua_alone ../lua_alone.c)
target_link_libraries(lua_alone PRIVATE cprof::lua5.4 PkgConfig::LUA)
CMAKE
cat >"$TMP/lua_alone.c" <<'C'
#include <cprof.h>
#include <cprof_lua.h>
#include <lauxlib.h>
#include <stdio.h>

int main(void)
{
    lua_State *L = luaL_newstate();
    if (cprof_lua_attach(L))
        fprintf(stderr, "%s\n", cprof_last_error());
    lua_close(L);
    puts(cprof_version());
    return 0;
}
C
runs "a host of Lua is configured by find_package" cmake -S "$TMP/project" -B "$TMP/project/build" \
    -DCMAKE_PREFIX_PATH="$PREFIX"
runs "and builds" cmake --build "$TMP/project/build"
is "and runs" "$("$TMP/project/build/by_cmake" 2>&1)" "$VERSION 1"
is "cprof::lua5.4 brings cprof::cprof with it" "$("$TMP/project/build/lua_alone" 2>&1)" "$VERSION"

# Lua's own search paths are those of its prefix; here they are said.
SCRIPT='local cprof = require "cprof"
local profile = cprof.new_profile("installed")
profile:add({})
local server = assert(cprof.serve())
server:stop()
print(cprof._VERSION, profile:count())'
for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    version=${runtime#lua}
    version=${version/jit/5.1}
    is "$runtime finds the module" "$(LUA_PATH="$PREFIX/share/lua/$version/?.lua" \
        LUA_CPATH="$LIBDIR/lua/$version/?.so" "$runtime" -e "$SCRIPT" 2>&1)" "cprof $VERSION"$'\t'1
done

# The command finds what is installed with it, through a link too, and leaves the script's environment as it was.
echo 'print(_VERSION, os.getenv("LUA_PATH"), os.getenv("LUA_CPATH"))' >"$TMP/script.lua"
ln -s "$PREFIX/bin/cprof" "$TMP/link"
for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    out=$(CPROF_LUA=$runtime "$TMP/link" run -o "$TMP/$runtime.pb.gz" "$TMP/script.lua" 2>&1)
    like "the command runs a script with $runtime" "$out" "^$("$runtime" "$TMP/script.lua")$"
    like "and says where the file is" "$out" "^cprof: $runtime: .*: $TMP/$runtime\.pb\.gz$"
done
runs "the command records a program" "$PREFIX/bin/cprof" record -o "$TMP/program.pb.gz" -- "$TMP/by_pkg_config"
runs "into a file" go tool pprof -raw "$TMP/program.pb.gz"
done_testing
