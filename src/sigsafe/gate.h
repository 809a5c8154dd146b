/* SPDX-License-Identifier: MIT
 *
 * A gate keeps a thread's signal handler out of code of ours on the same thread that it must not find half done.
 * A handler that finds the gate closed does nothing; the time it would have credited goes to the next one.
 * Threads: each its own gate. Signals: safe.
 */
#ifndef CPROF_SIGSAFE_GATE_H
#define CPROF_SIGSAFE_GATE_H

#include <stdatomic.h>
#include <stdbool.h>

typedef atomic_bool cprof__gate;

/* Closes the gate. Returns false where it is closed already. */
static inline bool cprof__gate_close(cprof__gate *gate)
{
    if (atomic_load_explicit(gate, memory_order_relaxed))
        return false;
    atomic_store_explicit(gate, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    return true;
}

static inline void cprof__gate_open(cprof__gate *gate)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(gate, false, memory_order_release);
}

#endif
