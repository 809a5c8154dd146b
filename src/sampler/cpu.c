/* SPDX-License-Identifier: MIT
 *
 * See cpu.h. While anything is recorded, a thread of ours (the collector) looks for threads of the process that came
 * or went, for code that was loaded, for handlers that were replaced, and empties the rings. It ends by itself when
 * nothing has been recorded for a while, so that scrapers, who start and stop all the time, find it running.
 */
#define _GNU_SOURCE
#include "sampler/cpu.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/output.h"
#include "core/code.h"
#include "core/instance.h"
#include "core/stacks.h"
#include "core/vm.h"
#include "core/vmcode.h"
#include "sampler/collector.h"
#include "sampler/newthreads.h"
#include "sampler/safepoint.h"
#include "sigsafe/fault.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How often the collector looks around, how long it stays where nothing is recorded, and how often it empties the
 * rings: so that a thread has taken some ten samples since. */
#define LOOK_MS 100
#define IDLE_LOOKS 50
#define TICK_SAMPLES 10
#define TICK_MS_MIN 5

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_SAMPLER);
static cprof_recording *recordings; /* these under the lock: all that run */
static cprof__rates rates;
static bool collecting;       /* the collector's thread is there */
static pid_t collector_tid;   /* 0 until it runs */
static uint64_t collector_ns; /* CPU time of collectors that have ended */
static _Atomic pid_t process; /* whose recordings these are */
static bool handler_replaced; /* a profile says so */

/* What wakes the collector. Not a descriptor: a host that closes all of them may get the number back as a file of its
 * own, which we would then read from. */
static sem_t wake;

/* ---- The collector's thread ---- */

