/* SPDX-License-Identifier: MIT
 *
 * What cprof keeps for each Lua state: a full userdata in the registry, whose finalizer takes the state's
 * entries along when lua_close runs. It is the `state` pointer that the core knows the state by. Threads: the
 * one that runs the state. Signals: unsafe.
 */
#ifndef CPROF_LUAVM_STATE_H
#define CPROF_LUAVM_STATE_H

#include "cprof_lua.h"
#include "cprof_vm.h"
#include "luavm/heap.h"
#include "luavm/variant.h"

#include <stdint.h>

/* What is known of a function value, found by the value's pointer. The pointer alone proves nothing, since
 * the collector frees closures and reuses their addresses: an entry counts only in the generation it was made
 * in. */
typedef struct cprof__lua_function {
    const void *closure; /* NULL: free */
    const cprof_vm_function *function;
    uint64_t entry;               /* as in cprof_vm_frame */
    struct cprof__naming *naming; /* NULL: its name is settled */
    uint64_t address;             /* of LINE */
    uint32_t generation;
    uint32_t flags; /* as in cprof_vm_frame */
    int line;
} cprof__lua_function;

/* What is known of a place in a function, found by the function value's pointer and the place's pc; as above,
 * it counts only in its generation. */
typedef struct cprof__lua_place {
    const void *closure; /* NULL: free */
    uint64_t pc;
    uint64_t address, entry; /* as in cprof_vm_frame */
    struct cprof__naming *naming;
    uint32_t generation;
    uint32_t flags;
} cprof__lua_place;

/* A C function that creates coroutines, and comes by way of ours (labelsjit.c). */
typedef struct cprof__creator {
    lua_CFunction original;
    int ref; /* registry: the function; 0: none */
} cprof__creator;

#define CPROF__CREATORS 7

typedef struct cprof__luavm {
    cprof_vm_state *state; /* NULL: not attached */
    lua_State *main;       /* NULL: not known yet (5.1 and LuaJIT, attached by a coroutine) */
    const void *orphan;    /* the last running thread for which no resumer was found */
    /* The C functions of what coroutine.wrap, string.gmatch and ipairs return; 0 where they are none (LuaJIT) */
    uint64_t wrap_entry, gmatch_entry, ipairs_entry;
    uint64_t gethook_entry, sethook_entry; /* debug's; 0 where there are none */
    uint64_t tail_calls;                   /* address of the frame that stands for tail calls */
    const cprof_vm_function *unknown;
    cprof__lua_function *cache; /* direct-mapped */
    uint32_t cache_size;        /* a power of two; 0: no memory */
    uint32_t cache_evictions;
    const struct cprof__levels *levels; /* NULL: stacks are read by the debug API alone */
    cprof__lua_place *places;           /* direct-mapped; NULL: no memory */
    cprof__lua_function uncached;       /* serves where the cache has no memory */
    uint32_t generation;                /* counts the collector's cycles as far as somebody looked */
    int weak_ref;                       /* registry: a table with weak values, slots as below */
    int loaded_ref;                     /* registry: package.loaded */
    int sentinel_ref;                   /* registry: the metatable of sentinels */
    int spare_ref;                      /* registry: the next sentinel, or false */
    struct cprof__namings *namings;     /* functions whose names are not settled */
    struct cprof__puc *puc;             /* pucsignal.h; NULL: no memory, or not PUC Lua */
    lua_State *walked;                  /* the innermost thread that the last walk found, or NULL */
    int labels_ref;                     /* registry: labels of threads (labels.h); 0: none were set yet */
    int outermost_ref; /* registry: outermost functions of threads (jitreset.h), 0: no table */
    int unwrap_ref;    /* registry: puts back what labelsjit.c wrapped; 0: nothing is */
    int nothing_ref;   /* registry: a function that does nothing (jitprofile.c); 0: none */
    int adopting_ref;  /* registry: what makes a function that adopts labels (labelsjit.c) */
    cprof__luaheap heap;
    bool is_jit;
    cprof__creator creators[CPROF__CREATORS];
} cprof__luavm;

/* Names are cut where they are longer than this, with their 0. */
#define CPROF__LUA_NAME_MAX 256

/* Slots of the weak table. */
enum {
    CPROF__WEAK_SENTINEL = 1, /* an object that nothing else refers to: gone once a cycle has marked */
    CPROF__WEAK_ROOT,         /* the thread that a host resumed when we last looked for one */
    CPROF__WEAK_SLOTS = CPROF__WEAK_ROOT
};

/* What is kept for the state of L; NULL where it was never attached. Needs a free slot on L. */
cprof__luavm *cprof__luavm_of(lua_State *L);

/* Begins a new generation where closures, prototypes and source strings seen in VM's may since have been
 * freed and their addresses reused. Needs four free slots on L. Runs no Lua code and allocates nothing. */
void cprof__luavm_follow_collector(cprof__luavm *vm, lua_State *L);

#endif
