/* SPDX-License-Identifier: MIT
 *
 * The threads of the process, as /proc/self/task lists them: whoever made them, each gets a record and an event for
 * each source that is on, without its doing. A record is kept until its thread has ended, so that a signal that
 * comes late finds it. All under the sampler's lock.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_THREADS_H
#define CPROF_SAMPLER_THREADS_H

#include "cprof_vm.h"
#include "sampler/engine.h"

/* The safepoint that is asked for. */
typedef struct cprof__asking {
    cprof_vm_moment asked;
    bool is_asked;
    uint32_t requests; /* the number of the last one */
    cprof_vm_frame *scratch;
    size_t scratch_max;
} cprof__asking;

typedef struct cprof__tracked {
    cprof__sampled sampled; /* first: what the handler knows is this */
    uint32_t serial;        /* unique among threads, never 0 */
    bool seen;              /* in the list at hand */
    cprof__engine_event events[CPROF__SOURCES];
    bool fell_back; /* its CPU time is seen by a timer, since the engine that is on could not serve it */

    cprof__asking asking; /* the thread's own, with its gate closed */

    struct cprof__waiting *waiting; /* the collector's: samples whose VM frames are still to come */
    uint32_t waiting_count, waiting_room;
    struct cprof__tracked *next;
} cprof__tracked;

/* What is on: a period of 0 is off. */
typedef struct cprof__rates {
    uint64_t period_ns[CPROF__SOURCES];
    const cprof__engine *engines[CPROF__SOURCES];
} cprof__rates;

/* Looks for threads that came or went, and opens what RATES asks for where it is not open. NEW is called for each
 * thread that came, before its first event, and GONE for each that went, before its record is freed. SKIP_TID is a
 * thread not to be sampled (0: none). Returns: 0 or an errno (some thread is not sampled). */
int cprof__threads_scan(const cprof__rates *rates, pid_t skip_tid, void (*new)(cprof__tracked *thread),
                        void (*gone)(cprof__tracked *thread));

/* The calling thread, which has just begun, is sampled from now on, with all of its time. Returns NULL where it cannot
 * be. */
cprof__tracked *cprof__threads_begin(const cprof__rates *rates, void (*new)(cprof__tracked *thread));

/* The record of the thread with TID, or NULL. */
cprof__tracked *cprof__threads_find(pid_t tid);

/* THREAD, the calling one, ends: frees its record. */
void cprof__threads_end(cprof__tracked *thread);

/* Closes all events of SOURCE. OVER: when it is opened again, what has passed until then is nobody's. */
void cprof__threads_close(enum cprof__source source, bool over);

/* The first of all threads. */
cprof__tracked *cprof__threads_first(void);

/* The CPU time of THREAD so far, in ns; 0 where it has ended. */
uint64_t cprof__threads_cpu_ns(const cprof__tracked *thread);

/* In the child of a fork: forgets all threads; nothing of theirs is running here. */
void cprof__threads_forget(void);

#endif
