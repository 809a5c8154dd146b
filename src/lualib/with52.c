/* SPDX-License-Identifier: MIT
 *
 * with_labels for Lua 5.2 and 5.3: a protected call that may be yielded across, after which an error goes on its
 * way with the same value.
 */
#include "lualib/lib.h"

/* The labels from before are at index 1. */
static int leave(lua_State *L, int status)
{
    cprof_lua_set_labels(L, lua_touserdata(L, 1), NULL);
    if (status != LUA_OK && status != LUA_YIELD) {
        return lua_error(L);
    }
    return lua_gettop(L) - 1;
}

#if LUA_VERSION_NUM >= 503

static int after_yield(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    return leave(L, status);
}

#else

static int after_yield(lua_State *L)
{
    return leave(L, lua_getctx(L, NULL));
}

#endif

static int with_labels(lua_State *L)
{
    const cprof_labels *old;
    int arg;
    const char *wrong = cprof__labels_enter(L, &old, &arg);
    if (wrong) {
        return luaL_argerror(L, arg, wrong);
    }
    lua_pushlightuserdata(L, (void *)old);
    lua_replace(L, 1);
    return leave(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, after_yield));
}

void cprof__push_with_labels(lua_State *L)
{
    lua_pushcfunction(L, with_labels);
}
