/* SPDX-License-Identifier: MIT
 *
 * LuaJIT as a VM that is sampled: which state holds LuaJIT's own profiler, and what happens at a safepoint.
 * The profiler is started when a state is first sampled and stays started until that state is detached,
 * since starting and stopping it throws away all compiled code.
 * Threads: the one that runs the state. Signals: unsafe.
 */
#ifndef CPROF_LUAVM_JITPROFILE_H
#define CPROF_LUAVM_JITPROFILE_H

#include "luavm/state.h"

/* The VM to attach L's state as: LuaJIT's where it is one, else cprof__lua_vm. */
const cprof_vm *cprof__jit_vm(lua_State *L);

/* VM, of L's state, can be sampled from now on, and no longer. Does nothing where the state is no LuaJIT's. */
void cprof__jit_attach(cprof__luavm *vm, lua_State *L);
void cprof__jit_detach(cprof__luavm *vm, lua_State *L);

#endif
