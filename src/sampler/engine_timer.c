/* SPDX-License-Identifier: MIT
 *
 * POSIX timers whose signals go to one thread: on its CPU clock (they expire on the kernel's tick, so at most at its
 * rate, and a loop of the program may keep step with them), or on the monotonic clock (those interrupt waiting
 * threads too: a host may see EINTR). Source: timer_create(2), SIGEV_THREAD_ID.
 */
#define _GNU_SOURCE
#include "sampler/engine.h"

#include <errno.h>
#include <string.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

static int open_timer(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                      uint64_t period_ns, uint64_t first_ns, clockid_t clock)
{
    struct sigevent notify;
    memset(&notify, 0, sizeof notify);
    notify.sigev_notify = SIGEV_THREAD_ID;
    notify.sigev_signo = CPROF__SIGNAL;
    notify.sigev_value.sival_ptr = cprof__handler_value(thread->index, source);
    notify.sigev_notify_thread_id = atomic_load(&thread->tid);
    if (timer_create(clock, &notify, &event->timer) != 0)
        return errno;
    cprof__event *driven = &thread->events[source];
    driven->period_ns = period_ns;
    atomic_store(&driven->fd, -1);
    atomic_store(&driven->on, true);
    struct itimerspec times = {timespec_of(period_ns), timespec_of(first_ns)};
    if (timer_settime(event->timer, 0, &times, NULL) == 0)
        return 0;
    int error = errno;
    atomic_store(&driven->on, false);
    timer_delete(event->timer);
    return error;
}

/* The CPU clock of thread TID, as the kernel numbers it (posix-timers.h: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED). */
static clockid_t cpu_clock(pid_t tid)
{
    return (clockid_t)((unsigned)~tid << 3 | 6u);
}

static int open_cpu(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                    uint64_t period_ns, uint64_t first_ns)
{
    thread->events[source].least_ns = 0;
    int error = open_timer(event, thread, source, period_ns, first_ns, cpu_clock(atomic_load(&thread->tid)));
    if (!error)
        event->engine = &cprof__engine_timer;
    return error;
}

/* For CPU time, a thread that has hardly run is left alone: the time is credited to the next sample. */
static int open_monotonic(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                          uint64_t period_ns, uint64_t first_ns)
{
    thread->events[source].least_ns = source == CPROF__SOURCE_CPU ? period_ns / 2 : 0;
    int error = open_timer(event, thread, source, period_ns, first_ns, CLOCK_MONOTONIC);
    if (!error)
        event->engine = &cprof__engine_monotonic;
    return error;
}

static void close_timer(cprof__engine_event *event)
{
    timer_delete(event->timer);
    event->engine = NULL;
}

const cprof__engine cprof__engine_timer = {"timer", "timers on each thread's CPU clock", open_cpu,
                                           close_timer, NULL};
const cprof__engine cprof__engine_monotonic = {"monotonic", "timers on the monotonic clock", open_monotonic,
                                               close_timer, NULL};
