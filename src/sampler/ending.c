/* SPDX-License-Identifier: MIT
 *
 * Outputs are written when the process ends: at exit by atexit(3), which main's return, exit and os.exit come
 * through; at SIGINT and SIGTERM, where the host left them to the default, by the collector's thread, for a handler
 * can do no such work. The process then dies by that signal, as it would have without us.
 */
#define _GNU_SOURCE
#include "sampler/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static const int endings[] = {SIGINT, SIGTERM};
#define ENDINGS (sizeof endings / sizeof endings[0])

static bool watched[ENDINGS]; /* under the sampler's lock */
static atomic_int pending;    /* a signal that came; 0: none */

static void on_ending(int signal)
{
    int kept = errno, none = 0;
    atomic_compare_exchange_strong(&pending, &none, signal);
    cprof__cpu_wake();
    errno = kept;
}

static void watch_exit(void)
{
    atexit(cprof__cpu_write_outputs);
}

void cprof__ending_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_exit);
    for (size_t i = 0; i < ENDINGS; i++) {
        struct sigaction now, action = {.sa_handler = on_ending, .sa_flags = SA_RESTART | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(endings[i], NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
            now.sa_handler == SIG_DFL)
            watched[i] = sigaction(endings[i], &action, NULL) == 0;
    }
}

static void set_default(int signal)
{
    struct sigaction now, action = {.sa_handler = SIG_DFL};
    if (sigaction(signal, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == on_ending)
        sigaction(signal, &action, NULL);
}

void cprof__ending_unwatch(void)
{
    for (size_t i = 0; i < ENDINGS; i++) {
        if (watched[i] && !atomic_load(&pending))
            set_default(endings[i]);
        watched[i] = false;
    }
}

void cprof__ending_forget(void)
{
    atomic_store(&pending, 0); /* it was the parent's */
    cprof__ending_unwatch();
}

void cprof__ending_act(void)
{
    int signal = atomic_load(&pending);
    if (!signal)
        return;
    cprof__cpu_write_outputs();
    set_default(signal);
    kill(getpid(), signal);
}
