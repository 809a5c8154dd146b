/* SPDX-License-Identifier: MIT
 *
 * lifecycle SCENE FILE: one thing that hosts do while they are sampled, in a process of its own; lifecycle_test.sh
 * knows what each ends with and what FILE then holds. A scene that goes wrong says where and exits with 99.
 */
#define _GNU_SOURCE
#include "cprof.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "lifecycle.h"

const char *file;
static volatile uint64_t sink;

NOINLINE void burn(long ms)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    int64_t until = now.tv_sec * 1000 + now.tv_nsec / 1000000 + ms;
    do {
        for (int i = 0; i < 20000; i++)
            sink += (uint64_t)i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < until);
}

static _Noreturn void burn_for_ever(void)
{
    for (;;)
        burn(10);
}

cprof_recording *start(const char *output)
{
    cprof_recording *recording;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.hz = 1000;
    options.output = output;
    MUST(cprof_start_cpu_profile(&options, &recording) == 0);
    return recording;
}

int stop(cprof_recording *recording)
{
    MUST(cprof_recording_stop(recording, NULL) == 0);
    cprof_recording_free(recording);
    return 0;
}

void *burner(void *context)
{
    burn(50);
    return context;
}

pthread_t spawn(void *(*function)(void *), size_t stack_bytes)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes)
        MUST(pthread_attr_setstacksize(&attributes, stack_bytes) == 0);
    MUST(pthread_create(&thread, &attributes, function, NULL) == 0);
    return thread;
}

/* ---- Ends ---- */

static int returns(void)
{
    start(file);
    burn(100);
    return 0;
}

static void *exits(void *context)
{
    burn(100);
    exit(3);
    return context;
}

static int exits_elsewhere(void)
{
    start(file);
    spawn(exits, 0);
    burn_for_ever();
}

static int main_thread_ends(void)
{
    start(file);
    spawn(exits, 0);
    pthread_exit(NULL);
}

static void *exits_late(void *context)
{
    usleep(400000);
    exit(3);
    return context;
}

/* What was recorded has been stopped, and nobody looks for threads any more. */
static int main_thread_ends_later(void)
{
    cprof_recording *recording = start(file);
    burn(50);
    stop(recording);
    spawn(exits_late, 0);
    pthread_exit(NULL);
}

static int executes(void)
{
    start(NULL);
    burn(50);
    execl("/bin/sh", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; exit 7", (char *)NULL);
    return 99;
}

static int dies_by(int signal)
{
    start(file);
    burn(100);
    kill(getpid(), signal);
    burn_for_ever();
}

static int interrupted(void)
{
    return dies_by(SIGINT);
}

static int terminated(void)
{
    return dies_by(SIGTERM);
}

static atomic_int came;

static void on_signal(int signal)
{
    atomic_store(&came, signal);
}

/* The host's own handlers are left alone, whether they were there before or came later. */
static int handles_term(void)
{
    signal(SIGTERM, on_signal);
    cprof_recording *recording = start(file);
    signal(SIGINT, on_signal);
    burn(50);
    raise(SIGTERM);
    MUST(came == SIGTERM);
    raise(SIGINT);
    MUST(came == SIGINT);
    burn(50);
    stop(recording);
    raise(SIGINT);
    return 0;
}

/* ---- Forks ---- */

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        MUST(errno == EINTR);
    return status;
}

static const char *with_pid(char *path, size_t size)
{
    snprintf(path, size, "%s.%%p", file);
    return path;
}

/* The child's output is its own, the parent's goes on, and is not written by the child. */
static int forks(void)
{
    char path[4096];
    cprof_recording *recording = start(file);
    burn(30);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            cprof_snapshot *data = NULL;
            MUST(cprof_recording_stop(recording, &data) == CPROF_ECLOSED && !data);
            start(with_pid(path, sizeof path));
            burn(50);
            exit(0);
        }
        int status = wait_for(pid);
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        MUST(access(file, F_OK) != 0);
    }
    burn(70);
    return stop(recording);
}

