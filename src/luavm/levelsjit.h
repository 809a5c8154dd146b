/* SPDX-License-Identifier: MIT
 *
 * The reader for LuaJIT, which the module for 5.1 meets when it runs.
 */
#ifndef CPROF_LUAVM_LEVELSJIT_H
#define CPROF_LUAVM_LEVELSJIT_H

#include "luavm/levels.h"

extern const cprof__levels cprof__levels_jit;

#endif
