/* SPDX-License-Identifier: MIT
 *
 * See lock.h. A fork does not hold all locks at once: there may be thousands, one for each part of each
 * profile. It closes a gate, at which each thread that holds no lock stops before its next one, and passes
 * through every lock once, in rising rank, so that whoever held it has let go of it. What threads do at the
 * gate touches nothing but the mutex itself, which the child makes anew.
 */
#include "base/lock.h"

#include <assert.h>
#include <stdbool.h>

/* The ranks held by this thread, one bit each. */
static __thread unsigned held __attribute__((tls_model("initial-exec")));

static _Atomic(cprof__lock *) lists[CPROF__RANK_COUNT]; /* pushed to, never popped */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by a thread that forks */
static atomic_bool closed;
/* This thread closed the gate. */
static __thread bool forking __attribute__((tls_model("initial-exec")));

/* Held while a lock comes onto its list, and during a fork: a lock that one thread is listing may already be
 * held by another. */
static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER;

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
    /* Nobody holds a lock by now, so nobody who lists one keeps us waiting for it. */
    pthread_mutex_lock(&listing);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&listing);
    atomic_store(&closed, false);
    forking = false;
    pthread_mutex_unlock(&gate);
}

static void fork_child(void)
{
    for (int rank = 0; rank < CPROF__RANK_COUNT; rank++)
        for (cprof__lock *lock = lists[rank]; lock; lock = lock->next)
            pthread_mutex_init(&lock->mutex, NULL);
    fork_parent();
}

static void watch_forks(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
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

/* Gives LOCK back and waits until the fork is over. Returns false where there is nothing to wait for: the
 * thread that forks calls us from a handler of its own. */
static bool wait_at_gate(cprof__lock *lock)
{
    if (forking)
        return false;
    pthread_mutex_unlock(&lock->mutex);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return true;
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
    do
        pthread_mutex_lock(&lock->mutex);
    while (__builtin_expect(atomic_load_explicit(&closed, memory_order_relaxed), 0) && !held &&
           wait_at_gate(lock));
    held |= 1u << lock->rank;
}

void cprof__lock_give(cprof__lock *lock)
{
    held &= ~(1u << lock->rank);
    pthread_mutex_unlock(&lock->mutex);
}
