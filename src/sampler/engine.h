/* SPDX-License-Identifier: MIT
 *
 * What makes the signals of the sampler: events of one thread each, which any thread of the process can open for
 * another. One engine a file. All are called under the sampler's lock.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_ENGINE_H
#define CPROF_SAMPLER_ENGINE_H

#include "sigsafe/handler.h"

#include <time.h>

typedef struct cprof__engine cprof__engine;

/* An event of a thread; ENGINE is NULL where it is closed. */
typedef struct cprof__engine_event {
    const cprof__engine *engine;
    int fd; /* perf */
    uint64_t
        id; /* perf: the kernel's number of the event, since a host may have closed FD and opened another */
    uint32_t index; /* perf: whose signals FD's are, with SOURCE */
    enum cprof__source source;
    timer_t timer;
} cprof__engine_event;

struct cprof__engine {
    const char *name;    /* as cprof_cpu_options names it */
    const char *comment; /* what a profile says of it */

    /* Makes signals for SOURCE of THREAD (whose tid is set) after PERIOD_NS each, the first after FIRST_NS. Fills
     * the thread's cprof__event. Returns: 0 or an errno; then *EVENT stays closed. */
    int (*open)(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                uint64_t period_ns, uint64_t first_ns);
    void (*close)(cprof__engine_event *event);

    /* Whether the host has closed EVENT, with all descriptors that it found; NULL where it cannot. */
    bool (*lost)(const cprof__engine_event *event);
};

extern const cprof__engine cprof__engine_perf, cprof__engine_perf_user, cprof__engine_timer,
    cprof__engine_monotonic;

/* The engines to try for SOURCE, ended by NULL, where the user asked for NAME (NULL: any). Returns NULL where NAME is
 * none for it. */
const cprof__engine *const *cprof__engines(enum cprof__source source, const char *name);

#endif
