/* SPDX-License-Identifier: MIT
 *
 * The task clock of perf_event: it counts the CPU time of one thread in nanoseconds and is not bound to the kernel's
 * tick, so it keeps step with no loop of the program. Needs no privilege for user space alone
 * (perf_event_paranoid 2); then a signal never comes in the kernel, and the time spent there is credited to what
 * runs next outside it. Source: perf_event_open(2); signals by fd: fcntl(2), F_SETSIG, F_SETOWN_EX.
 */
#define _GNU_SOURCE
#include "sampler/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_fd(pid_t tid, uint64_t first_ns, bool user_only)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_TASK_CLOCK;
    attr.sample_period = first_ns;
    attr.wakeup_events = 1;
    attr.disabled = 1;
    attr.exclude_kernel = user_only;
    attr.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* A host of many threads keeps this part of its descriptors for itself. */
static bool scarce(int fd)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           (rlim_t)fd >= limit.rlim_cur - limit.rlim_cur / 4;
}

static int prepare(int fd, pid_t tid, uint64_t *id)
{
    const struct f_owner_ex owner = {F_OWNER_TID, tid};
    if (fcntl(fd, F_SETOWN_EX, &owner) != 0 || fcntl(fd, F_SETSIG, CPROF__SIGNAL) != 0 ||
        fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) != 0 || ioctl(fd, PERF_EVENT_IOC_ID, id) != 0)
        return errno;
    return 0;
}

static int open_event(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                      uint64_t period_ns, uint64_t first_ns, bool user_only)
{
    pid_t tid = atomic_load(&thread->tid);
    int fd = open_fd(tid, first_ns, user_only);
    if (fd < 0)
        return errno;
    int error = scarce(fd) ? EMFILE : prepare(fd, tid, &event->id);
    if (!error && !cprof__handler_map_fd(fd, thread->index, source))
        error = EMFILE;
    if (error) {
        close(fd);
        return error;
    }
    cprof__event *driven = &thread->events[source];
    driven->period_ns = period_ns;
    driven->least_ns = 0;
    driven->countdown = 0;
    atomic_store(&driven->fd, fd);
    atomic_store(&driven->on, true);
    event->fd = fd;
    event->index = thread->index;
    event->source = source;
    if (ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) != 0) {
        error = errno;
        atomic_store(&driven->on, false);
        atomic_store(&driven->fd, -1);
        cprof__handler_unmap_fd(fd, thread->index, source);
        close(fd);
    }
    return error;
}

static int open_all(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                    uint64_t period_ns, uint64_t first_ns)
{
    int error = open_event(event, thread, source, period_ns, first_ns, false);
    if (!error)
        event->engine = &cprof__engine_perf;
    return error;
}

static int open_user(cprof__engine_event *event, cprof__sampled *thread, enum cprof__source source,
                     uint64_t period_ns, uint64_t first_ns)
{
    int error = open_event(event, thread, source, period_ns, first_ns, true);
    if (!error)
        event->engine = &cprof__engine_perf_user;
    return error;
}

static bool is_lost(const cprof__engine_event *event)
{
    uint64_t id;
    return ioctl(event->fd, PERF_EVENT_IOC_ID, &id) != 0 || id != event->id;
}

static void close_event(cprof__engine_event *event)
{
    cprof__handler_unmap_fd(event->fd, event->index, event->source);
    if (!is_lost(event))
        close(event->fd);
    event->engine = NULL;
}

const cprof__engine cprof__engine_perf = {"perf", "perf_event task-clock", open_all, close_event, is_lost};
const cprof__engine cprof__engine_perf_user = {
    "perf",
    "perf_event task-clock, user space only (time in the kernel is credited to what runs next outside it)",
    open_user, close_event, is_lost};
