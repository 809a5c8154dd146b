/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/ending.h"

#include "preload/recorder.h"
#include "preload/scribe.h"

#include <dlfcn.h>
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

/* Signals that end a process (signal(7)), besides those of a crash and the real-time ones; a SIGKILL leaves no file. */
static const int ENDINGS[] = {SIGHUP,  SIGINT,    SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM,  SIGTERM,
                              SIGXCPU, SIGVTALRM, SIGXFSZ, SIGPROF, SIGIO,   SIGPWR,  SIGSTKFLT};

static atomic_int fatal;     /* the signal that ends the process; 0: none */
static atomic_bool prepared; /* the handlers are in their places */

/* The C library's functions, for the program's (interpose.h) take our handler to be the default. */
static __typeof__(&sigaction) next_sigaction;
static __typeof__(&signal) next_signal;

/* Constructors of other libraries may come before ours; nobody who is in a signal's handler does. */
static void find_next(void)
{
    next_signal = (__typeof__(&signal))dlsym(RTLD_NEXT, "signal");
    next_sigaction = (__typeof__(&sigaction))dlsym(RTLD_NEXT, "sigaction");
}

static int set_action(int signal, const struct sigaction *action, struct sigaction *old)
{
    if (!next_sigaction)
        find_next();
    return next_sigaction(signal, action, old);
}

/* Ends the process by SIGNAL, which its parent sees. */
static void die(int signal)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t set;
    set_action(signal, &action, NULL);
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
        set_action(signal, &action, NULL);
    } else if (crash || written) {
        die(signal);
    }
    errno = saved;
}

static void on_exit_hook(void)
{
    cprof__ending_before_exit();
}

static const struct sigaction OURS = {.sa_sigaction = on_signal,
                                      .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};

/* The C library keeps the real-time signals below SIGRTMIN for itself. */
static bool is_ending(int signal)
{
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (signal == ENDINGS[i])
            return true;
    return signal >= SIGRTMIN && signal <= SIGRTMAX;
}

static bool is_default(const struct sigaction *action)
{
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_DFL;
}

static void install_handlers(void)
{
    struct sigaction old;
    for (int signal = 1; signal <= SIGRTMAX; signal++)
        if ((is_crash(signal) || is_ending(signal)) && set_action(signal, NULL, &old) == 0 &&
            is_default(&old))
            set_action(signal, &OURS, NULL);
    atomic_store(&prepared, true);
}

int cprof__ending_sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
    bool caught = atomic_load(&prepared) && is_ending(signal);
    int code = set_action(signal, caught && action && is_default(action) ? &OURS : action, old);
    if (code == 0 && old && caught && (old->sa_flags & SA_SIGINFO) && old->sa_sigaction == on_signal)
        *old = (struct sigaction){.sa_handler = SIG_DFL};
    return code;
}

__sighandler_t cprof__ending_set_handler(int signal, __sighandler_t handler)
{
    struct sigaction action = {.sa_handler = SIG_DFL}, old;
    if (cprof__ending_sigaction(signal, handler == SIG_DFL ? &action : NULL, &old) != 0)
        return SIG_ERR;
    /* The C library's knows what siginterrupt has said. */
    if (handler != SIG_DFL && next_signal(signal, handler) == SIG_ERR)
        return SIG_ERR;
    return old.sa_handler;
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
