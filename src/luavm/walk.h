/* SPDX-License-Identifier: MIT
 *
 * cprof_vm.walk for Lua: the frames of the threads that run in a state, leaf first, one thread after the
 * other that it was resumed by.
 */
#ifndef CPROF_LUAVM_WALK_H
#define CPROF_LUAVM_WALK_H

#include "luavm/state.h"

size_t cprof__lua_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                       size_t frames_max, int *truncated);

#endif
