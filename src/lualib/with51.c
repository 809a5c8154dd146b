/* SPDX-License-Identifier: MIT
 *
 * with_labels for Lua 5.1 and LuaJIT, in Lua, so that LuaJIT can yield across its pcall. Lua 5.1 cannot; but
 * where some C function lies further out in the coroutine, no yield is possible anyway, so pcall does no harm;
 * and where none does, nobody in the coroutine can catch an error, which then ends the coroutine and its labels
 * with it, so a plain call is enough. On LuaJIT a coroutine can also be abandoned and begin anew, which nothing is
 * told: then the mark is gone.
 */
#include "lualib/lib.h"

static const char source[] = "local enter, leave, pcall = ...\n"
                             "return function(set, fn, ...)\n"
                             "  local mark, old, caught = enter(set, fn)\n"
                             "  if caught then return leave(old, pcall(fn, ...)) end\n"
                             "  return leave(old, true, fn(...))\n"
                             "end\n";

/* Whether somebody may catch an error that leaves with_labels, which is level 1. The main thread's host always
 * may. */
static bool may_be_caught(lua_State *L)
{
    lua_Debug ar;
    bool caught = lua_pushthread(L) || cprof__lua_is_jit();
    lua_pop(L, 1);
    if (caught || !lua_getstack(L, 1, &ar)) {
        return true;
    }
    /* In 5.1, i_ci counts the calls from the outermost on; lua_getstack would count them each time anew. */
    while (!caught && --ar.i_ci > 0) {
        lua_getinfo(L, "f", &ar);
        caught = lua_iscfunction(L, -1);
        lua_pop(L, 1);
    }
    return caught;
}

/* enter(set, fn): gives the labels their place. Returns: a mark, those from before, and whether to catch errors. */
static int enter(lua_State *L)
{
    const cprof_labels *old;
    double kept = cprof__lua_labels_keep(L);
    int arg;
    const char *wrong = cprof__labels_enter(L, &old, &arg);
    if (wrong) {
        luaL_where(L, 2); /* the caller of with_labels */
        lua_pushfstring(L, "bad argument #%d to 'with_labels' (%s)", arg, wrong);
        lua_concat(L, 2);
        return lua_error(L);
    }
    cprof__lua_labels_push_mark(L);
    lua_pushnumber(L, kept);
    lua_pushboolean(L, may_be_caught(L));
    return 3;
}

/* leave(old, good, …): gives the labels back. Returns what follows, or raises it. */
static int leave(lua_State *L)
{
    cprof__lua_labels_give_back(L, lua_tonumber(L, 1));
    return lua_toboolean(L, 2) ? lua_gettop(L) - 2 : lua_error(L);
}

/* pcall, which a host may have left out or replaced. */
static int protected_call(lua_State *L)
{
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    lua_pushboolean(L, status == 0);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* Only LuaJIT's own pcall can be yielded across. */
static void push_pcall(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "_G");
        lua_remove(L, -2);
    }
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "pcall");
        lua_remove(L, -2);
    }
    if (!cprof__lua_is_jit() || !lua_iscfunction(L, -1)) {
        lua_pop(L, 1);
        lua_pushcfunction(L, protected_call);
    }
}

void cprof__push_with_labels(lua_State *L)
{
    if (luaL_loadbuffer(L, source, sizeof source - 1, "=cprof") != 0) {
        lua_error(L);
    }
    lua_pushcfunction(L, enter);
    lua_pushcfunction(L, leave);
    push_pcall(L);
    lua_call(L, 3, 1);
}
