/* SPDX-License-Identifier: MIT
 *
 * See thread.h.
 */
#define _GNU_SOURCE
#include "http/thread.h"

#include <signal.h>
#include <stddef.h>

int cprof__thread_start(pthread_t *thread, void *(*run)(void *), void *context)
{
    /* What a fault raises must reach its handler; SIGURG is the sampler's, so that a profile shows what serving it
     * costs. */
    static const int unblocked[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGURG};
    sigset_t blocked, old;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof unblocked / sizeof unblocked[0]; i++)
        sigdelset(&blocked, unblocked[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    int error = pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}
