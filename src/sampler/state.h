/* SPDX-License-Identifier: MIT
 *
 * What the parts of the sampler share: the running recordings, and what they ask for. One sampler for the process.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_STATE_H
#define CPROF_SAMPLER_STATE_H

#include "base/lock.h"
#include "sampler/recording.h"

typedef struct cprof__sampler_state {
    cprof__lock lock;
    cprof_recording *recordings; /* under LOCK, as all that follows: those that run */
    cprof__rates rates;
} cprof__sampler_state;

extern cprof__sampler_state cprof__sampler;

/* Take and give the lock. Files are read and written under it, and those are places where a thread may be cancelled,
 * which would take the lock along: so the thread is not cancelled meanwhile. */
int cprof__sampler_take(void);
void cprof__sampler_give(int cancellation);

/* ---- Under the lock ---- */

/* Looks for threads that came or went, and samples all of them as the recordings ask. */
void cprof__sampler_scan(const cprof__rates *rates);

#endif
