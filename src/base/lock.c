/* SPDX-License-Identifier: MIT
 *
 * See lock.h.
 */
#include "base/lock.h"

#include <assert.h>
#include <stdbool.h>

#ifndef NDEBUG
/* The ranks held by this thread, one bit each. */
static __thread unsigned held __attribute__((tls_model("initial-exec")));
#endif

static _Atomic(cprof__lock *) lists[CPROF__RANK_COUNT]; /* pushed to, never popped */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
    for (int rank = 0; rank < CPROF__RANK_COUNT; rank++)
        for (cprof__lock *lock = lists[rank]; lock; lock = lock->next)
            pthread_mutex_lock(&lock->mutex);
}

static void fork_done(void)
{
    for (int rank = CPROF__RANK_COUNT - 1; rank >= 0; rank--)
        for (cprof__lock *lock = lists[rank]; lock; lock = lock->next)
            pthread_mutex_unlock(&lock->mutex);
}

static void watch_forks(void)
{
    pthread_atfork(fork_prepare, fork_done, fork_done);
}

static void list(cprof__lock *lock)
{
    pthread_once(&fork_once, watch_forks);
    if (atomic_exchange(&lock->listed, true))
        return;
    lock->next = atomic_load(&lists[lock->rank]);
    while (!atomic_compare_exchange_weak(&lists[lock->rank], &lock->next, lock))
        ;
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
#ifndef NDEBUG
    assert(held >> lock->rank == 0 && "locks are taken in rising rank");
    held |= 1u << lock->rank;
#endif
    pthread_mutex_lock(&lock->mutex);
}

void cprof__lock_give(cprof__lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
#ifndef NDEBUG
    held &= ~(1u << lock->rank);
#endif
}