/* Children that know nothing of cprof: SIGINT is theirs again, and so is exit. */
static int forks_others(void)
{
    cprof_recording *recording = start(file);
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGINT);
        _exit(99);
    }
    int status = wait_for(pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    pid = fork();
    if (pid == 0)
        exit(5);
    status = wait_for(pid);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    pid = _Fork();
    if (pid == 0)
        exit(6);
    status = wait_for(pid);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 6);
    MUST(access(file, F_OK) != 0);
    burn(100);
    return stop(recording);
}

/* ---- Threads ---- */

static int small_stacks(void)
{
    cprof_recording *recording = start(file);
    for (int i = 0; i < 10; i++)
        pthread_join(spawn(burner, (size_t)sysconf(_SC_THREAD_STACK_MIN)), NULL);
    return stop(recording);
}

static void *blocks(void *context)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    burn(200);
    return context;
}

/* It still runs when the recording is stopped, so nobody can know where its time went. */
static int signals_blocked(void)
{
    cprof_recording *recording = start(file);
    pthread_t thread = spawn(blocks, 0);
    burn(50);
    struct timespec now = {0};
    clockid_t clock;
    MUST(pthread_getcpuclockid(thread, &clock) == 0);
    while (now.tv_sec == 0 && now.tv_nsec < 100000000)
        MUST(clock_gettime(clock, &now) == 0);
    stop(recording);
    pthread_join(thread, NULL);
    return 0;
}

static void *on_alternate_stack(void *context)
{
    size_t size = 64 << 10;
    void *memory = malloc(size);
    stack_t stack = {.ss_sp = memory, .ss_size = size};
    MUST(sigaltstack(&stack, NULL) == 0);
    burn(50);
    stack.ss_flags = SS_DISABLE;
    MUST(sigaltstack(&stack, NULL) == 0);
    free(memory);
    return context;
}

static int alternate_stacks(void)
{
    cprof_recording *recording = start(file);
    for (int i = 0; i < 3; i++)
        pthread_join(spawn(on_alternate_stack, 0), NULL);
    return stop(recording);
}

static void *starts_and_stops(void *context)
{
    for (;;) {
        cprof_recording *recording = start(NULL);
        (void)cprof_recording_stop(recording, NULL);
        cprof_recording_free(recording);
        pthread_testcancel();
    }
    return context;
}

/* A thread that is cancelled inside takes no lock along. */
static int cancels(void)
{
    for (int i = 0; i < 10; i++) {
        pthread_t thread = spawn(starts_and_stops, 0);
        usleep(1000 * (useconds_t)i);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    cprof_recording *recording = start(file);
    burn(50);
    return stop(recording);
}

/* ---- Faults ---- */

static int *forbidden;
static sigjmp_buf out;
static char *touched_at;
static int faults, kills;
static struct sigaction chained;

static NOINLINE void touch(void)
{
    *(volatile int *)forbidden = 1;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *c = context;
    if (info->si_code <= 0) {
        kills += signal == SIGSEGV && info->si_pid == getpid();
        return;
    }
    touched_at = (char *)(uintptr_t)c->uc_mcontext.gregs[REG_RIP];
    MUST(info->si_addr == forbidden);
    faults++;
    siglongjmp(out, 1);
}

static void install_fault_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSEGV, &action, &chained) == 0);
}

/* The handler gets what is the host's, and all of it. */
static void fault_and_kill(void)
{
    for (volatile int i = 0; i < 20; i++) {
        faults = kills = 0;
        if (sigsetjmp(out, 1) == 0)
            touch();
        MUST(faults == 1);
        MUST(touched_at >= (char *)touch && touched_at < (char *)touch + 64);
        raise(SIGSEGV);
        MUST(kills == 1);
        burn(5);
    }
}

static int faults_before(void)
{
    install_fault_handler();
    cprof_recording *recording = start(file);
    fault_and_kill();
    stop(recording);
    fault_and_kill();
    return 0;
}

