/* SPDX-License-Identifier: MIT
 *
 * What of LuaJIT's sampling runs in a signal handler: which attached state runs on the interrupted thread,
 * what it does, and how it is asked for a safepoint. There are two ways to one:
 *
 * - LuaJIT's own profiler. The function that it would run at SIGPROF marks a request; the interpreter and
 *   compiled code see it and call back. LuaJIT has one for a process, which one state can hold (jitprofile.h).
 * - A hook that counts to one, or is called at a call. Compiled code does not see it. It serves states that do not
 *   hold the profiler, and is how a state comes to hold it: the profiler cannot be started from a handler, but from a
 *   hook.
 *
 * Threads: any. Signals: safe. No lock, no allocation, no system call but those of the given loads.
 */
#ifndef CPROF_LUAVM_JITSIGNAL_H
#define CPROF_LUAVM_JITSIGNAL_H

#include "luavm/levels.h"
#include "luavm/state.h"

#include <stdatomic.h>
#include <stdint.h>

/* Places in cprof_vm.activities, plus 1. */
enum cprof__jit_activity {
    CPROF__JIT_DOES_INTERPRET = 1,
    CPROF__JIT_DOES_COMPILED,
    CPROF__JIT_DOES_C,
    CPROF__JIT_DOES_GC,
    CPROF__JIT_DOES_COMPILE,
    CPROF__JIT_DOES_EXIT,
    CPROF__JIT_DOES_COMPILED_SECOND, /* compiled, without safepoints: another state holds the profiler */
    CPROF__JIT_DOES_COMPILED_TAKEN   /* likewise: the program uses the profiler itself */
};

/* Places in a moment's place. Offsets count from the Lua stack's start, which may move. */
enum {
    CPROF__JIT_PLACE_CFRAME,
    CPROF__JIT_PLACE_FRAME,   /* offset of the innermost frame; 0: not known */
    CPROF__JIT_PLACE_FUNCTION /* its function */
};

/* A frame as it was at a request. */
typedef struct cprof__jit_frame {
    uint64_t offset, function;
    bool is_lua;
} cprof__jit_frame;

#define CPROF__JIT_CALLERS 8

/* What is known of an attached state. The owner's, but for what says otherwise. */
typedef struct cprof__jit_slot {
    _Atomic uint64_t global; /* the VM's global state; 0: the slot is free. Read in any thread's handler */
    _Atomic(cprof__luavm *) state; /* as the core knows it. Likewise */
    _Atomic(const cprof__levels *) levels;

    /* The last request. Written in the handler on the thread that runs the state, read by that thread. */
    cprof_vm_moment moment;
    cprof__jit_frame
        callers[CPROF__JIT_CALLERS]; /* of the moment's frame, where that is known: innermost first */
    uint32_t caller_count;
    uint64_t ticket;
    uint32_t generation;         /* of the collector, as cprof__luavm counts them */
    _Atomic uint32_t requested;  /* counts requests */
    _Atomic uint32_t answered;   /* the count that was last answered */
    _Atomic uint32_t unanswered; /* requests in a row that were made while one was pending */

    bool lost;               /* at a safepoint: Lua code that called what ran has ended too */
    _Atomic bool delivering; /* a request is being answered */
    _Atomic int refused;     /* for so many requests it is not tried again to start the profiler */

    /* The program's own hook, while ours is armed. */
    _Atomic bool armed;
    lua_Hook hook;
    int hook_mask, hook_count, hook_left;
} cprof__jit_slot;

#define CPROF__JIT_REFUSED_REQUESTS 1000

#define CPROF__JIT_SLOTS 256
extern cprof__jit_slot cprof__jit_slots[CPROF__JIT_SLOTS];
extern _Atomic uint32_t cprof__jit_slots_used; /* those from here on were never used */

/* The profiler of LuaJIT. HOLDER is written last. Between requests LuaJIT's record names no global state, as if the
 * profiler were stopped, so that the program may start it for itself, and lua_close does not stop it: that would reset
 * SIGPROF and its timer, which are the program's. */
typedef struct cprof__jit_profiler {
    _Atomic(cprof__jit_slot *) holder; /* NULL: not started by us */
    void (*trigger)(int);              /* asks for a safepoint */
    /* LuaJIT's own words: the global state, the callback, its data. */
    _Atomic uint64_t *record;
    uint64_t callback; /* ours */
} cprof__jit_profiler;
extern cprof__jit_profiler cprof__jit_profiler_state;

/* Who holds LuaJIT's profiler. */
enum cprof__jit_holder { CPROF__JIT_NOBODY, CPROF__JIT_SELF, CPROF__JIT_SECOND, CPROF__JIT_PROGRAM };
enum cprof__jit_holder cprof__jit_holder(const cprof__jit_slot *slot);

/* The slot of STATE or of GLOBAL; NULL where it has none. */
cprof__jit_slot *cprof__jit_slot_of_state(const void *state);
cprof__jit_slot *cprof__jit_slot_of_global(uint64_t global);

/* The hook of the second way; jitprofile.c's. */
void cprof__jit_hook(lua_State *L, lua_Debug *ar);

/* A thread of a VM that runs on a stack. */
typedef struct cprof__jit_found {
    uint64_t global, L, cframe;
    cprof__luavm *state;
    bool noted; /* LuaJIT has noted L as what runs; else a C function does, which has resumed others */
} cprof__jit_found;

/* Of the threads that entered a VM on the stack of SIGNAL, from LOW up to HIGH: the innermost. Returns: whether there
 * is one. */
bool cprof__jit_find(const cprof_vm_signal *signal, uint64_t low, uint64_t high, cprof__jit_found *best);

/* As in cprof_vm. */
int cprof__jit_look(const cprof_vm_signal *signal, cprof_vm_moment *moment);
int cprof__jit_request(const cprof_vm_moment *moment, uint64_t ticket);
size_t cprof__jit_outward(const cprof_vm_signal *signal, uint64_t regs[3]);

#endif
