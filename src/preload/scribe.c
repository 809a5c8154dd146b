/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/scribe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* STATE's values; it only goes up. */
enum { IDLE, WANTED, WRITTEN };

static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};

#define THREAD_NAME "cprof" /* as libcprof's own thread has */
#define STEP_MS 20
#define STACK_BYTES (256 * 1024) /* the C library's own functions for names and files want room */

static struct {
    _Atomic(uint32_t) state; /* release: what was written before it is to be seen */
    atomic_int why;          /* written before WANTED */
    atomic_bool main_has_left;
    atomic_int pid, tid; /* of the thread; another process's where a child has none */
    clockid_t clock;     /* written before PID */
    void (*write)(int why);
    void (*after)(void);
} scribe;

/* Waits until STATE is no longer SEEN, or for STEP_MS. */
static void wait_state(uint32_t seen, bool bounded)
{
    struct timespec step = {0, STEP_MS * 1000000L};
    syscall(SYS_futex, &scribe.state, FUTEX_WAIT_PRIVATE, seen, bounded ? &step : NULL, NULL, 0);
}

static void set_state(uint32_t state)
{
    atomic_store_explicit(&scribe.state, state, memory_order_release);
    syscall(SYS_futex, &scribe.state, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* What the kernel says of thread TID: 'S' where it sleeps, 'Z' where it has ended; 'S', too, where it says nothing.
 * *THREADS, unless it is NULL, gets how many the process has at that moment (proc(5), stat: 3 and 20).
 * Signals: safe. */
static char task_state(int tid, int *threads)
{
    enum { STATE = 3, NUM_THREADS = 20 };
    char path[48], text[512], digits[12];
    /* Written by hand: snprintf may take a lock. */
    char *p = stpcpy(path, "/proc/self/task/");
    int length = 0;
    for (; tid; tid /= 10)
        digits[length++] = (char)('0' + tid % 10);
    while (length)
        *p++ = digits[--length];
    stpcpy(p, "/stat");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 'S';
    ssize_t count = read(fd, text, sizeof text - 1);
    close(fd);
    if (count <= 0)
        return 'S';
    text[count] = 0;
    const char *end = strrchr(text, ')'); /* of the name, which may have any sign in it */
    if (!end || end[1] != ' ')
        return 'S';
    const char *field = end + 2;
    for (int i = STATE; field && i < NUM_THREADS; i++)
        field = strchr(field + 1, ' ');
    if (threads)
        *threads = field ? atoi(field) : 0;
    return end[2];
}

/* ---- The thread ---- */

/* Whether TID is a thread of cprof's: those bear its name. */
static bool is_ours(const char *tid)
{
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t count = read(fd, name, sizeof name - 1);
    close(fd);
    return count > 0 && strcmp(name, THREAD_NAME "\n") == 0;
}

/* Whether the program's own threads have all ended. Without ours the C library would then have called exit. The list
 * may lack threads that live, since others end while it is read; so ours in it have to be all that there are. */
static bool is_alone(void)
{
    int threads = 0, known = 1; /* what is left of the first */
    DIR *tasks = task_state(getpid(), &threads) == 'Z' ? opendir("/proc/self/task") : NULL;
    for (const struct dirent *task; tasks && (task = readdir(tasks));)
        known += task->d_name[0] != '.' && atoi(task->d_name) != getpid() && is_ours(task->d_name);
    if (tasks)
        closedir(tasks);
    return tasks && known == threads;
}

/* Waits until writing is asked for. Returns false where the program has ended without asking. */
static bool wait_for_end(void)
{
    uint32_t state = IDLE;
    while (atomic_load(&scribe.state) == IDLE) {
        bool orphan = atomic_load(&scribe.main_has_left);
        if (orphan && is_alone())
            return !atomic_compare_exchange_strong(&scribe.state, &state, WANTED);
        wait_state(IDLE, orphan);
    }
    return true;
}

static void *run(void *ready)
{
    pthread_setname_np(pthread_self(), THREAD_NAME);
    atomic_store(&scribe.tid, (int)syscall(SYS_gettid));
    atomic_store((_Atomic(uint32_t) *)ready, 1);
    syscall(SYS_futex, ready, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    bool asked = wait_for_end();
    scribe.write(asked ? atomic_load(&scribe.why) : CPROF__END_EXIT);
    set_state(WRITTEN);
    if (!asked)
        exit(0);
    scribe.after();
    return NULL;
}

int cprof__scribe_start(void (*write)(int why), void (*after)(void))
{
    static _Atomic(uint32_t) ready;
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, old;
    scribe.write = write;
    scribe.after = after;
    atomic_store(&scribe.state, IDLE);
    atomic_store(&ready, 0);
    /* The program's signals are for its own threads; a fault is for the one that makes it. */
    sigfillset(&all);
    for (size_t i = 0; i < sizeof FAULTS / sizeof *FAULTS; i++)
        sigdelset(&all, FAULTS[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int error = pthread_create(&thread, &attributes, run, &ready);
    if (!error)
        error = pthread_getcpuclockid(thread, &scribe.clock);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    while (!error && !atomic_load(&ready))
        syscall(SYS_futex, &ready, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    if (!error)
        atomic_store(&scribe.pid, getpid());
    return error;
}

void cprof__scribe_orphan(void)
{
    atomic_store(&scribe.main_has_left, true);
    syscall(SYS_futex, &scribe.state, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

bool cprof__scribe_is_waiting(void)
{
    return atomic_load(&scribe.pid) == getpid() && atomic_load(&scribe.state) == IDLE;
}

bool cprof__scribe_is_self(void)
{
    return atomic_load(&scribe.tid) == (int)syscall(SYS_gettid);
}

/* ---- Asking ---- */

static int64_t cpu_ns(void)
{
    struct timespec used;
    return clock_gettime(scribe.clock, &used) == 0 ? used.tv_sec * INT64_C(1000000000) + used.tv_nsec : 0;
}

bool cprof__scribe_finish(int why, int patience_ms)
{
    uint32_t state = IDLE;
    if (atomic_load(&scribe.pid) != getpid())
        return true;
    int none = 0;
    atomic_compare_exchange_strong(&scribe.why, &none, why);
    if (atomic_compare_exchange_strong(&scribe.state, &state, WANTED))
        syscall(SYS_futex, &scribe.state, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    int64_t used = -1;
    int idle_ms = 0;
    while (atomic_load_explicit(&scribe.state, memory_order_acquire) != WRITTEN) {
        wait_state(WANTED, true);
        int64_t now = cpu_ns();
        idle_ms = now == used && task_state(atomic_load(&scribe.tid), NULL) == 'S' ? idle_ms + STEP_MS : 0;
        used = now;
        if (idle_ms >= patience_ms)
            return false;
    }
    return true;
}
