/* SPDX-License-Identifier: MIT
 *
 * See lock.h. A fork does not hold all locks at once: there may be thousands, one for each part of each
 * profile. It closes a gate, at which each thread that holds no lock stops before its next one, and passes
 * through every lock once, in rising rank, so that whoever held it has let go of it. What threads do at the
 * gate touches nothing but the mutex itself, which the child makes anew.
 */
#define _GNU_SOURCE
#include "base/lock.h"

#include <assert.h>
#include <signal.h>
#include <time.h>

/* The ranks held by this thread, one bit each. */
static __thread unsigned held __attribute__((tls_model("initial-exec")));

static _Atomic(cprof__lock *) lists[CPROF__RANK_COUNT]; /* pushed to, never popped */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by a thread that forks */
static atomic_bool closed;
/* This thread closed the gate. */
static __thread bool forking __attribute__((tls_model("initial-exec")));
/* This thread is between cprof__fork_enter and _leave. */
static __thread bool entered __attribute__((tls_model("initial-exec")));

/* Held while a lock comes onto its list, and during a fork: a lock that one thread is listing may already be
 * held by another. */
static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER;

static atomic_int holding_off; /* threads between cprof__fork_hold_off and cprof__fork_allow */

/* How long a fork waits for them: they need microseconds, but for rows of a large file, which need some
 * milliseconds. A host that calls us from inside the loader's lock could keep them for ever. */
#define HOLD_OFF_MAX_MS 1000

static void wait_for_those(void)
{
    const struct timespec pause = {0, 1000000};
    for (int waited = 0; atomic_load(&holding_off) > 0 && waited < HOLD_OFF_MAX_MS; waited++)
        nanosleep(&pause, NULL);
}

/* Set once, by cprof__fork_watch. */
static atomic_int held_signal;
static _Atomic(void (*)(void)) in_child;
static sigset_t mask_before; /* of the thread that forks */

static void hold_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    if (atomic_load(&held_signal))
        sigaddset(&set, atomic_load(&held_signal));
    pthread_sigmask(SIG_BLOCK, &set, &mask_before);
}

static void fork_prepare(void)
{
    pthread_mutex_lock(&gate);
    forking = true;
    atomic_store(&closed, true);
    for (int rank = 0; rank < CPROF__RANK_COUNT; rank++)
        for (cprof__lock *lock = lists[rank]; lock; lock = lock->next) {
            pthread_mutex_lock(&lock->mutex);
            pthread_mutex_unlock(&lock->mutex);
        }
    wait_for_those();
    /* Nobody holds a lock by now, so nobody who lists one keeps us waiting for it. */
    pthread_mutex_lock(&listing);
    hold_signal();
}

static void open_gate(void)
{
    sigset_t mask = mask_before;
    pthread_mutex_unlock(&listing);
    atomic_store(&closed, false);
    forking = false;
    pthread_mutex_unlock(&gate);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void fork_child(void)
{
    for (int rank = 0; rank < CPROF__RANK_COUNT; rank++)
        for (cprof__lock *lock = lists[rank]; lock; lock = lock->next)
            pthread_mutex_init(&lock->mutex, NULL);
    atomic_store(&holding_off, 0);
    void (*function)(void) = atomic_load(&in_child);
    if (function)
        function();
    open_gate();
}

static void watch_forks(void)
{
    pthread_atfork(fork_prepare, open_gate, fork_child);
}

void cprof__fork_watch(int signal, void (*function)(void))
{
    pthread_once(&fork_once, watch_forks);
    atomic_store(&in_child, function);
    atomic_store(&held_signal, signal);
}

static void list(cprof__lock *lock)
{
    pthread_once(&fork_once, watch_forks);
    if (forking)
        return; /* a handler of the thread that forks: another time */
    pthread_mutex_lock(&listing);
    if (!atomic_load(&lock->listed)) {
        lock->next = atomic_load(&lists[lock->rank]);
        atomic_store(&lists[lock->rank], lock);
        atomic_store(&lock->listed, true);
    }
    pthread_mutex_unlock(&listing);
}

/* Whether a fork is under way that this thread has to wait for: not where it holds a lock that the fork waits
 * for, nor where it forks itself and calls us from a handler of its own. */
static inline bool must_wait(void)
{
    return __builtin_expect(atomic_load(&closed), 0) && !held && !forking && !entered;
}

static void wait_at_gate(void)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

void cprof__fork_hold_off(void)
{
    pthread_once(&fork_once, watch_forks);
    for (;;) {
        atomic_fetch_add(&holding_off, 1);
        if (!must_wait())
            return;
        atomic_fetch_sub(&holding_off, 1);
        wait_at_gate();
    }
}

void cprof__fork_allow(void)
{
    atomic_fetch_sub(&holding_off, 1);
}

bool cprof__locks_held(void)
{
    return held != 0;
}

bool cprof__fork_enter(void)
{
    pthread_once(&fork_once, watch_forks);
    atomic_fetch_add(&holding_off, 1);
    entered = !must_wait();
    if (!entered)
        atomic_fetch_sub(&holding_off, 1);
    return entered;
}

void cprof__fork_leave(void)
{
    entered = false;
    atomic_fetch_sub(&holding_off, 1);
}

void cprof__lock_init(cprof__lock *lock, enum cprof__rank rank)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->rank = rank;
    lock->next = NULL;
    atomic_init(&lock->listed, false);
}

void cprof__lock_take(cprof__lock *lock)
{
    if (__builtin_expect(!atomic_load_explicit(&lock->listed, memory_order_relaxed), 0))
        list(lock);
    assert(held >> lock->rank == 0 && "locks are taken in rising rank");
    pthread_mutex_lock(&lock->mutex);
    while (must_wait()) {
        pthread_mutex_unlock(&lock->mutex);
        wait_at_gate();
        pthread_mutex_lock(&lock->mutex);
    }
    held |= 1u << lock->rank;
}

void cprof__lock_give(cprof__lock *lock)
{
    held &= ~(1u << lock->rank);
    pthread_mutex_unlock(&lock->mutex);
}
