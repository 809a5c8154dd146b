/* SPDX-License-Identifier: MIT
 *
 * Labels of new coroutines on LuaJIT, which tells nobody who created one. From the first labels of a state on,
 * the functions of its libraries that create coroutines (coroutine.create and wrap, ngx.thread.spawn) are wrapped
 * there; who has cached them before is not seen, and labels.h says what such coroutines have.
 * Threads: the one that runs the state.
 */
#ifndef CPROF_LUAVM_LABELSJIT_H
#define CPROF_LUAVM_LABELSJIT_H

#include "luavm/state.h"

/* Wraps the functions. Needs five free slots on L; may raise where memory runs out. */
void cprof__lua_wrap_creation(cprof__luavm *vm, lua_State *L);

/* Puts the functions back that are still ours. Raises nothing. */
void cprof__lua_unwrap_creation(cprof__luavm *vm, lua_State *L);

#endif
