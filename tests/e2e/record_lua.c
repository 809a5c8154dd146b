/* SPDX-License-Identifier: MIT
 *
 * A host of Lua that knows nothing of cprof (record_test.sh): runs the script that its argument names.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    int failed = argc < 2 || luaL_dofile(L, argv[1]);
    if (failed)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return failed;
}
