/* SPDX-License-Identifier: MIT
 *
 * What differs between the Lua versions for the reader of their stacks. The rest of luavm/ is one source for
 * all of them; the module for 5.1 also serves LuaJIT, which is only known when it runs.
 */
#ifndef CPROF_LUAVM_VARIANT_H
#define CPROF_LUAVM_VARIANT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <stdbool.h>

/* Where a version's lstate.h and lobject.h put what readers of its records need (levels51.c, levels52.c, pucsignal.c):
 * the current CallInfo and the first one in a lua_State (5.1), the function's slot and the caller's record in a
 * CallInfo, the C function in a closure. Each reader is put to the test before it is used. */
#if LUA_VERSION_NUM == 501
#define CPROF__CI_AT 40
#define CPROF__BASE_CI_AT 80
#define CPROF__CI_BYTES 40
#define CPROF__CI_FUNC_AT 8
#define CPROF__CLOSURE_C_AT 32
#else
#define CPROF__CI_FUNC_AT 0
#define CPROF__CI_PREVIOUS_AT 16
#define CPROF__CLOSURE_C_AT 24
#endif

#if LUA_VERSION_NUM == 501

#define CPROF__LUA_NAME "Lua 5.1"

/* What a walk asks lua_getinfo for. Tail calls that 5.1 lost are levels of their own, with nil for a
 * function. */
#define CPROF__LUA_WALK "fl"

static inline bool cprof__lua_tail_called(const lua_Debug *ar)
{
    (void)ar;
    return false;
}

/* Only LuaJIT has this function, and a program with both has one for each. */
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));

static inline bool cprof__lua_is_jit(void)
{
    return luaJIT_setmode != NULL;
}

/* The main thread of L's state, or NULL: 5.1 tells only the main thread itself. */
static inline lua_State *cprof__lua_main(lua_State *L)
{
    int is_main = lua_pushthread(L);
    lua_pop(L, 1);
    return is_main ? L : NULL;
}

#else

#define CPROF__LUA_NAME "Lua " LUA_VERSION_MAJOR "." LUA_VERSION_MINOR
#define CPROF__LUA_WALK "flt"

static inline bool cprof__lua_tail_called(const lua_Debug *ar)
{
    return ar->istailcall;
}

static inline bool cprof__lua_is_jit(void)
{
    return false;
}

static inline lua_State *cprof__lua_main(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *thread = lua_tothread(L, -1);
    lua_pop(L, 1);
    return thread;
}

#endif

/* Whether the finalizers of one cycle of the collector have run before the next cycle can free anything
 * (state.c). */
#define CPROF__LUA_SPARES (LUA_VERSION_NUM != 502)

#if LUA_VERSION_NUM >= 503
#define cprof__lua_dump(L, writer, data) lua_dump(L, writer, data, 0)
#else
#define cprof__lua_dump(L, writer, data) lua_dump(L, writer, data)
#endif

#endif
