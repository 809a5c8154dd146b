/* SPDX-License-Identifier: MIT
 *
 * See threads.h.
 */
#define _GNU_SOURCE
#include "sampler/threads.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_WORDS 8192u
#define SPARE_RINGS_MAX 32u

static cprof__tracked *threads; /* sorted by nothing: a process has few, and they are looked through seldom */
static uint32_t serials, next_index;

cprof__tracked *cprof__threads_first(void)
{
    return threads;
}

cprof__tracked *cprof__threads_find(pid_t tid)
{
    cprof__tracked *thread = threads;
    while (thread && atomic_load_explicit(&thread->sampled.tid, memory_order_relaxed) != tid)
        thread = thread->next;
    return thread;
}

/* An index that no record has. */
static bool take_index(uint32_t *index)
{
    for (uint32_t i = 0; i < CPROF__SAMPLED_MAX; i++) {
        uint32_t tried = (next_index + i) % CPROF__SAMPLED_MAX;
        if (!cprof__handler_find(tried)) {
            next_index = tried + 1;
            *index = tried;
            return true;
        }
    }
    return false;
}

static uint64_t seed(pid_t tid)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)tid * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

/* Rings of threads that have ended, for the next ones: a new one costs a page fault for each of its pages. */
static uint64_t *spare_rings[SPARE_RINGS_MAX];
static uint32_t spare_count;

