/* SPDX-License-Identifier: MIT
 *
 * See lock.h.
 */
#include "base/lock.h"

#include <assert.h>

#ifndef NDEBUG
/* The ranks held by this thread, one bit each. */
static __thread unsigned held __attribute__((tls_model("initial-exec")));
#endif

void cprof__lock_init(cprof__lock *lock, enum cprof__rank rank)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->rank = rank;
}

void cprof__lock_take(cprof__lock *lock)
{
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
