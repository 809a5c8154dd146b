/* SPDX-License-Identifier: MIT
 *
 * A host that holds one copy of cprof itself, linked statically, and whose script loads the Lua module with
 * another.
 */
#include "cprof.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

int main(void)
{
    cprof_profile *profile;
    if (cprof_profile_new("mine", NULL, &profile) != 0)
        return 2;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (luaL_dostring(L, "return require('cprof').new_profile('theirs')") != LUA_OK)
        puts(lua_tostring(L, -1));
    else
        puts("the second copy did not refuse");
    lua_close(L);
    return 0;
}
