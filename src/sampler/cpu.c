/* SPDX-License-Identifier: MIT
 *
 * See cpu.h.
 */
#define _GNU_SOURCE
#include "sampler/cpu.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/output.h"
#include "core/code.h"
#include "core/instance.h"
#include "core/vm.h"
#include "sampler/collector.h"
#include "sampler/collectorthread.h"
#include "sampler/ending.h"
#include "sampler/newthreads.h"
#include "sampler/state.h"
#include "sampler/vmsignal.h"
#include "sigsafe/fault.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Rates and engines ---- */

/* What the running recordings ask for, as far as SOURCE goes. */
static uint64_t wanted_period(enum cprof__source source)
{
    uint64_t period_ns = 0;
    for (const cprof_recording *r = cprof__sampler.recordings; r; r = r->next)
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
        if (period_ns == cprof__sampler.rates.period_ns[i])
            continue;
        cprof__threads_close((enum cprof__source)i, !period_ns);
        cprof__sampler.rates.period_ns[i] = period_ns;
    }
    if (cprof__sampler.recordings) {
        cprof__sampler_scan(&cprof__sampler.rates);
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
    const cprof__engine **engine = &cprof__sampler.rates.engines[r->source];
    if (cprof__sampler.rates.period_ns[r->source] && name && strcmp((*engine)->name, name) != 0)
        return cprof__fail(CPROF_EEXIST, "engine: '%s' is not that of the recordings that run, '%s'", name,
                           (*engine)->name);
    int code = cprof__sampler.rates.period_ns[r->source] ? 0 : choose_engine(r->source, name, engine);
    r->engine = code ? NULL : (*engine)->name;
    r->engine_comment = code ? NULL : (*engine)->comment;
    return code;
}

/* Under the lock. */
static int begin(cprof_recording *r, const char *engine)
{
    int code = find_engine(r, engine);
    if (!code && !cprof__sampler.recordings) {
        int error = cprof__handler_install(cprof__code_current(), cprof__vm_signal, cprof__collector_wake);
        if (!error)
            error = cprof__fault_guard_on();
        code = error ? cprof__fail_errno(error, "cannot install the sampler's handler") : 0;
    }
    if (!code)
        code = cprof__collector_start();
    if (code && !cprof__collector_runs())
        cprof__collector_remove_handlers();
    if (!code && !cprof__sampler.recordings) /* who was here before must not be taken for new */
        cprof__sampler_scan(&(cprof__rates){{0}, {0}});
    cprof__collect_beginning(cprof__sampler.recordings);
    r->collector_ns = cprof__collector_cpu_ns();
    if (!code)
        code = cprof__recording_begin(r);
    if (code)
        return code;
    r->running = true;
    r->next = cprof__sampler.recordings;
    cprof__sampler.recordings = r;
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
    if (!out)
        return cprof__fail(CPROF_EINVAL, "out: NULL");
    int code = check_options(options, &source);
    if (!code)
        code = cprof__instance_claim();
    if (code)
        return code;
    cprof_recording *r = cprof__calloc(1, sizeof *r);
    if (!r)
        return cprof__fail_memory();
    r->source = source;
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
        int cancellation = cprof__sampler_take();
        code = begin(r, options->engine);
        cprof__sampler_give(cancellation);
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
    int before = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    int code = start(options, out);
    pthread_setcancelstate(before, NULL);
    return code;
}

/* ---- Stopping ---- */

/* Under the lock. */
static int end(cprof_recording *r)
{
    cprof_recording **link = &cprof__sampler.recordings;
    cprof__collect_ending(cprof__sampler.recordings, r);
    int code = cprof__recording_end(r, cprof__collector_cpu_ns());
    while (*link && *link != r)
        link = &(*link)->next;
    if (*link)
        *link = r->next;
    r->running = false;
    if (!cprof__sampler.recordings)
        cprof__collect(NULL, true); /* nobody is left to wait */
    apply_rates();
    bool outputs = false;
    for (const cprof_recording *other = cprof__sampler.recordings; other; other = other->next)
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
    int cancellation = cprof__sampler_take();
    int code = r->running ? end(r) : 0;
    cprof_snapshot *data = r->snapshot ? cprof__snapshot_share(r->snapshot) : NULL;
    char *output = r->output;
    r->output = NULL;
    cprof__sampler_give(cancellation);
    if (!data)
        code = cprof__fail_memory();
    else if (output)
        code = cprof__ending_write(data, output);
    cprof__free(output);
    if (data && out)
        *out = data;
    else
        cprof_snapshot_free(data);
    return code;
}

int cprof_recording_stop(cprof_recording *r, cprof_snapshot **out)
{
    int before = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    int code = stop(r, out);
    pthread_setcancelstate(before, NULL);
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
    return r ? r->engine : "";
}

/* ---- The end of the process, and forks ---- */

bool cprof__cpu_end_one(char **path, cprof_snapshot **data)
{
    int cancellation = cprof__sampler_take();
    cprof_recording *r = cprof__sampler.recordings;
    while (r && !r->output)
        r = r->next;
    if (r) {
        *data = end(r) == 0 ? cprof__snapshot_share(r->snapshot) : NULL;
        *path = r->output;
        r->output = NULL;
    }
    cprof__sampler_give(cancellation);
    return r != NULL;
}

/* Nothing of the parent's sampler runs in the child, which records nothing until it starts to. */
static void forget_in_child(void)
{
    cprof__sampler.recordings = NULL;
    cprof__sampler.rates = (cprof__rates){{0}, {0}};
    cprof__threads_forget();
    cprof__ending_forget();
    cprof__collector_forget();
}
