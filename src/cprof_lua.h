/* SPDX-License-Identifier: MIT
 *
 * For C hosts that embed Lua. The functions exist once for each Lua (5.1, which serves LuaJIT, 5.2, 5.3,
 * 5.4): in the Lua module cprof/core.so and in libcprof-lua5.4.a (and so on), never in libcprof itself. A
 * host links the static library that fits its Lua:
 *
 *     lua_State *L = luaL_newstate();
 *     luaL_openlibs(L);
 *     cprof_lua_attach(L);          // C stacks now show the Lua frames that called them
 *     ...
 *     lua_close(L);                 // detaches by itself
 *
 * Threads: the one that runs L. Signals: unsafe.
 */
#ifndef CPROF_LUA_H
#define CPROF_LUA_H

#include "cprof.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef lua_h
typedef struct lua_State lua_State;
#endif

/* Makes the state of L known: stacks captured in C code that L's Lua code called then show the Lua frames.
 * `require "cprof"` does this by itself; a second call changes nothing but the owner, which is the calling
 * thread (call it again where a state moves to another thread). May raise a Lua error where memory runs out.
 * Returns: 0, CPROF_ENOMEM, CPROF_EDUPLICATE. */
CPROF_API int cprof_lua_attach(lua_State *L);

/* A function in the registry under this name is called when the state has been detached, also by lua_close.
 * It must not allocate. */
#define CPROF__LUA_ON_DETACH "cprof.on_detach"

/* Forgets the state of L: its entries leave all profiles. lua_close does this by itself. A state that is not
 * attached is left as it is. Returns: 0. */
CPROF_API int cprof_lua_detach(lua_State *L);

/* The state of L for the calls of cprof_vm.h (cprof_vm_add with L as RUNNING), NULL where it is not attached. */
CPROF_API struct cprof_vm_state *cprof_lua_state(lua_State *L);

/* Gives L, a main thread or a coroutine that runs or does not, the labels SET (NULL: none) until the next call;
 * *OLD (may be NULL) gets those it had before. They appear on its CPU samples, and on entries and events added
 * while it runs. Coroutines that L creates get those that L has then. A host that runs
 * something else in L gives it other labels. L's state must have been attached. May raise
 * a Lua error where memory runs out. Returns: 0, CPROF_ECLOSED (it was not). */
CPROF_API int cprof_lua_set_labels(lua_State *L, const cprof_labels *set, const cprof_labels **old);

/* The labels of L; NULL where it has none. May raise a Lua error where L's stack cannot grow. */
CPROF_API const cprof_labels *cprof_lua_labels(lua_State *L);

/* What with_labels of the Lua module needs: what L's labels are before (to give back; not for another thread), giving
 * that back, and in 5.1 a mark in its frame, without which the labels are from before L began anew. The mark is the
 * first result of the C function that runs, which a Lua function keeps in a local variable. */
double cprof__lua_labels_keep(lua_State *L);
void cprof__lua_labels_give_back(lua_State *L, double kept);
void cprof__lua_labels_push_mark(lua_State *L);

/* Opens the module `cprof.core` (lua_CFunction): pushes its table. For package.preload in hosts that link
 * statically. */
CPROF_API int luaopen_cprof_core(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
