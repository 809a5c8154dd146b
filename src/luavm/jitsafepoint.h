/* SPDX-License-Identifier: MIT
 *
 * A safepoint of LuaJIT: its profiler's callback, or the hook (jitprofile.c). Threads: the one that runs the state.
 * Signals: unsafe.
 */
#ifndef CPROF_LUAVM_JITSAFEPOINT_H
#define CPROF_LUAVM_JITSAFEPOINT_H

#include "luavm/jitsignal.h"

/* L, of SLOT's state, is at a safepoint. ENTERED: a call was just made, whose frame is newer than any request. */
void cprof__jit_deliver(cprof__jit_slot *slot, lua_State *L, bool entered);

/* Sees to it that what is done at a safepoint does not have to enlarge L's stack. Returns whether there is the room. */
bool cprof__jit_make_room(lua_State *L);

#endif
