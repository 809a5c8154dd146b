/* SPDX-License-Identifier: MIT
 *
 * Labels of new coroutines on LuaJIT, which tells nobody who created one. From the first labels of a state on, until
 * it is detached, the functions of its libraries that create coroutines (coroutine.create and wrap, ngx.thread.spawn)
 * do so by way of ours: in a C function, its native code is exchanged, which all see who have it, cached it as they
 * may; a Lua function that stands in its library's place is wrapped there. labels.h says what coroutines have that were
 * created before, or by a host. Threads: the one that runs the state.
 */
#ifndef CPROF_LUAVM_LABELSJIT_H
#define CPROF_LUAVM_LABELSJIT_H

#include "luavm/state.h"

#if LUA_VERSION_NUM == 501

/* Begins it. Needs eight free slots on L; may raise where memory runs out. */
void cprof__lua_wrap_creation(cprof__luavm *vm, lua_State *L);

/* Ends it. Raises nothing. */
void cprof__lua_unwrap_creation(cprof__luavm *vm, lua_State *L);

#else

static inline void cprof__lua_wrap_creation(cprof__luavm *vm, lua_State *L)
{
    (void)vm, (void)L;
}

static inline void cprof__lua_unwrap_creation(cprof__luavm *vm, lua_State *L)
{
    (void)vm, (void)L;
}

#endif

#endif
