/* SPDX-License-Identifier: MIT
 *
 * See stack.h.
 */
#define _GNU_SOURCE
#include "base/stack.h"

#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

typedef struct call {
    void (*function)(void *context);
    void *context;
} call;

/* How much of its stack the calling thread has left; 0 where that is not known, as on a host's own coroutine
 * stack. */
static size_t bytes_left(void)
{
    const cprof__thread *thread = cprof__thread_self();
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    return thread && here >= thread->stack_low && here < thread->stack_high ? here - thread->stack_low : 0;
}

static void *run(void *argument)
{
    const call *c = argument;
    cprof__thread_begin_quiet();
    c->function(c->context);
    return NULL;
}

/* The host's signals are for the host's threads: none is handled on this one. */
static bool run_apart(size_t bytes, call *c)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    sigfillset(&all);
    bool made = pthread_attr_setstacksize(&attributes, bytes) == 0 &&
                pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    if (made) {
        made = pthread_create(&thread, &attributes, run, c) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return made && pthread_join(thread, NULL) == 0;
}

bool cprof__with_stack(size_t bytes, void (*function)(void *context), void *context)
{
    if (bytes_left() < bytes)
        return run_apart(bytes, &(call){function, context});
    function(context);
    return true;
}
