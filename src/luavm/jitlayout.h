/* SPDX-License-Identifier: MIT
 *
 * Where LuaJIT (GC64, x86_64) keeps what a signal handler has to read: learnt once in a process from a scratch
 * state, whose memory is searched for values that are known at that moment (the running thread, the kind of
 * work, a hook's count). What several places would fit, or none, is not known, and then nothing is read.
 * Threads: any. Signals: learning is unsafe, what was learnt is constant.
 */
#ifndef CPROF_LUAVM_JITLAYOUT_H
#define CPROF_LUAVM_JITLAYOUT_H

#include <stdbool.h>
#include <stdint.h>

/* Of a lua_State; those that levelsjit.c knows too. */
#define CPROF__JIT_GLOBAL_AT 16
#define CPROF__JIT_BASE_AT 32
#define CPROF__JIT_TOP_AT 40
#define CPROF__JIT_MAX_AT 48
#define CPROF__JIT_STACK_AT 56

/* Of a function. */
#define CPROF__JIT_FFID_AT 8 /* the word that holds it, at the bits below */
#define CPROF__JIT_FFID_SHIFT 16
#define CPROF__JIT_ENTRY_AT 40

#define CPROF__JIT_POINTER_MASK ((UINT64_C(1) << 47) - 1)
#define CPROF__JIT_TAG_FUNCTION UINT64_C(0x1fff7) /* the bits above */

/* The bits of a cframe that are no address. */
#define CPROF__JIT_CFRAME_FLAGS UINT64_C(7)

/* Of the word that the hooks' mask is the byte of: what stands in the way of a safepoint. */
#define CPROF__JIT_HOOK_ACTIVE 0x10
#define CPROF__JIT_HOOK_EVENT 0x20
#define CPROF__JIT_HOOK_FINALIZER 0x40
#define CPROF__JIT_HOOK_PROFILE 0x80

/* What the VM does, as it is kept: numbers from 0 are of traces. */
enum cprof__jit_vmstate {
    CPROF__JIT_INTERPRETED = -1,
    CPROF__JIT_C = -2,
    CPROF__JIT_GC = -3,
    CPROF__JIT_EXIT = -4
    /* What is below is the compiler's. */
};

typedef struct cprof__jit_layout {
    bool known;
    uint32_t cframe;   /* of a lua_State: where native code entered the VM, the interpreter's stack pointer */
    uint32_t thread;   /* of such a place: the lua_State that runs there; 0: not known */
    uint32_t running;  /* these of the global state: the thread that runs */
    uint32_t jit_base; /* the base of compiled code that runs; 0: none does */
    uint32_t vmstate;  /* 32 bits */
    uint32_t hook_mask;           /* 8 bits */
    uint32_t hook_left;           /* 32 bits: how many instructions are left until the hook is called */
    uint32_t main;                /* how far before the global state the main thread lies */
    uint64_t interpreter;         /* a pc in the interpreter, in a call that it makes */
    uint64_t interpreter_start;   /* where the function around it starts; 0: that is not known */
    uint64_t code_low, code_high; /* the file that holds LuaJIT */
    bool in_library;              /* that is not the program, with a host's functions in it */
} cprof__jit_layout;

extern cprof__jit_layout cprof__jit;

/* Learns it, at the first call. Returns: whether all is known. */
bool cprof__jit_learn(void);

#endif
