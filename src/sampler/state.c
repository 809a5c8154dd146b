/* SPDX-License-Identifier: MIT
 *
 * See state.h, and newthreads.h for the threads that make themselves known.
 */
#define _GNU_SOURCE
#include "sampler/state.h"

#include "base/thread.h"
#include "core/stacks.h"
#include "core/vmcode.h"
#include "sampler/collector.h"
#include "sampler/collectorthread.h"
#include "sampler/newthreads.h"

#include <pthread.h>
#include <unistd.h>

cprof__sampler_state cprof__sampler = {.lock = CPROF__LOCK_INIT(CPROF__RANK_SAMPLER)};

int cprof__sampler_take(void)
{
    int cancellation = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellation);
    cprof__lock_take(&cprof__sampler.lock);
    return cancellation;
}

void cprof__sampler_give(int cancellation)
{
    cprof__lock_give(&cprof__sampler.lock);
    pthread_setcancelstate(cancellation, NULL);
}

/* A thread that was not there at the last look: what it has run since its start is nobody's. */
static void add_thread(cprof__tracked *thread)
{
    for (cprof_recording *r = cprof__sampler.recordings; r; r = r->next)
        cprof__recording_add_thread(r, thread, 0);
}

static void forget_thread(const cprof__tracked *thread)
{
    for (cprof_recording *r = cprof__sampler.recordings; r; r = r->next)
        cprof__recording_drop_thread(r, thread);
}

static void drop_thread(cprof__tracked *thread)
{
    cprof__collect_thread(thread, cprof__sampler.recordings, true);
    forget_thread(thread);
}

void cprof__sampler_scan(const cprof__rates *rates)
{
    (void)cprof__threads_scan(rates, cprof__collector_tid(), add_thread, drop_thread);
}

/* ---- Threads that make themselves known ---- */

int cprof__newthread_begins(void)
{
    (void)cprof__thread_self(); /* who knows its stack is walked the faster */
    int cancellation = cprof__sampler_take();
    bool begun = cprof__sampler.recordings && cprof__threads_begin(&cprof__sampler.rates, add_thread);
    cprof__sampler_give(cancellation);
    return begun;
}

/* The time since the last sample stands under the thread's function, in a frame that says what it is. */
static void credit_rest(const cprof__tracked *thread, void *(*start)(void *))
{
    uint64_t now_ns = cprof__threads_cpu_ns(thread);
    uint64_t at_ns = atomic_load(&thread->sampled.events[CPROF__SOURCE_CPU].at_ns);
    const uint64_t frames[] = {cprof__vmcode_special("[not sampled]"), (uint64_t)(uintptr_t)start};
    if (!cprof__sampler.rates.period_ns[CPROF__SOURCE_CPU] || now_ns <= at_ns || !frames[0])
        return;
    const cprof__credit credit = {.thread = thread,
                                  .at_ns = now_ns,
                                  .weight_ns = now_ns - at_ns,
                                  .stack = cprof__stacks_intern(frames, 2, 0)};
    for (cprof_recording *r = cprof__sampler.recordings; r; r = r->next)
        if (r->source == CPROF__SOURCE_CPU)
            cprof__recording_rest(r, &credit);
}

void cprof__newthread_ends(void *(*start)(void *))
{
    int cancellation = cprof__sampler_take();
    cprof__tracked *thread = cprof__threads_find(gettid());
    if (thread) {
        cprof__collect_thread(thread, cprof__sampler.recordings, true);
        credit_rest(thread, start);
        forget_thread(thread);
        cprof__threads_end(thread);
    }
    cprof__sampler_give(cancellation);
}
