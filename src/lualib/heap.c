/* SPDX-License-Identifier: MIT
 *
 * Turning heap profiles on and off; what they hold is reached as any profile (profile.c).
 */
#include "lualib/lib.h"

#define RATE_MAX (INT64_C(1) << 40)

int cprof__heap_rate_set(lua_State *L)
{
    int64_t rate, old;
    luaL_checktype(L, 1, LUA_TNUMBER);
    luaL_argcheck(L, cprof__lua_tointeger(L, 1, &rate) && rate >= 0 && rate <= RATE_MAX, 1,
                  "rate must be an integer from 0 to 2^40");
    if (cprof_set_mem_profile_rate(rate, &old) != 0) {
        return luaL_error(L, "%s", cprof_last_error());
    }
    (void)cprof_lua_attach(L); /* which takes this state's allocator over, or gives it back */
    cprof__lua_pushinteger(L, old);
    return 1;
}

int cprof__heap_rate_get(lua_State *L)
{
    cprof__lua_pushinteger(L, cprof_mem_profile_rate());
    return 1;
}

int cprof__heap_native_set(lua_State *L)
{
    int old;
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    if (cprof_heap_native(lua_toboolean(L, 1), &old) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, cprof_last_error());
        lua_pushstring(L, cprof_last_error_name());
        return 3;
    }
    (void)cprof_lua_attach(L);
    lua_pushboolean(L, old);
    return 1;
}
