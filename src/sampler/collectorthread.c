/* SPDX-License-Identifier: MIT
 *
 * See collectorthread.h.
 */
#define _GNU_SOURCE
#include "sampler/collectorthread.h"

#include "base/error.h"
#include "base/thread.h"
#include "core/code.h"
#include "sampler/collector.h"
#include "sampler/ending.h"
#include "sampler/newthreads.h"
#include "sampler/state.h"
#include "sampler/vmsignal.h"
#include "sigsafe/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How often the collector looks around and empties the rings, where none fills up before and no unknown code is met,
 * and how long it stays where nothing is recorded. */
#define LOOK_MS 100
#define IDLE_LOOKS 50

static bool running;              /* under the sampler's lock */
static _Atomic pid_t tid;         /* 0 where it does not run */
static _Atomic uint64_t ended_ns; /* CPU time of collectors that have ended */

/* What wakes the collector. Not a descriptor: a host that closes all of them may get the number back as a file of its
 * own, which we would then read from. */
static sem_t wake;

bool cprof__collector_runs(void)
{
    return running;
}

pid_t cprof__collector_tid(void)
{
    return atomic_load(&tid);
}

uint64_t cprof__collector_cpu_ns(void)
{
    struct timespec now;
    pid_t current = atomic_load(&tid);
    clockid_t clock = (clockid_t)((unsigned)~current << 3 | 6u);
    uint64_t ns = atomic_load(&ended_ns);
    if (!current || clock_gettime(clock, &now) != 0)
        return ns;
    return ns + (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void cprof__collector_wake(void)
{
    sem_post(&wake);
}

/* Long after the last recording: right after it a signal may still be on its way, which the host's handler would not
 * know, and a handler of ours at work on another thread, whose loads may fault. */
void cprof__collector_remove_handlers(void)
{
    cprof__handler_remove();
    cprof__fault_guard_off();
}

/* ---- Looking around ---- */

/* Whether all threads of the program have ended: its first one by pthread_exit, which leaves a shell until the last.
 * The kernel tells both at once, how many there are and that this one is a shell (proc(5), stat: 3 and 20), so nobody
 * is left who could make more. */
static bool program_has_ended(void)
{
    enum { STATE = 3, NUM_THREADS = 20 };
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *field = strrchr(text, ')'); /* the name before it may hold anything */
    if (!field || (field[2] != 'Z' && field[2] != 'X'))
        return false;
    field += 2;
    for (int i = STATE; field && i < NUM_THREADS; i++)
        field = strchr(field + 1, ' ');
    return field && strtol(field, NULL, 10) == 2; /* the shell, and this one */
}

static bool loaded,
    to_watch; /* code came since the last look around, before it; these under the sampler's lock */

/* Whether there is code that was not there before, which is then known. */
static bool look_for_code(void)
{
    static uint64_t seen; /* the map may have been published anew by others, who load no rows */
    if (cprof__code_refresh(NULL) != 0 || cprof__code_version() == seen)
        return false;
    seen = cprof__code_version();
    (void)cprof__code_load_all();
    loaded = true;
    return true;
}

static void look_around(void)
{
    /* At the look after: what is listed may be in the middle of being relocated (hooks.c). */
    if (to_watch)
        cprof__newthreads_watch();
    cprof__handler_forget_unknown();
    (void)look_for_code();
    to_watch = loaded;
    loaded = false;
    cprof__fault_guard_check();
    (void)cprof__handler_install(cprof__code_current(), cprof__vm_signal, cprof__collector_wake);
    cprof__sampler_scan(&cprof__sampler.rates);
}

/* ---- The thread ---- */

static struct timespec next_look(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += LOOK_MS * 1000000L;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

/* Sleeps until AT, or until somebody wakes us. Under the lock, but for the rest. Returns: whether AT has come. */
static bool rest(const struct timespec *at)
{
    cprof__lock_give(&cprof__sampler.lock);
    bool come = sem_clockwait(&wake, CLOCK_MONOTONIC, at) != 0 && errno == ETIMEDOUT;
    cprof__ending_act();
    cprof__lock_take(&cprof__sampler.lock);
    return come;
}

/* Until nothing has been recorded for long. Under the lock. */
static void work(void)
{
    struct timespec look = next_look();
    for (int idle = 0; idle < IDLE_LOOKS;) {
        bool ended = false;
        if (rest(&look)) {
            idle = cprof__sampler.recordings ? 0 : idle + 1;
            if (cprof__sampler.recordings)
                look_around();
            ended = program_has_ended();
            look = next_look();
        } else if (cprof__handler_met_unknown() && cprof__sampler.recordings && look_for_code()) {
            cprof__handler_forget_unknown();
        }
        cprof__collect(cprof__sampler.recordings, false);
        if (ended) {
            /* As the last thread's end would have ended the process, were we not there. */
            cprof__lock_give(&cprof__sampler.lock);
            exit(0);
        }
    }
}

static void *collector(void *context)
{
    pthread_setname_np(pthread_self(), "cprof");
    cprof__thread_begin_quiet();
    atomic_store(&tid, gettid()); /* for who started us, and waits for it under the lock */
    sem_post(context);
    cprof__lock_take(&cprof__sampler.lock);
    work();
    cprof__collector_remove_handlers();
    uint64_t own_ns = cprof__collector_cpu_ns();
    running = false;
    atomic_store(&tid, 0);
    atomic_store(&ended_ns, own_ns);
    cprof__lock_give(&cprof__sampler.lock);
    return NULL;
}

int cprof__collector_start(void)
{
    if (running)
        return 0;
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, old;
    sem_t started;
    sem_init(&started, 0, 0);
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, &attributes, collector, &started);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    while (!error && sem_wait(&started) != 0) {}
    sem_destroy(&started);
    running = !error;
    return error ? cprof__fail_errno(error, "cannot start the collector's thread") : 0;
}

void cprof__collector_forget(void)
{
    running = false;
    atomic_store(&tid, 0);
    atomic_store(&ended_ns, 0);
    cprof__collector_remove_handlers();
    sem_init(&wake, 0, 0);
}
