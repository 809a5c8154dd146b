/* SPDX-License-Identifier: MIT
 *
 * What a signal handler may know of the thread that it interrupts, in initial-exec TLS, which is there from the
 * thread's beginning: reading it takes no lock and no memory. Zeros until somebody writes it.
 * Threads: each its own. Signals: safe.
 */
#ifndef CPROF_SIGSAFE_CURRENT_H
#define CPROF_SIGSAFE_CURRENT_H

#include <stdint.h>

typedef struct cprof__current_thread {
    uint64_t stack_low, stack_high; /* the thread's stack; 0, 0: not known */
    uint32_t labels;                /* the number of its label set (core/labels.h) */
    uint32_t forwarding;            /* a signal that is not ours is being given to who was there before us */
    const void *record;             /* the thread's own (sigsafe/handler.h), once a signal has met it */
    uint32_t serial;                /* of RECORD, which may have become another thread's */
} cprof__current_thread;

extern __thread cprof__current_thread cprof__current __attribute__((tls_model("initial-exec")));

#endif
