/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/ending.h"

#include "preload/recorder.h"
#include "preload/scribe.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How long the scribe may wait for a lock before the one that asked takes it to be its own. A signal's handler then
 * returns, so that the program runs on and lets go of the lock; the others have nothing that they could do but end
 * without a file. */
#define SIGNAL_PATIENCE_MS 100
#define EXIT_PATIENCE_MS 3000

/* Signals that end a process (signal(7)). Those that dump core are there for what a crash or abort has recorded; a
 * SIGKILL leaves no file. */
static const int SIGNALS[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP,   SIGABRT,
                              SIGBUS,  SIGFPE,  SIGUSR1, SIGSEGV, SIGUSR2,   SIGPIPE,
                              SIGALRM, SIGTERM, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGSYS};

static atomic_int fatal; /* the signal that ends the process; 0: none */

/* Ends the process by SIGNAL, which its parent sees. */
static void die(int signal)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t set;
    sigaction(signal, &action, NULL);
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), signal);
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    /* Only the first process of a container gets here: the kernel keeps such signals from it. */
    syscall(SYS_exit_group, 128 + signal);
}

static void die_of_signal(void)
{
    int signal = atomic_load(&fatal);
    if (signal)
        die(signal);
}

static bool is_crash(int signal)
{
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL ||
           signal == SIGTRAP || signal == SIGSYS || signal == SIGABRT;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno, none = 0;
    bool crash = is_crash(signal);
    /* A crash while writing leaves no file; it must not hang either. */
    if (cprof__scribe_is_self())
        die(signal);
    if (!crash)
        atomic_compare_exchange_strong(&fatal, &none, signal);
    bool written = cprof__scribe_finish(CPROF__END_SIGNAL, crash ? EXIT_PATIENCE_MS : SIGNAL_PATIENCE_MS);
    if (crash && info->si_code > 0 && signal != SIGABRT) {
        /* The instruction is run again, so that a core shows it. */
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(signal, &action, NULL);
    } else if (crash || written) {
        die(signal);
    }
    errno = saved;
}

static void on_exit_hook(void)
{
    cprof__ending_before_exit();
}

static void install_handlers(void)
{
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        struct sigaction action = {.sa_sigaction = on_signal,
                                   .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK},
                         old;
        if (sigaction(SIGNALS[i], NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            sigaction(SIGNALS[i], &action, NULL);
    }
}

void cprof__ending_prepare(void)
{
    install_handlers();
    /* Hooks run last in, first out: what the program does in its own is still recorded. */
    atexit(on_exit_hook);
    at_quick_exit(on_exit_hook);
}

int cprof__ending_arm(void)
{
    atomic_store(&fatal, 0);
    return cprof__scribe_start(cprof__recorder_finish, die_of_signal);
}

bool cprof__ending_before_exec(void)
{
    if (!cprof__scribe_is_waiting())
        return false;
    cprof__scribe_finish(CPROF__END_EXEC, EXIT_PATIENCE_MS);
    return true;
}

void cprof__ending_before_exit(void)
{
    int signal = atomic_load(&fatal);
    bool written = cprof__scribe_finish(CPROF__END_EXIT, EXIT_PATIENCE_MS);
    /* A signal whose handler had to return is what ends the process, not what the program did next. */
    if (written && signal)
        die(signal);
}
