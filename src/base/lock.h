/* SPDX-License-Identifier: MIT
 *
 * Mutexes with ranks. A thread takes locks only in rising rank; debug builds assert it. Every lock that was
 * ever taken is on a list, by which fork is prepared (pthread_atfork): before it, all that is under a lock is
 * finished and nothing new begins, so that a child never finds a lock held, or a thing half done, by a thread
 * that it does not have. A lock therefore lives for ever.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_BASE_LOCK_H
#define CPROF_BASE_LOCK_H

#include "cprof.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* In the order in which they may be taken. */
enum cprof__rank {
    CPROF__RANK_SAMPLER,   /* sampler/: the recordings, the threads and what is read of their rings */
    CPROF__RANK_REGISTRY,  /* core/registry.c: the list of profiles */
    CPROF__RANK_HEAP,      /* sampler/heap.c: what waits to be recorded */
    CPROF__RANK_VM,        /* core/vm.c: the attached states and who owns them */
    CPROF__RANK_SHARD,     /* core/entries.c, events.c: one part of a profile (one at a time) */
    CPROF__RANK_SYMBOLS,   /* core/symbols.c: libdw and its cache */
    CPROF__RANK_NAMES,     /* core/nativenames.c: names that VMs gave */
    CPROF__RANK_CODE,      /* core/code.c: the loaded objects and their rows */
    CPROF__RANK_STACKS,    /* core/stacks.c: adding a stack (lookups take no lock) */
    CPROF__RANK_LABELS,    /* core/labels.c: adding a label set */
    CPROF__RANK_FUNCTIONS, /* core/vmcode.c: adding a VM function or its name */
    CPROF__RANK_COUNT
};

typedef struct cprof__lock {
    pthread_mutex_t mutex;
    enum cprof__rank rank;
    atomic_bool listed;
    struct cprof__lock *next; /* of the same rank; written once, before it is listed */
} cprof__lock;

#define CPROF__LOCK_INIT(RANK)                                                                               \
    {                                                                                                        \
        PTHREAD_MUTEX_INITIALIZER, (RANK), false, NULL                                                       \
    }

void cprof__lock_init(cprof__lock *lock, enum cprof__rank rank);
void cprof__lock_take(cprof__lock *lock);
void cprof__lock_give(cprof__lock *lock);

/* Whether the calling thread holds a lock of ours. Signals: safe. */
bool cprof__locks_held(void);

/* Between these a thread uses what others lock, which a fork must find free as well: the loader's list of
 * objects, whose lock glibc does not renew in the child. No lock of ours is taken meanwhile. */
CPROF_API void cprof__fork_hold_off(void);
CPROF_API void cprof__fork_allow(void);

/* For code that the program may call from anywhere, with locks of its own that its own fork handlers wait for, so
 * that it must not wait for a fork itself. Returns false while another thread forks. Otherwise a fork waits until
 * _leave, and in between locks of ours may be taken. Not nested, and not under a lock of ours. */
bool cprof__fork_enter(void);
void cprof__fork_leave(void);

/* From now on SIGNAL is held off in a thread that forks (a stream of signals can make the system call begin anew for
 * ever), and FUNCTION is called in the child, when all locks are free there. Once for the process. */
void cprof__fork_watch(int signal, void (*function)(void));

#endif
