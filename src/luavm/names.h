/* SPDX-License-Identifier: MIT
 *
 * What functions are called. Lua functions have no names of their own, so, as luaL_traceback does, a function
 * is looked for in package.loaded; then the call site's word is taken, which may be a local's name. The
 * search costs tens of microseconds, and a module is registered only after it has loaded, so it is repeated
 * at the 1st, 2nd, 4th, 8th … sighting of a function and then given up. Threads: the one that runs the state.
 * Runs no Lua code; leaves the stack as it was.
 */
#ifndef CPROF_LUAVM_NAMES_H
#define CPROF_LUAVM_NAMES_H

#include "luavm/state.h"

/* How far the naming of one function got: of a Lua function as cprof has interned it, or of a C function by
 * its entry, so that the many closures of one function share it. */
typedef struct cprof__naming {
    const void *identity;
    const cprof_vm_function *function; /* of a C function, once its own name is known */
    uint32_t flags;                    /* likewise */
    uint32_t sightings;
    bool settled;
} cprof__naming;

/* The naming of IDENTITY in VM, made where there is none; NULL where memory is short. Valid until VM ends. */
cprof__naming *cprof__naming_find(cprof__luavm *vm, const void *identity);

void cprof__namings_fini(cprof__luavm *vm);

/* Counts a sighting. Returns whether it is time for another search. */
static inline bool cprof__naming_sighted(cprof__naming *naming)
{
    uint32_t next = naming->sightings + 1;
    if ((next & naming->sightings) != 0) {
        naming->sightings = next;
        return false;
    }
    return true; /* the search counts it */
}

/* Name the function on top of L's stack, which AR (asked for "S") runs, as far as is possible now: FOUND
 * holds its identity, and gets the naming back only while that is not settled. */
void cprof__naming_lua(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found);
void cprof__naming_c(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found);
void cprof__naming_wrap(cprof__luavm *vm, cprof__lua_function *found);

/* The frame of the C function ENTRY, which has returned, named as far as is possible now. Needs 8 free slots on L. */
void cprof__naming_entry(cprof__luavm *vm, lua_State *L, uint64_t entry, cprof_vm_frame *frame);

/* cprof_vm.ended: the C function that starts at ENTRY (0: none), and, where some were LOST between it and what the walk
 * tells, a frame that stands for those. */
size_t cprof__naming_ended(cprof__luavm *vm, lua_State *L, uint64_t entry, bool lost, cprof_vm_frame *frames);

#endif
