/* SPDX-License-Identifier: MIT
 *
 * The parts of the Lua module cprof_bench.
 */
#ifndef BENCH_LUA_MODULE_H
#define BENCH_LUA_MODULE_H

#include <lauxlib.h>
#include <lua.h>

/* Adds what the benchmark of CPU profiles needs to the table on top of the stack. */
void bench_add_cpu(lua_State *L);

#endif
