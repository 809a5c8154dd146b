/* SPDX-License-Identifier: MIT
 *
 * Looks for a function in package.loaded: in the modules and, one level down, in their tables' fields.
 */
#ifndef CPROF_LUAVM_LOADED_H
#define CPROF_LUAVM_LOADED_H

#include "luavm/state.h"

/* Writes the name of the function on top of L's stack to NAME, as "blobstore.Open", or "print" for a global.
 * Of several it takes the standard library's, then the shortest, so that every process takes the same.
 * *STANDARD gets whether the name is the standard library's. Needs 8 free slots. Returns whether it was
 * found. */
bool cprof__lua_loaded_name(cprof__luavm *vm, lua_State *L, char *name, size_t size, bool *standard);

/* The same for the C function ENTRY, which need not be on the stack. */
bool cprof__lua_loaded_entry(cprof__luavm *vm, lua_State *L, uint64_t entry, char *name, size_t size,
                             bool *standard);

#endif
