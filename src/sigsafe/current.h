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
    uint8_t forwarding;             /* a signal that is not ours is being given to who was there before us */
    uint8_t heap_started;           /* HEAP_LEFT was drawn */
    uint16_t heap_epoch;            /* of the rate that HEAP_LEFT was drawn for (sampler/heap.h) */
    const void *record;             /* the thread's own (sigsafe/handler.h), once a signal has met it */
    uint32_t serial;                /* of RECORD, which may have become another thread's */
    uint32_t quiet;    /* how often it is inside cprof: what is allocated there is not the program's */
    int64_t heap_left; /* bytes to allocate until the next one is sampled; negative: this one */
} cprof__current_thread;

extern __thread cprof__current_thread cprof__current __attribute__((tls_model("initial-exec")));

#endif