static uint64_t *take_ring(void)
{
    if (spare_count)
        return spare_rings[--spare_count];
    void *words =
        mmap(NULL, RING_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return words == MAP_FAILED ? NULL : words;
}

static void give_ring(uint64_t *words)
{
    if (words && spare_count < SPARE_RINGS_MAX)
        spare_rings[spare_count++] = words;
    else if (words)
        munmap(words, RING_WORDS * sizeof *words);
}

/* Records are never given back: a signal on its way, or a safepoint that comes late, may still look at one. */
static cprof__tracked *spare_records;

static cprof__tracked *take_record(void)
{
    cprof__tracked *thread = spare_records;
    if (!thread)
        return cprof__calloc(1, sizeof *thread);
    spare_records = thread->next;
    memset(thread, 0, sizeof *thread);
    return thread;
}

/* The record of TID, with its ring. */
static cprof__tracked *add(pid_t tid)
{
    cprof__tracked *thread = take_record();
    if (!thread)
        return NULL;
    uint64_t *words = take_ring();
    if (!words || !take_index(&thread->sampled.index)) {
        give_ring(words);
        thread->next = spare_records;
        spare_records = thread;
        return NULL;
    }
    thread->sampled.ring.words = words;
    thread->sampled.ring.size = RING_WORDS;
    thread->sampled.random = seed(tid);
    atomic_store(&thread->sampled.tid, tid);
    for (int i = 0; i < CPROF__SOURCES; i++)
        atomic_store(&thread->sampled.events[i].fd, -1);
    thread->serial = ++serials ? serials : ++serials;
    atomic_store(&thread->sampled.serial, thread->serial);
    cprof__handler_publish(&thread->sampled);
    thread->next = threads;
    return threads = thread;
}

static void close_event(cprof__tracked *thread, enum cprof__source source)
{
    cprof__event *driven = &thread->sampled.events[source];
    atomic_store(&driven->on, false);
    atomic_store(&driven->fd, -1);
    if (thread->events[source].engine)
        thread->events[source].engine->close(&thread->events[source]);
}

static void release(cprof__tracked *thread)
{
    for (int i = 0; i < CPROF__SOURCES; i++)
        close_event(thread, (enum cprof__source)i);
    cprof__handler_withdraw(&thread->sampled);
    give_ring(thread->sampled.ring.words);
    cprof__free(thread->asking.scratch);
    cprof__free(thread->waiting);
    atomic_store(&thread->sampled.tid, 0);
    thread->next = spare_records;
    spare_records = thread;
}

uint64_t cprof__threads_cpu_ns(const cprof__tracked *thread)
{
    struct timespec time;
    clockid_t clock = (clockid_t)((unsigned)~atomic_load(&thread->sampled.tid) << 3 | 6u);
    if (clock_gettime(clock, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* What has passed before the first event is not the first sample's. */
static void begin_clock(cprof__tracked *thread, enum cprof__source source)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = source == CPROF__SOURCE_CPU ? cprof__threads_cpu_ns(thread)
                                                  : (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (!atomic_load(&thread->sampled.events[source].at_ns))
        atomic_store(&thread->sampled.events[source].at_ns, now_ns);
}

/* What every thread can have. */
static int fall_back(cprof__tracked *thread, const cprof__rates *rates, uint64_t first_ns)
{
    uint64_t period_ns = rates->period_ns[CPROF__SOURCE_CPU];
    int failed = cprof__engine_timer.open(&thread->events[CPROF__SOURCE_CPU], &thread->sampled,
                                          CPROF__SOURCE_CPU, period_ns, first_ns);
    thread->fell_back = !failed && rates->engines[CPROF__SOURCE_CPU] != &cprof__engine_timer;
    return failed;
}

/* Opens what RATES asks for; where its engine cannot serve this thread (no descriptor is left), the next one. */
static int open_events(cprof__tracked *thread, const cprof__rates *rates)
{
    int error = 0;
    for (int i = 0; i < CPROF__SOURCES; i++) {
        enum cprof__source source = (enum cprof__source)i;
        uint64_t period_ns = rates->period_ns[i];
        const cprof__engine *engine = thread->events[i].engine;
        if (engine && engine->lost && engine->lost(&thread->events[i]))
            close_event(thread, source);
        if (!period_ns || thread->events[i].engine)
            continue;
        begin_clock(thread, source);
        uint64_t first_ns = 1 + (thread->sampled.random >> 16) % period_ns;
        (void)cprof__handler_jitter(&thread->sampled.random, period_ns);
        int failed =
            rates->engines[i]->open(&thread->events[i], &thread->sampled, source, period_ns, first_ns);
        if (source == CPROF__SOURCE_CPU)
            thread->fell_back = false;
        if (failed && failed != ESRCH && source == CPROF__SOURCE_CPU)
            failed = fall_back(thread, rates, first_ns);
        error = failed && failed != ESRCH ? failed : error;
    }
    return error;
}

/* The list in /proc is no snapshot: reading it goes wrong, and ends early, where a thread ends meanwhile. What is
 * freed here a living thread's handler may be writing to. */
static bool lives(const cprof__tracked *thread)
{
    return thread->seen || syscall(SYS_tgkill, getpid(), atomic_load(&thread->sampled.tid), 0) == 0;
}

static void drop_gone(void (*gone)(cprof__tracked *thread))
{
    cprof__tracked **link = &threads;
    while (*link) {
        cprof__tracked *thread = *link;
        if (lives(thread)) {
            link = &thread->next;
            continue;
        }
        gone(thread);
        *link = thread->next;
        release(thread);
    }
}

/* Where the process has no descriptor left, one of ours is given up: its thread is sampled by a timer. */
static DIR *open_list(const cprof__rates *rates)
{
    DIR *directory = opendir("/proc/self/task");
    uint64_t period_ns = rates->period_ns[CPROF__SOURCE_CPU];
    for (cprof__tracked *t = threads; t && !directory && (errno == EMFILE || errno == ENFILE); t = t->next) {
        cprof__engine_event *event = &t->events[CPROF__SOURCE_CPU];
        if (!period_ns || !event->engine || !event->engine->lost)
            continue;
        close_event(t, CPROF__SOURCE_CPU);
        directory = opendir("/proc/self/task");
        (void)fall_back(t, rates, period_ns);
    }
    return directory;
}

static int look_at(pid_t tid, const cprof__rates *rates, void (*new)(cprof__tracked *thread))
{
    cprof__tracked *thread = cprof__threads_find(tid);
    if (!thread) {
        thread = add(tid);
        if (!thread)
            return ENOMEM;
        new (thread);
    }
    thread->seen = true;
    return open_events(thread, rates);
}

int cprof__threads_scan(const cprof__rates *rates, pid_t skip_tid, void (*new)(cprof__tracked *thread),
                        void (*gone)(cprof__tracked *thread))
{
    DIR *directory = open_list(rates);
    if (!directory) {
        int error = errno; /* at least who asks is sampled */
        if (gettid() != skip_tid)
            (void)look_at(gettid(), rates, new);
        return error;
    }
    int error = 0;
    for (cprof__tracked *thread = threads; thread; thread = thread->next)
        thread->seen = false;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        int failed = tid > 0 && tid != skip_tid ? look_at(tid, rates, new) : 0;
        error = failed ? failed : error;
    }
    closedir(directory);
    drop_gone(gone);
    return error;
}

cprof__tracked *cprof__threads_begin(const cprof__rates *rates, void (*new)(cprof__tracked *thread))
{
    cprof__tracked *thread = cprof__threads_find(gettid());
    if (thread)
        return NULL; /* the collector was quicker */
    thread = add(gettid());
    if (!thread)
        return NULL;
    new (thread);
    atomic_store(&thread->sampled.events[CPROF__SOURCE_CPU].at_ns, 1);
    (void)open_events(thread, rates);
    return thread;
}

void cprof__threads_end(cprof__tracked *thread)
{
    cprof__tracked **link = &threads;
    while (*link && *link != thread)
        link = &(*link)->next;
    if (*link)
        *link = thread->next;
    release(thread);
}

void cprof__threads_close(enum cprof__source source, bool over)
{
    for (cprof__tracked *thread = threads; thread; thread = thread->next) {
        close_event(thread, source);
        if (over)
            atomic_store(&thread->sampled.events[source].at_ns, 0);
    }
}

void cprof__threads_forget(void)
{
    while (threads) {
        cprof__tracked *thread = threads;
        threads = thread->next;
        for (int i = 0; i < CPROF__SOURCES; i++)
            if (thread->events[i].engine && thread->events[i].engine->lost) /* a descriptor */
                close_event(thread, (enum cprof__source)i);
            else
                thread->events[i].engine =
                    NULL; /* timers are not inherited, and their numbers may be others' */
        release(thread);
    }
}
