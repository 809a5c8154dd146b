/* SPDX-License-Identifier: MIT
 *
 * What the tests of the sampler share: recordings, something to sample, and sums of what was recorded.
 */
#ifndef CPROF_TESTS_SAMPLING_H
#define CPROF_TESTS_SAMPLING_H

#include "cprof.h"

#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

#ifdef __SANITIZE_THREAD__
#define SIGNALS_COME false
#define FORKS 0 /* it bears no new thread in a child of a process with threads */
#else
#define SIGNALS_COME true
#define FORKS 5
#endif

static volatile uint64_t sink;

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static __attribute__((unused)) NOINLINE void burn(uint64_t ms)
{
    uint64_t until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000;
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < until)
        for (int i = 0; i < 10000; i++)
            sink += (uint64_t)i;
}

static inline cprof_recording *start(int hz)
{
    cprof_recording *recording = NULL;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.hz = hz;
    assert_int_equal(cprof_start_cpu_profile(&options, &recording), 0);
    return recording;
}

/* The sum of column COLUMN of SNAPSHOT, over the stacks that FUNCTION is on (NULL: all). */
static inline int64_t sum(cprof_snapshot *snapshot, int column, const char *function)
{
    int64_t total = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(snapshot); i++) {
        cprof_sample sample;
        assert_int_equal(cprof_snapshot_sample(snapshot, i, &sample), 0);
        bool found = !function;
        for (size_t k = 0; k < sample.frame_count && !found; k++)
            found = strcmp(sample.frames[k].name, function) == 0;
        total += found ? sample.values[column] : 0;
    }
    return total;
}

static inline cprof_snapshot *stop(cprof_recording *recording)
{
    cprof_snapshot *data = NULL;
    assert_int_equal(cprof_recording_stop(recording, &data), 0);
    assert_non_null(data);
    cprof_recording_free(recording);
    return data;
}

static inline void expect_burn(cprof_snapshot *data)
{
    if (SIGNALS_COME)
        assert_true(sum(data, 1, "burn") > 0);
    cprof_snapshot_free(data);
}

#endif
