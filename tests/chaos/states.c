/* SPDX-License-Identifier: MIT
 *
 * Lua states that live for a moment, each run by the thread that made it: with chaos.lua, with coroutines that C
 * resumes, and with memory that runs out anywhere. The table `host` has what C does for the script.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include "cprof_lua.h"

#include "../resume.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <stdio.h>
#include <stdlib.h>

/* ---- What the script finds in `host` ---- */

/* call(f, …): through C, unprotected. */
static int host_call(lua_State *L)
{
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* try(f, …): through C, protected. Returns whether it went well. */
static int host_try(lua_State *L)
{
    int status = lua_pcall(L, lua_gettop(L) - 1, 0, 0);
    lua_settop(L, 0);
    lua_pushboolean(L, status == 0);
    return 1;
}

/* fail(value): an error from C. */
static int host_fail(lua_State *L)
{
    lua_settop(L, 1);
    return lua_error(L);
}

/* resume(f, times): runs f in a thread that C resumes, for so many times at most, and then forgets. */
static int host_resume(lua_State *L)
{
    int times = (int)luaL_checkinteger(L, 2), status = LUA_YIELD, done = 0;
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, thread, 1);
    for (; done < times && status == LUA_YIELD; done++) {
        status = resume(thread, L, 0);
        if (status <= LUA_YIELD)
            lua_settop(thread, 0);
    }
    lua_pushinteger(L, done);
    return 1;
}

/* spin(us): CPU time in C. */
static int host_spin(lua_State *L)
{
    chaos_spin((uint64_t)luaL_checkinteger(L, 1));
    return 0;
}

/* over(): asked before each act. */
static int host_over(lua_State *L)
{
    atomic_fetch_add(&chaos_self->acts, 1);
    lua_pushboolean(L, atomic_load(&chaos_over));
    return 1;
}

static const luaL_Reg host[] = {
    {"call", host_call},     {"try", host_try},   {"fail", host_fail},
    {"resume", host_resume}, {"spin", host_spin}, {"over", host_over},
};

/* ---- States ---- */

typedef struct plan {
    worker *self;
    const char *script;
    uint32_t seed;
    unsigned acts;
} plan;

static void set_up(lua_State *L)
{
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_cprof_core);
    lua_setfield(L, -2, "cprof.core");
    lua_pushfstring(L, "%s/?.lua", chaos_lua);
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
    lua_createtable(L, 0, 8);
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
        lua_pushcfunction(L, host[i].func);
        lua_setfield(L, -2, host[i].name);
    }
    lua_setglobal(L, "host");
}

/* All of it under protection: memory may run out. */
static int run_script(lua_State *L)
{
    const plan *p = lua_touserdata(L, 1);
    set_up(L);
    if (luaL_loadfile(L, p->script) != 0)
        return lua_error(L);
    lua_pushnumber(L, p->seed);
    lua_pushinteger(L, (lua_Integer)p->acts);
    lua_call(L, 2, 0);
    return 0;
}

static int run(lua_State *L, plan *p)
{
#if LUA_VERSION_NUM == 501
    return lua_cpcall(L, run_script, p);
#else
    if (!lua_checkstack(L, 2))
        return LUA_ERRMEM;
    lua_pushcfunction(L, run_script);
    lua_pushlightuserdata(L, p);
    return lua_pcall(L, 1, 0, 0);
#endif
}

void chaos_states(worker *self)
{
    plan p = {self, chaos_script, chaos_random(self, 1u << 30), 20 + chaos_random(self, 200)};
    lua_State *L = luaL_newstate();
    if (!L)
        chaos_fail("no Lua state");
    int status = run(L, &p);
    if (status != 0)
        chaos_fail("chaos.lua, seed %u: %s", p.seed, lua_isstring(L, -1) ? lua_tostring(L, -1) : "an error");
    lua_close(L);
}

/* ---- Where memory runs out ---- */

typedef struct poor {
    worker *self;
    uint32_t one_in; /* so many allocations one fails; 0: none */
} poor;

static void *allocate(void *context, void *memory, size_t old_size, size_t size)
{
    const poor *p = context;
    (void)old_size;
    if (size == 0) {
        free(memory);
        return NULL;
    }
    /* What shrinks never fails: Lua relies on it. */
    bool grows = !memory || size > old_size;
    if (p->one_in && grows && chaos_random(p->self, p->one_in) == 0)
        return NULL;
    return realloc(memory, size);
}

/* Lua 5.1 calls this where an error finds no protected call: there is none outside of run(). */
static int panic(lua_State *L)
{
    chaos_fail("an unprotected error: %s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "?");
    return 0;
}

void chaos_poor_states(worker *self)
{
    plan p = {self, chaos_script, chaos_random(self, 1u << 30), 5 + chaos_random(self, 50)};
    poor allocator = {self, 0}; /* not yet: a state is made first */
    lua_State *L = lua_newstate(allocate, &allocator);
    if (!L)
        return;
#ifndef CHAOS_MEMORY_LASTS
    allocator.one_in = 50u << chaos_random(self, 12);
#endif
    lua_atpanic(L, panic);
    (void)run(L, &p); /* it fails, or not */
    allocator.one_in = 0;
    lua_close(L);
}
