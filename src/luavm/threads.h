/* SPDX-License-Identifier: MIT
 *
 * Which Lua threads run on the calling thread's stack, one resumed by the other. Lua keeps no list of them,
 * and replacing coroutine.resume would miss whoever cached it; but a thread that resumed another sits in a C
 * function that holds the other in its first slot (resume) or first upvalue (wrap), on every runtime.
 * Threads: the one that runs the state. Runs no Lua code; leaves all stacks as they were.
 */
#ifndef CPROF_LUAVM_THREADS_H
#define CPROF_LUAVM_THREADS_H

#include "luavm/state.h"

/* More than any runtime lets coroutines be nested. */
#define CPROF__CHAIN_MAX 256

/* Writes the threads from the outermost to RUNNING; where RUNNING is NULL, to the one that called the
 * innermost C function found in NATIVE. Returns: how many, 0 where none of VM's threads runs here. */
size_t cprof__lua_chain(cprof__luavm *vm, lua_State *running, const cprof_vm_native *native,
                        lua_State *chain[CPROF__CHAIN_MAX]);

/* Whether L's stack has room for the few values that we push for a moment. */
static inline bool cprof__lua_room(lua_State *L, int slots)
{
    return lua_checkstack(L, slots);
}

#endif
