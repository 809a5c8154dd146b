/* SPDX-License-Identifier: MIT
 *
 * From a function value on a Lua stack to the core's function with its address: a cache by pointer, and
 * behind it the function's identity (source, lines, distinguisher), which is equal in every process. Threads:
 * the one that runs the state. Runs no Lua code; leaves the stack as it was.
 */
#ifndef CPROF_LUAVM_FUNCTIONS_H
#define CPROF_LUAVM_FUNCTIONS_H

#include "luavm/state.h"

/* Makes VM's cache. Where memory is short VM works without one. */
void cprof__lua_functions_init(cprof__luavm *vm);
void cprof__lua_functions_fini(cprof__luavm *vm);

/* What is known of the function on top of L's stack, which is the one that AR (from lua_getstack) runs. Needs
 * 12 free slots on L. Never NULL; valid until the next call. */
const cprof__lua_function *cprof__lua_function_find(cprof__luavm *vm, lua_State *L, lua_Debug *ar);

#endif
