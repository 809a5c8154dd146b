/* SPDX-License-Identifier: MIT
 *
 * Finds the program's Lua states, so that their frames are shown. Where Lua is a shared library, its functions that
 * make a state are ours first (interpose.h). Debian's interpreters, lua5.1 to lua5.4 and luajit, hold Lua themselves,
 * and their calls of it cannot be met; but they run what LUA_INIT says before the script, and there the state can be
 * had. Other programs that hold a Lua of their own are recorded without its frames, and told so.
 */
#ifndef CPROF_PRELOAD_LUASTATES_H
#define CPROF_PRELOAD_LUASTATES_H

/* Sets LUA_INIT where the program is an interpreter that reads it; the state's first step is to set it back. */
void cprof__lua_prepare(int argc, char **argv);

#endif
