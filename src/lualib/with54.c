/* SPDX-License-Identifier: MIT
 *
 * with_labels for Lua 5.4: a plain call beside a to-be-closed value, which gives the labels from before back
 * however the call ends. An error so passes by as if with_labels were not there: whoever catches it sees the
 * whole stack. Such a value is kept for each set of labels, so that none is made anew each time.
 */
#include "lualib/lib.h"

#define CLOSER_TYPE "cprof.closer"

/* Its address is the key in the registry of the closers by the sets that they give back. */
static const char closers_key;

static int closer_close(lua_State *L)
{
    const cprof_labels **old = luaL_checkudata(L, 1, CLOSER_TYPE);
    cprof_lua_set_labels(L, *old, NULL);
    return 0;
}

static void push_closer(lua_State *L, const cprof_labels *old)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &closers_key);
    if (lua_rawgetp(L, -1, old) == LUA_TNIL) {
        lua_pop(L, 1);
        const cprof_labels **closer = lua_newuserdatauv(L, sizeof *closer, 0);
        *closer = old;
        luaL_setmetatable(L, CLOSER_TYPE);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, -3, old);
    }
    lua_remove(L, -2);
}

static int leave(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L) - 1;
}

static int with_labels(lua_State *L)
{
    const cprof_labels *old;
    int arg;
    luaL_checkstack(L, 8, "with_labels");
    if (lua_gettop(L) < 2) {
        lua_settop(L, 2);
    }
    push_closer(L, cprof_lua_labels(L)); /* what may raise comes before anything changes */
    const char *wrong = cprof__labels_enter(L, &old, &arg);
    if (wrong) {
        return luaL_argerror(L, arg, wrong);
    }
    lua_replace(L, 1);
    lua_toclose(L, 1);
    lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, leave);
    return leave(L, LUA_OK, 0);
}

void cprof__push_with_labels(lua_State *L)
{
    static const luaL_Reg functions[] = {{"__close", closer_close}, {NULL, NULL}};
    cprof__new_type(L, CLOSER_TYPE, functions, NULL);
    lua_pop(L, 1);
    lua_createtable(L, 0, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &closers_key);
    lua_pushcfunction(L, with_labels);
}
