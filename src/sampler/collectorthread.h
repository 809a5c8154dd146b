/* SPDX-License-Identifier: MIT
 *
 * The collector's thread. While anything is recorded, it looks for threads of the process that came or went, for code
 * that was loaded, for handlers that were replaced, and empties the rings. It ends by itself when nothing has been
 * recorded for a while, so that scrapers, who start and stop all the time, find it running.
 * Threads: any. Signals: as said.
 */
#ifndef CPROF_SAMPLER_COLLECTORTHREAD_H
#define CPROF_SAMPLER_COLLECTORTHREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts it where it does not run. Under the sampler's lock. Returns: 0, CPROF_ESYSTEM, CPROF_ENOMEM. */
int cprof__collector_start(void);

/* Whether it runs. Under the sampler's lock. */
bool cprof__collector_runs(void);

/* Its tid, 0 where it does not run. Signals: safe. */
pid_t cprof__collector_tid(void);

/* The CPU time of all collectors so far. Signals: safe. */
uint64_t cprof__collector_cpu_ns(void);

/* Wakes it. Signals: safe. */
void cprof__collector_wake(void);

/* Takes the handlers down, where there is no collector to do so. Under the sampler's lock. */
void cprof__collector_remove_handlers(void);

/* In the child of a fork: there is none. */
void cprof__collector_forget(void);

#endif
