/* SPDX-License-Identifier: MIT
 *
 * Lua as the core sees it: a name, how to walk it, and the functions of its C API through which C code enters
 * the VM.
 */
#ifndef CPROF_LUAVM_RUNTIME_H
#define CPROF_LUAVM_RUNTIME_H

#include "cprof_vm.h"

#include <stdbool.h>

extern const cprof_vm cprof__lua_vm;

/* Places in its activities, plus 1. */
enum { CPROF__LUA_GC = 1 };

/* Whether one of its entry points, or LuaJIT's interpreter, is among the innermost LIMIT frames of the native stack. */
bool cprof__lua_entered(const cprof_vm_native *native, size_t limit);

#endif
