/* SPDX-License-Identifier: MIT
 *
 * From a function value on a Lua stack to the core's function with its address: a cache by pointer, and
 * behind it the function's identity (source, lines, distinguisher), which is equal in every process. Threads:
 * the one that runs the state. Runs no Lua code; leaves the stack as it was.
 */
#ifndef CPROF_LUAVM_FUNCTIONS_H
#define CPROF_LUAVM_FUNCTIONS_H

#include "luavm/state.h"

/* Makes VM's cache. Where memory is short VM works without one. */
void cprof__lua_functions_init(cprof__luavm *vm);
void cprof__lua_functions_fini(cprof__luavm *vm);

/* What is found out of the function on top of L's stack, CLOSURE, which is the one that AR (from
 * lua_getstack) runs. */
cprof__lua_function *cprof__lua_function_resolve(cprof__luavm *vm, lua_State *L, lua_Debug *ar,
                                                 const void *closure);

static inline uint32_t cprof__lua_function_slot(const cprof__luavm *vm, const void *closure)
{
    uint64_t hash = ((uint64_t)(uintptr_t)closure >> 3) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 40) & (vm->cache_size - 1);
}

/* The same from the cache where it is there. Needs 12 free slots on L. Never NULL; valid until the next call.
 */
static inline cprof__lua_function *cprof__lua_function_find(cprof__luavm *vm, lua_State *L, lua_Debug *ar,
                                                            const void *closure)
{
    if (vm->cache_size) {
        cprof__lua_function *found = &vm->cache[cprof__lua_function_slot(vm, closure)];
        if (found->closure == closure && found->generation == vm->generation && !found->naming) {
            return found;
        }
    }
    return cprof__lua_function_resolve(vm, L, ar, closure);
}

#define CPROF__LUA_PLACES 512

static inline cprof__lua_place *cprof__lua_place_at(const cprof__luavm *vm, const void *closure, uint64_t pc)
{
    uint64_t hash = ((uint64_t)(uintptr_t)closure >> 3 ^ pc << 5) * UINT64_C(0x9e3779b97f4a7c15);
    return &vm->places[hash >> 40 & (CPROF__LUA_PLACES - 1)];
}

#endif
