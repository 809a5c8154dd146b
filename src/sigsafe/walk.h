/* SPDX-License-Identifier: MIT
 *
 * Walks native stacks over unwind rows that were parsed ahead of time. No lock, no allocation, no TLS, no
 * system call: all of it may run in a signal handler. The shape is async-profiler's (sorted rows {pc, cfa
 * rule, fp rule}), with a lock-free cache from pc to rule in front.
 */
#ifndef CPROF_SIGSAFE_WALK_H
#define CPROF_SIGSAFE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The registers that a walk starts from. */
typedef struct cprof__regs {
    uint64_t pc, sp, fp;
} cprof__regs;

/* Sets *REGS to here, in the function where it is written (a macro: the caller's frame is then the first
 * one). */
#if defined(__x86_64__)
#define CPROF__REGS_HERE(REGS)                                                                               \
    __asm__ volatile("leaq 0(%%rip), %0\n\tmovq %%rsp, %1\n\tmovq %%rbp, %2"                                 \
                     : "=&r"((REGS)->pc), "=&r"((REGS)->sp), "=&r"((REGS)->fp))
#else
#error "cprof: no unwinder for this architecture"
#endif

/* Why a walk ended. */
typedef enum cprof__walk_end {
    CPROF__WALK_ROOT,    /* the outermost frame was reached */
    CPROF__WALK_FULL,    /* there was no room for more frames */
    CPROF__WALK_UNKNOWN, /* a pc lies in no known object, or in one whose rows are not loaded yet */
    CPROF__WALK_BROKEN   /* a rule could not be applied, or an address made no sense */
} cprof__walk_end;

/* The objects whose code may be met; core/code.h keeps it, sigsafe/codemap.h says how it is read without a
 * lock. */
typedef struct cprof__code_map cprof__code_map;

/* The thread's stack, 0, 0 where not known; GUARDED as in load.h, for words that lie elsewhere. */
typedef struct cprof__walk_memory {
    uint64_t stack_low, stack_high;
    bool guarded;
} cprof__walk_memory;

/* Walks outward from REGS through MAP. Only words of the stack in MEMORY are read directly; others (a host's own
 * coroutine stack) as load.h does. Writes at most MAX pcs, leaf first: the first is regs->pc
 * itself, the others lie inside the call (return address minus one). *REGS is left at the last frame written,
 * with its raw return address as pc where it is not the first, so that a walk can be told where it stopped.
 * *TRANSIENT gets whether a frame lies in code that may be unloaded: MAP may then be out of date without the
 * walk's having noticed. Returns: how many were written. Signals: safe. */
size_t cprof__walk(const cprof__code_map *map, cprof__regs *regs, const cprof__walk_memory *memory,
                   uint64_t *pcs, size_t max, cprof__walk_end *end, bool *transient);

/* Drops what walks have remembered of single pcs. Signals: safe. */
void cprof__walk_forget(void);

#endif
