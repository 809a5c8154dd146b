/* SPDX-License-Identifier: MIT
 *
 * See ending.h.
 */
#define _GNU_SOURCE
#include "sampler/ending.h"

#include "base/alloc.h"
#include "sampler/collectorthread.h"
#include "sampler/cpu.h"
#include "sampler/state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const int endings[] = {SIGINT, SIGTERM};
#define ENDINGS (sizeof endings / sizeof endings[0])

static bool watched[ENDINGS]; /* under the sampler's lock */
static atomic_int pending;    /* a signal that came; 0: none */
static _Atomic pid_t process; /* whose outputs they are */
/* Held while a file is written. No ranked lock: a fork need not wait for that, and the child writes nothing. */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

/* ---- Writing ---- */

int cprof__ending_write(const cprof_snapshot *snapshot, const char *path)
{
    pthread_mutex_lock(&writing);
    int code = cprof_snapshot_write(snapshot, path, NULL);
    pthread_mutex_unlock(&writing);
    return code;
}

static void write_outputs(void)
{
    /* A child that was made without fork's handlers may find a lock held by a thread that it does not have. */
    if (atomic_load(&process) != getpid())
        return;
    char *path;
    cprof_snapshot *data;
    pthread_mutex_lock(&writing);
    while (cprof__cpu_end_one(&path, &data)) {
        if (data)
            (void)cprof_snapshot_write(data, path, NULL);
        cprof_snapshot_free(data);
        cprof__free(path);
    }
    pthread_mutex_unlock(&writing);
}

/* ---- Signals ---- */

#define PATIENCE_MS 100
#define PAUSE_MS 10

/* The interrupted thread waits here for its end: it must not go on, wake from a sleep or leave its main function
 * meanwhile. Where the collector makes no progress, it may be waiting for what this thread holds (malloc's lock), so
 * that it is let go on for that. */
static void await_end(void)
{
    const struct timespec pause = {0, PAUSE_MS * 1000000L};
    uint64_t before_ns = cprof__collector_cpu_ns();
    for (int waited_ms = 0; waited_ms < PATIENCE_MS && cprof__collector_tid(); waited_ms += PAUSE_MS) {
        nanosleep(&pause, NULL);
        uint64_t now_ns = cprof__collector_cpu_ns();
        if (now_ns != before_ns)
            waited_ms = 0;
        before_ns = now_ns;
    }
}

static void on_ending(int signal);

static void set_default(int signal)
{
    struct sigaction now, action = {.sa_handler = SIG_DFL};
    if (sigaction(signal, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == on_ending)
        sigaction(signal, &action, NULL);
}

/* A child that was made without fork's handlers, or by vfork, ends by the signal as it would have without us. */
static void on_ending(int signal)
{
    int kept = errno, none = 0;
    if (atomic_load(&process) == getpid()) {
        atomic_compare_exchange_strong(&pending, &none, signal);
        cprof__collector_wake();
        await_end();
    } else {
        set_default(signal);
        kill(getpid(), signal);
    }
    errno = kept;
}

static void watch_exit(void)
{
    atexit(write_outputs);
}

void cprof__ending_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_exit);
    atomic_store(&process, getpid());
    for (size_t i = 0; i < ENDINGS; i++) {
        struct sigaction now, action = {.sa_handler = on_ending, .sa_flags = SA_RESTART | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(endings[i], NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
            now.sa_handler == SIG_DFL)
            watched[i] = sigaction(endings[i], &action, NULL) == 0;
    }
}

void cprof__ending_unwatch(void)
{
    for (size_t i = 0; i < ENDINGS; i++) {
        if (watched[i] && !atomic_load(&pending))
            set_default(endings[i]);
        watched[i] = false;
    }
}

void cprof__ending_act(void)
{
    int signal = atomic_load(&pending);
    if (!signal)
        return;
    write_outputs();
    set_default(signal);
    atomic_store(&pending, 0); /* the host's handler may have come before the default, and is called once */
    kill(getpid(), signal);
}

void cprof__ending_forget(void)
{
    pthread_mutex_init(&writing, NULL);
    atomic_store(&pending, 0); /* it was the parent's */
    cprof__ending_unwatch();
}
