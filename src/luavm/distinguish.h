/* SPDX-License-Identifier: MIT
 *
 * Tells apart functions that share a source and lines: two on one line, or any of a stripped chunk.
 */
#ifndef CPROF_LUAVM_DISTINGUISH_H
#define CPROF_LUAVM_DISTINGUISH_H

#include "luavm/variant.h"

#include <stdint.h>

/* A hash of the code of the Lua function on top of L's stack, equal in every process that runs the same Lua.
 * Leaves the stack as it was. Never raises. */
uint64_t cprof__lua_distinguish(lua_State *L);

#endif