static uint64_t collector_cpu_ns(void)
{
    struct timespec now;
    clockid_t clock = (clockid_t)((unsigned)~collector_tid << 3 | 6u);
    if (!collecting || !collector_tid || clock_gettime(clock, &now) != 0)
        return collector_ns;
    return collector_ns + (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A thread that was not there at the last look: what it has run since its start is nobody's. */
static void add_thread(cprof__tracked *thread)
{
    for (cprof_recording *r = recordings; r; r = r->next)
        cprof__recording_add_thread(r, thread, 0);
}

static void forget_thread(const cprof__tracked *thread)
{
    for (cprof_recording *r = recordings; r; r = r->next)
        cprof__recording_drop_thread(r, thread);
}

static void drop_thread(cprof__tracked *thread)
{
    cprof__collect_thread(thread, recordings, true);
    forget_thread(thread);
}

static void look_around(void)
{
    bool changed = false;
    if (cprof__code_refresh(&changed) == 0 && changed) {
        (void)cprof__code_load_all();
        cprof__newthreads_watch();
    }
    cprof__fault_guard_check();
    if (cprof__handler_install(cprof__code_current(), cprof__vm_signal) != 0)
        handler_replaced = true;
    (void)cprof__threads_scan(&rates, collector_tid, add_thread, drop_thread);
}

/* Files are read and written under the lock, and those are places where a thread may be cancelled: it would take the
 * lock along. */
static int hold_cancellation(void)
{
    int before = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static void allow_cancellation(int before)
{
    pthread_setcancelstate(before, NULL);
}

int cprof__cpu_thread_begins(void)
{
    int before = hold_cancellation();
    cprof__lock_take(&lock);
    bool begun = recordings && cprof__threads_begin(&rates, add_thread);
    cprof__lock_give(&lock);
    allow_cancellation(before);
    return begun;
}

/* The time since the last sample stands under the thread's function, in a frame that says what it is. */
static void credit_rest(const cprof__tracked *thread, void *(*start)(void *))
{
    uint64_t now_ns = cprof__threads_cpu_ns(thread);
    uint64_t at_ns = atomic_load(&thread->sampled.events[CPROF__SOURCE_CPU].at_ns);
    const uint64_t frames[] = {cprof__vmcode_special("[not sampled]"), (uint64_t)(uintptr_t)start};
    if (!rates.period_ns[CPROF__SOURCE_CPU] || now_ns <= at_ns || !frames[0])
        return;
    const cprof__credit credit = {.thread = thread,
                                  .at_ns = now_ns,
                                  .weight_ns = now_ns - at_ns,
                                  .stack = cprof__stacks_intern(frames, 2, 0)};
    for (cprof_recording *r = recordings; r; r = r->next)
        if (r->source == CPROF__SOURCE_CPU)
            cprof__recording_rest(r, &credit);
}

void cprof__cpu_thread_ends(void *(*start)(void *))
{
    cprof__lock_take(&lock);
    cprof__tracked *thread = cprof__threads_find(gettid());
    if (thread) {
        cprof__collect_thread(thread, recordings, true);
        credit_rest(thread, start);
        forget_thread(thread);
        cprof__threads_end(thread);
    }
    cprof__lock_give(&lock);
}

/* Long after the last recording: right after it a signal may still be on its way, which the host's handler would not
 * know, and a handler of ours at work on another thread, whose loads may fault. */
static void remove_handlers(void)
{
    cprof__handler_remove();
    cprof__fault_guard_off();
}

void cprof__cpu_wake(void)
{
    sem_post(&wake);
}

/* How long the rings have room for. Under the lock. */
static uint32_t tick_ms(void)
{
    uint64_t ms = LOOK_MS;
    for (int i = 0; i < CPROF__SOURCES; i++) {
        uint64_t wanted_ms = rates.period_ns[i] * TICK_SAMPLES / 1000000;
        if (rates.period_ns[i] && wanted_ms < ms)
            ms = wanted_ms;
    }
    return ms < TICK_MS_MIN ? TICK_MS_MIN : (uint32_t)ms;
}

/* For MS, or until somebody wakes us. */
static void rest(uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)sem_clockwait(&wake, CLOCK_MONOTONIC, &until);
}

static void *collector(void *context)
{
    pthread_setname_np(pthread_self(), "cprof");
    collector_tid = gettid(); /* for who started us, and waits for it under the lock */
    sem_post(context);
    cprof__lock_take(&lock);
    for (uint32_t idle_ms = 0, unseen_ms = 0; idle_ms < LOOK_MS * IDLE_LOOKS;) {
        uint32_t ms = tick_ms();
        cprof__lock_give(&lock);
        rest(ms);
        cprof__ending_act();
        cprof__lock_take(&lock);
        idle_ms = recordings ? 0 : idle_ms + ms;
        unseen_ms += ms;
        if (recordings && unseen_ms >= LOOK_MS) {
            look_around();
            unseen_ms = 0;
        }
        cprof__collect(recordings, false);
    }
    remove_handlers();
    collector_ns = collector_cpu_ns();
    collecting = false;
    collector_tid = 0;
    cprof__lock_give(&lock);
    return NULL;
}

static int start_thread(void)
{
    if (collecting)
        return 0;
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, old;
    sem_t started;
    sem_init(&started, 0, 0);
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, &attributes, collector, &started);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    while (!error && sem_wait(&started) != 0) {}
    sem_destroy(&started);
    collecting = !error;
    return error ? cprof__fail_errno(error, "cannot start the collector's thread") : 0;
}

/* ---- Rates and engines ---- */

/* What the running recordings ask for, as far as SOURCE goes. */
static uint64_t wanted_period(enum cprof__source source)
{
    uint64_t period_ns = 0;
    for (const cprof_recording *r = recordings; r; r = r->next)
        if (r->source == source && (!period_ns || r->period_ns < period_ns))
            period_ns = r->period_ns;
    return period_ns;
}

/* An engine that can serve the calling thread. */
static int choose_engine(enum cprof__source source, const char *name, const cprof__engine **out)
{
    const cprof__engine *const *list = cprof__engines(source, name);
    int error = 0;
    for (; list && *list; list++) {
        cprof__sampled trial = {.index = CPROF__SAMPLED_MAX - 1};
        cprof__engine_event event = {0};
        atomic_store(&trial.tid, gettid());
        error = (*list)->open(&event, &trial, source, 1000000000, 1000000000);
        if (!error) {
            event.engine->close(&event);
            *out = *list;
            return 0;
        }
    }
    return list ? cprof__fail_errno(error, "engine '%s' is not to be had here", name ? name : "any")
                : cprof__fail(CPROF_EINVAL, "engine: '%s' is none for this mode", name);
}

/* Makes the sampler run as the recordings ask; what runs at another rate is opened anew. */
static void apply_rates(void)
{
    for (int i = 0; i < CPROF__SOURCES; i++) {
        uint64_t period_ns = wanted_period((enum cprof__source)i);
        if (period_ns == rates.period_ns[i])
            continue;
        cprof__threads_close((enum cprof__source)i, !period_ns);
        rates.period_ns[i] = period_ns;
    }
    if (recordings) {
        (void)cprof__threads_scan(&rates, collector_tid, add_thread, drop_thread);
        cprof__newthreads_watch();
    } else {
        cprof__newthreads_unwatch();
    }
}

/* ---- Starting ---- */

/* PATTERN with %p replaced by the process's id, and %% by a %. */
static char *expand(const char *pattern)
{
    size_t room = strlen(pattern) * 11 + 1, length = 0;
    char *path = cprof__malloc(room);
    for (const char *p = pattern; path && *p; p++) {
        if (p[0] == '%' && p[1] == 'p') {
            length += (size_t)snprintf(path + length, room - length, "%d", (int)getpid());
            p++;
        } else {
            path[length++] = *p;
            p += p[0] == '%' && p[1] == '%';
        }
    }
    if (path)
        path[length] = 0;
    return path;
}

/* What cannot be written is to be known at the start. */
static int try_output(const char *path)
{
    cprof__file file;
    int code = cprof__file_open(&file, path);
    if (!code)
        (void)cprof__file_close(&file, CPROF_ECANCELED);
    return code;
}

static int check_options(const cprof_cpu_options *options, enum cprof__source *source)
{
    if (options->struct_size < sizeof *options)
        return cprof__fail(CPROF_EINVAL, "options: struct_size is %zu", options->struct_size);
    if (options->hz < 1 || options->hz > CPROF_CPU_HZ_MAX)
        return cprof__fail(CPROF_EINVAL, "hz: %d is not between 1 and %d", options->hz, CPROF_CPU_HZ_MAX);
    const char *mode = options->mode ? options->mode : "cpu";
    *source = strcmp(mode, "wall") == 0 ? CPROF__SOURCE_WALL : CPROF__SOURCE_CPU;
    if (*source == CPROF__SOURCE_CPU && strcmp(mode, "cpu") != 0)
        return cprof__fail(CPROF_EINVAL, "mode: '%s' is not \"cpu\" or \"wall\"", mode);
    if (options->engine && !cprof__engines(CPROF__SOURCE_CPU, options->engine))
        return cprof__fail(CPROF_EINVAL, "engine: '%s' is not \"perf\", \"timer\" or \"monotonic\"",
                           options->engine);
    if (options->engine && !cprof__engines(*source, options->engine))
        return cprof__fail(CPROF_EINVAL, "engine: '%s' is none for mode \"%s\"", options->engine, mode);
    if (options->output && !*options->output)
        return cprof__fail(CPROF_EINVAL, "output: empty");
    return 0;
}

static void discard(cprof_recording *r)
{
    cprof__sums_fini(&r->sums);
    cprof__free(r->threads);
    cprof__free(r->output);
    cprof__free(r);
}

/* Of two recordings at once, the second cannot have another engine: they share the sampler. */
static int find_engine(cprof_recording *r, const char *name)
{
    const cprof__engine **engine = &rates.engines[r->source];
    if (rates.period_ns[r->source] && name && strcmp((*engine)->name, name) != 0)
        return cprof__fail(CPROF_EINVAL, "engine: '%s' is not that of the recordings that run, '%s'", name,
                           (*engine)->name);
    int code = rates.period_ns[r->source] ? 0 : choose_engine(r->source, name, engine);
    r->engine = code ? NULL : (*engine)->name;
    r->engine_comment = code ? NULL : (*engine)->comment;
    return code;
}

/* Under the lock. */
static int begin(cprof_recording *r, const char *engine)
{
    int code = find_engine(r, engine);
    if (!code && !recordings) {
        int error = cprof__handler_install(cprof__code_current(), cprof__vm_signal);
        if (!error)
            error = cprof__fault_guard_on();
        code = error ? cprof__fail_errno(error, "cannot install the sampler's handler") : 0;
    }
    if (!code)
        code = start_thread();
    if (code && !collecting)
        remove_handlers();
    if (!code && !recordings) /* who was here before must not be taken for new */
        (void)cprof__threads_scan(&(cprof__rates){{0}, {0}}, collector_tid, add_thread, drop_thread);
    r->collector_ns = collector_cpu_ns();
    if (!code)
        code = cprof__recording_begin(r);
    if (code)
        return code;
    r->running = true;
    atomic_store(&process, r->process);
    r->next = recordings;
    recordings = r;
    if (r->output)
        cprof__ending_watch();
    apply_rates();
    return 0;
}

static void prepare_vms(void)
{
    const cprof__vm_kind *kind;
    for (uint32_t i = 0; (kind = cprof__vm_kind_at(i)) != NULL; i++)
        if (kind->vm->prepare)
            kind->vm->prepare();
}

static void forget_in_child(void);

static void watch_forks(void)
{
    cprof__fork_watch(CPROF__SIGNAL, forget_in_child);
}

static int start(const cprof_cpu_options *options, cprof_recording **out)
{
    static const cprof_cpu_options defaults = CPROF_CPU_OPTIONS_INIT;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    enum cprof__source source = CPROF__SOURCE_CPU;
    options = options ? options : &defaults;
    int code = out ? check_options(options, &source) : cprof__fail(CPROF_EINVAL, "out: NULL");
    if (!code)
        code = cprof__instance_claim();
    if (code)
        return code;
    cprof_recording *r = cprof__calloc(1, sizeof *r);
    if (!r)
        return cprof__fail_memory();
    r->source = source;
    r->hz = options->hz;
    r->period_ns = UINT64_C(1000000000) / (uint64_t)options->hz;
    r->process = getpid();
    r->output = options->output ? expand(options->output) : NULL;
    code = options->output && !r->output ? cprof__fail_memory() : 0;
    if (!code && r->output)
        code = try_output(r->output);
    if (!code) {
        pthread_once(&once, watch_forks);
        (void)cprof__code_load_all(); /* without memory stacks are shorter */
        prepare_vms();
        cprof__lock_take(&lock);
        code = begin(r, options->engine);
        cprof__lock_give(&lock);
    }
    if (code) {
        discard(r);
        return code;
    }
    *out = r;
    return 0;
}

int cprof_start_cpu_profile(const cprof_cpu_options *options, cprof_recording **out)
{
    int before = hold_cancellation();
    int code = start(options, out);
    allow_cancellation(before);
    return code;
}

/* ---- Stopping ---- */

/* Under the lock. */
static int end(cprof_recording *r)
{
    cprof_recording **link = &recordings;
    cprof__collect(recordings, true);
    int code = cprof__recording_end(r, collector_cpu_ns());
    while (*link && *link != r)
        link = &(*link)->next;
    if (*link)
        *link = r->next;
    r->running = false;
    apply_rates();
    bool outputs = false;
    for (const cprof_recording *other = recordings; other; other = other->next)
        outputs |= other->output != NULL;
    if (!outputs)
        cprof__ending_unwatch();
    return code;
}

static int stop(cprof_recording *r, cprof_snapshot **out)
{
    if (!r)
        return cprof__fail(CPROF_EINVAL, "recording: NULL");
    if (r->process != getpid())
        return cprof__fail(CPROF_ECLOSED, "this recording belongs to process %d, before a fork",
                           (int)r->process);
    cprof__lock_take(&lock);
    int code = r->running ? end(r) : 0;
    cprof_snapshot *data = r->snapshot ? cprof__snapshot_share(r->snapshot) : NULL;
    char *output = r->output;
    r->output = NULL;
    cprof__lock_give(&lock);
    if (!data)
        code = cprof__fail_memory();
    else if (output)
        code = cprof_snapshot_write(data, output, NULL);
    cprof__free(output);
    if (data && out)
        *out = data;
    else
        cprof_snapshot_free(data);
    return code;
}

int cprof_recording_stop(cprof_recording *r, cprof_snapshot **out)
{
    int before = hold_cancellation();
    int code = stop(r, out);
    allow_cancellation(before);
    return code;
}

void cprof_recording_free(cprof_recording *r)
{
    if (!r)
        return;
    if (r->process == getpid())
        (void)cprof_recording_stop(r, NULL);
    cprof_snapshot_free(r->snapshot);
    discard(r);
}

const char *cprof_recording_engine(const cprof_recording *r)
{
    return r->engine;
}

/* ---- The end of the process, and forks ---- */

static cprof_recording *with_output(void)
{
    cprof_recording *r = recordings;
    while (r && !r->output)
        r = r->next;
    return r;
}

void cprof__cpu_write_outputs(void)
{
    /* A child that was made without fork's handlers may find the lock held by a thread that it does not have. */
    if (atomic_load(&process) != getpid())
        return;
    for (;;) {
        cprof__lock_take(&lock);
        cprof_recording *r = with_output();
        if (!r) {
            cprof__lock_give(&lock);
            return;
        }
        cprof_snapshot *data = end(r) == 0 ? cprof__snapshot_share(r->snapshot) : NULL;
        char *output = r->output;
        r->output = NULL;
        cprof__lock_give(&lock);
        if (data)
            (void)cprof_snapshot_write(data, output, NULL);
        cprof_snapshot_free(data);
        cprof__free(output);
    }
}

/* Nothing of the parent's sampler runs in the child, which records nothing until it starts to. */
static void forget_in_child(void)
{
    recordings = NULL;
    rates = (cprof__rates){{0}, {0}};
    collecting = false;
    collector_tid = 0;
    collector_ns = 0;
    cprof__threads_forget();
    remove_handlers();
    cprof__ending_forget();
    sem_init(&wake, 0, 0);
}
