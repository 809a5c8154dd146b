/* SPDX-License-Identifier: MIT
 *
 * What a C program does to itself while it is sampled: threads of all kinds that live for a moment, libraries that come
 * and go, children, a storm of allocations, handlers that are set and reset.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include "cprof.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Threads ---- */

enum life { RETURNS, EXITS, WAITS_FOR_CANCEL, CANCELLED_ANYWHERE, BLOCKS_SIGNALS, HAS_OWN_STACK, LIVES };

static void *live(void *context)
{
    enum life life = (enum life)(uintptr_t)context;
    sigset_t all;
    char *stack = NULL;
    pthread_setcanceltype(life == CANCELLED_ANYWHERE ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED,
                          NULL);
    if (life == BLOCKS_SIGNALS) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
    }
    if (life == HAS_OWN_STACK) {
        stack = malloc(64 << 10);
        sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = 64 << 10}, NULL);
    }
    chaos_spin(2000);
    if (stack) {
        sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
        free(stack);
    }
    while (life == WAITS_FOR_CANCEL)
        usleep(500);
    while (life == CANCELLED_ANYWHERE) {} /* the thread may end in the midst of anything that takes no lock */
    if (life == EXITS)
        pthread_exit(NULL);
    return NULL;
}

void chaos_threads(worker *self)
{
    pthread_t threads[4];
    enum life lives[4];
    int count = 0;
    for (int i = 0; i < 4; i++) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        if (chaos_random(self, 2) == 0)
            pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
        bool detached = chaos_random(self, 3) == 0;
        lives[count] = (enum life)chaos_random(self, LIVES);
        if (detached) {
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
            lives[count] = chaos_random(self, 2) == 0 ? RETURNS : EXITS;
        }
        int error = pthread_create(&threads[count], &attributes, live, (void *)(uintptr_t)lives[count]);
        pthread_attr_destroy(&attributes);
        count += error == 0 && !detached;
    }
    for (int i = 0; i < count; i++) {
        if (lives[i] == WAITS_FOR_CANCEL || lives[i] == CANCELLED_ANYWHERE)
            pthread_cancel(threads[i]);
        pthread_join(threads[i], NULL);
    }
}

/* ---- Libraries ---- */

/* Held around the loader and around fork: a child of glibc's that finds the loader's lock taken waits for ever at its
 * exit, whether it is sampled or not. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* Copies, since a file is loaded once. */
static void copy_plugin(const char *to)
{
    char block[65536];
    size_t size;
    FILE *in = fopen(chaos_plugin, "rb"), *out = fopen(to, "wb");
    if (!in || !out)
        chaos_fail("%s: %s", to, strerror(errno));
    while ((size = fread(block, 1, sizeof block, in)) > 0)
        fwrite(block, 1, size, out);
    fclose(in);
    fclose(out);
}

static void unload(void *handle)
{
    pthread_mutex_lock(&loading);
    dlclose(handle);
    pthread_mutex_unlock(&loading);
}

void chaos_libraries(worker *self)
{
    enum { COPIES = 4 };
    char path[PATH_MAX];
    void *handles[COPIES] = {0};
    for (int i = 0; i < COPIES; i++) {
        snprintf(path, sizeof path, "%s/plugin-%u.so", chaos_folder, chaos_random(self, 8));
        if (access(path, R_OK) != 0)
            copy_plugin(path);
        pthread_mutex_lock(&loading);
        handles[i] = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        pthread_mutex_unlock(&loading);
        if (!handles[i])
            chaos_fail("%s: %s", path, dlerror());
        uint64_t (*run)(unsigned) = (uint64_t(*)(unsigned))dlsym(handles[i], "plugin_run");
        run(200 + chaos_random(self, 2000));
    }
    for (int i = 0; i < COPIES; i++)
        unload(handles[i]);
}

/* ---- Children ---- */

static void on_alarm(int signal)
{
    (void)signal;
    abort();
}

static void child(uint32_t kind)
{
    char path[PATH_MAX];
    cprof_recording *recording;
    cprof_snapshot *data;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    signal(SIGALRM, on_alarm); /* one that hangs leaves a core */
    alarm(200);
    if (kind == 0)
        _exit(0);
    if (kind == 1)
        exit(0);
    if (kind == 2) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(3);
    }
    snprintf(path, sizeof path, "%s/child-%%p.pb.gz", chaos_folder);
    options.hz = 1000;
    options.output = path;
    if (cprof_start_cpu_profile(&options, &recording) != 0)
        _exit(4);
    chaos_spin(5000);
    if (kind == 3)
        exit(0); /* the output is written at exit */
    if (cprof_recording_stop(recording, &data) != 0)
        _exit(5);
    cprof_snapshot_free(data);
    _exit(0);
}

void chaos_forks(worker *self)
{
    uint32_t kind = chaos_random(self, 5);
    char path[PATH_MAX];
    pthread_mutex_lock(&loading);
    pid_t pid = fork();
    if (pid < 0)
        chaos_fail("fork: %s", strerror(errno));
    if (pid == 0)
        child(kind);
    pthread_mutex_unlock(&loading);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            chaos_fail("waitpid: %s", strerror(errno));
    if (WIFSIGNALED(status))
        (void)rename("core", "core.child");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        chaos_fail("a child of kind %u ended with status %#x", kind, (unsigned)status);
    snprintf(path, sizeof path, "%s/child-%d.pb.gz", chaos_folder, (int)pid);
    if (kind > 2 && access(path, R_OK) != 0)
        chaos_fail("%s is missing", path);
    unlink(path);
}

/* ---- Memory ---- */

void chaos_memory(worker *self)
{
    void *blocks[64] = {0};
    for (int i = 0; i < 3000; i++) {
        uint32_t at = chaos_random(self, 64);
        if (chaos_random(self, 2) == 0) {
            free(blocks[at]);
            blocks[at] = malloc(chaos_random(self, 100) == 0 ? 200000 : chaos_random(self, 2000));
        } else {
            void *moved = realloc(blocks[at], 1 + chaos_random(self, 4000));
            blocks[at] = moved ? moved : blocks[at];
        }
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    /* Pages that are there for a moment, where stale pointers may lead. */
    void *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) {
        memset(pages, 1, 1 << 20);
        munmap(pages, 1 << 20);
    }
}

/* ---- Signals ---- */

static atomic_int urgent;
static void *forbidden; /* a page */
static __thread sigjmp_buf out_of_fault;

static void on_urgent(int signal)
{
    (void)signal;
    atomic_fetch_add(&urgent, 1);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_addr != forbidden)
        chaos_fail("the host's handler got signal %d, which was not its own, at %p", signal, info->si_addr);
    siglongjmp(out_of_fault, 1);
}

/* A fault of the program's own is for its own handler, also while cprof's stands before it. */
static void fault(void)
{
    if (sigsetjmp(out_of_fault, 1) == 0) {
        *(volatile int *)forbidden = 1;
        chaos_fail("a store to nowhere went well");
    }
}

/* Before the first recording. */
__attribute__((constructor)) static void install(void)
{
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
}

void chaos_signals(worker *self)
{
    uint32_t kind = chaos_random(self, 6);
    if (kind == 0)
        signal(SIGURG, on_urgent);
    else if (kind == 1)
        signal(SIGURG, SIG_DFL);
    else if (kind == 2)
        signal(SIGURG, SIG_IGN);
    else if (kind == 3)
        raise(SIGURG);
    else
        for (int i = 0; i < 10; i++)
            fault();
    usleep(1000 + chaos_random(self, 50000));
}