static int faults_later(void)
{
    cprof_recording *recording = start(file);
    burn(10);
    install_fault_handler();
    fault_and_kill();
    stop(recording);
    fault_and_kill();
    recording = start(file);
    fault_and_kill();
    return stop(recording);
}

/* With nobody to handle it the process dies of it. */
static int faults_unhandled(void)
{
    start(file);
    burn(20);
    touch();
    return 99;
}

static int killed_by_fault_signal(void)
{
    start(file);
    burn(20);
    kill(getpid(), SIGSEGV);
    burn_for_ever();
}

static void on_fault_chain(int signal, siginfo_t *info, void *context)
{
    faults++;
    MUST(faults < 3);
    if (chained.sa_flags & SA_SIGINFO)
        chained.sa_sigaction(signal, info, context);
}

/* A crash reporter that came between two recordings and hands on what it was told: the two do not go in circles. */
static int faults_chained(void)
{
    cprof_recording *recording = start(NULL);
    struct sigaction action = {.sa_sigaction = on_fault_chain, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSEGV, &action, &chained) == 0);
    stop(recording);
    start(NULL);
    burn(20);
    touch();
    return 99;
}

/* ---- Signals that hosts set and reset ---- */

static int resets_signals(void)
{
    static const int list[] = {SIGURG, SIGPROF, SIGSEGV, SIGBUS};
    cprof_recording *recording = start(file);
    for (int i = 0; i < 4; i++) {
        signal(list[i], SIG_DFL);
        burn(30);
        signal(list[i], SIG_IGN);
        burn(30);
        signal(list[i], SIG_DFL);
    }
    return stop(recording);
}

static int own_urgent(void)
{
    signal(SIGURG, on_signal);
    cprof_recording *recording = start(file);
    burn(50);
    MUST(came == 0);
    raise(SIGURG);
    MUST(came == SIGURG);
    burn(50);
    stop(recording);
    came = 0;
    burn(20);
    MUST(came == 0);
    raise(SIGURG);
    MUST(came == SIGURG);
    return 0;
}

static int own_profiler(void)
{
    struct itimerval timer = {{0, 5000}, {0, 5000}};
    signal(SIGPROF, on_signal);
    MUST(setitimer(ITIMER_PROF, &timer, NULL) == 0);
    cprof_recording *recording = start(file);
    while (came != SIGPROF)
        burn(10);
    came = 0;
    while (came != SIGPROF)
        burn(10);
    burn(50);
    return stop(recording);
}

/* ---- The list ---- */

static const struct {
    const char *name;
    int (*run)(void);
} scenes[] = {
    {"returns", returns},
    {"exits_elsewhere", exits_elsewhere},
    {"main_thread_ends", main_thread_ends},
    {"main_thread_ends_later", main_thread_ends_later},
    {"executes", executes},
    {"interrupted", interrupted},
    {"terminated", terminated},
    {"handles_term", handles_term},
    {"forks", forks},
    {"forks_others", forks_others},
    {"small_stacks", small_stacks},
    {"signals_blocked", signals_blocked},
    {"alternate_stacks", alternate_stacks},
    {"cancels", cancels},
    {"faults_before", faults_before},
    {"faults_later", faults_later},
    {"faults_unhandled", faults_unhandled},
    {"killed_by_fault_signal", killed_by_fault_signal},
    {"faults_chained", faults_chained},
    {"resets_signals", resets_signals},
    {"own_urgent", own_urgent},
    {"own_profiler", own_profiler},
    {"closes_all", closes_all},
    {"no_descriptors", no_descriptors},
    {"no_descriptors_before", no_descriptors_before},
    {"no_timers", no_timers},
    {"no_perf", no_perf},
    {"no_cpu_timers", no_cpu_timers},
    {"unloads", unloads},
    {"unloads_soon", unloads_soon},
};

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    file = arguments[2];
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        if (strcmp(scenes[i].name, arguments[1]) == 0)
            return scenes[i].run();
    return 2;
}
