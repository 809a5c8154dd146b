/* SPDX-License-Identifier: MIT
 *
 * The Lua module lua_host: what a C host does with Lua, for the tests of mixed stacks. Its functions are not
 * inlined, so that they are frames.
 */
#include <lauxlib.h>
#include <lua.h>

#include <cprof.h>

#define NOINLINE __attribute__((noinline, noclone))

static NOINLINE int helper_calls(lua_State *L, int results)
{
    lua_call(L, lua_gettop(L) - 1, results);
    return lua_gettop(L);
}

/* call(f, …): through a helper of its own, so that two native frames lie between the Lua ones. */
static NOINLINE int host_call(lua_State *L)
{
    int count = helper_calls(L, LUA_MULTRET);
    return count + 0 * lua_gettop(L);
}

/* resume(f): runs f in a new thread that only this C function knows. */
static NOINLINE int host_resume(lua_State *L)
{
    lua_pushnumber(L, 1); /* the thread is not in the first slot */
    lua_insert(L, 1);
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 2);
    lua_xmove(L, thread, 1);
#if LUA_VERSION_NUM >= 504
    int count, status = lua_resume(thread, L, 0, &count);
#elif LUA_VERSION_NUM >= 502
    int status = lua_resume(thread, L, 0);
#else
    int status = lua_resume(thread, 0);
#endif
    if (status > 1) {
        lua_xmove(thread, L, 1);
        return lua_error(L);
    }
    return 0;
}

static NOINLINE int add_in_c(const char *profile, const void *key, int skip)
{
    int status = cprof_profile_add(cprof_lookup(profile), key, skip);
    return status + 0 * (int)(size_t)key;
}

/* add(name, skip): an entry that C adds, with a key of its own. */
static NOINLINE int host_add(lua_State *L)
{
    static char keys[64];
    static int used;
    int status = add_in_c(luaL_checkstring(L, 1), &keys[used++ % 64], (int)luaL_checkinteger(L, 2));
    lua_pushinteger(L, status);
    return 1;
}

int luaopen_lua_host(lua_State *L);

__attribute__((visibility("default"))) int luaopen_lua_host(lua_State *L)
{
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, host_call);
    lua_setfield(L, -2, "call");
    lua_pushcfunction(L, host_resume);
    lua_setfield(L, -2, "resume");
    lua_pushcfunction(L, host_add);
    lua_setfield(L, -2, "add");
    return 1;
}
