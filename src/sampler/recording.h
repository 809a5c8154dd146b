/* SPDX-License-Identifier: MIT
 *
 * Recordings of CPU profiles: what the collector gives them, and what becomes of it. All under the sampler's lock.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_RECORDING_H
#define CPROF_SAMPLER_RECORDING_H

#include "core/snapshot.h"
#include "sampler/threads.h"

/* What a recording knows of a thread. */
typedef struct cprof__recorded_thread {
    uint32_t serial;
    uint64_t begin_ns; /* the thread's clock when the recording began; what was before is not its own */
    uint64_t kept_ns;  /* credited to no stack yet, where the sampler runs at a higher rate */
    uint32_t last_stack, last_labels;
    bool fell_back; /* counted */
} cprof__recorded_thread;

struct cprof_recording {
    cprof_recording *next;
    enum cprof__source source;
    uint64_t period_ns;
    const char *engine, *engine_comment;
    char *output; /* NULL: none */
    pid_t process;
    bool running;

    int64_t time_ns;           /* since 1970 */
    uint64_t begin_ns, end_ns; /* monotonic */
    uint64_t process_ns;       /* the process's CPU time at the beginning */
    uint64_t credited_ns;      /* of it, what came in */
    uint64_t collector_ns;     /* the collector's own CPU time at the beginning */
    int64_t samples, unresolved, lost;
    uint32_t fell_back; /* threads that gave samples by another engine than ENGINE */
    cprof__sums sums;
    bool out_of_memory;
    cprof__recorded_thread *threads; /* by the index of the thread's record */
    uint32_t thread_room;
    cprof_snapshot *snapshot; /* once it is stopped */
};

/* A sample: WEIGHT_NS of thread THREAD's time up to AT_NS of its clock, seen in COUNT signals, spent in STACK. */
typedef struct cprof__credit {
    const cprof__tracked *thread;
    uint64_t at_ns, weight_ns;
    uint32_t count, stack, labels;
    bool unresolved; /* it lacks VM frames */
    bool lost;       /* it lacks all frames */
} cprof__credit;

/* RECORDING begins now; its threads so far are those of THREADS. Returns: 0, CPROF_ENOMEM. */
int cprof__recording_begin(cprof_recording *recording);

/* Where THREAD came after the beginning, all of its time is the recording's. */
void cprof__recording_add_thread(cprof_recording *recording, const cprof__tracked *thread, uint64_t begin_ns);

/* What is left over of THREAD, which has ended. */
void cprof__recording_drop_thread(cprof_recording *recording, const cprof__tracked *thread);

void cprof__recording_credit(cprof_recording *recording, const cprof__credit *credit);

/* The same for the time between a thread's last sample and its end, which no signal has seen. */
void cprof__recording_rest(cprof_recording *recording, const cprof__credit *credit);

/* Closes the accounts, and makes the snapshot. COLLECTOR_NS is the CPU time of the collector so far. Returns: 0,
 * CPROF_ENOMEM. */
int cprof__recording_end(cprof_recording *recording, uint64_t collector_ns);

#endif
