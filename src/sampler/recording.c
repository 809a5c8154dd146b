/* SPDX-License-Identifier: MIT
 *
 * See recording.h. The accounts of a recording of CPU time close with the process's own clock: what no sample and no
 * thread accounts for stands in a frame of its own, so the total is that of getrusage.
 */
#define _GNU_SOURCE
#include "sampler/recording.h"

#include "base/alloc.h"
#include "base/error.h"
#include "core/stacks.h"
#include "core/vmcode.h"

#include <stdio.h>
#include <string.h>

static const cprof_value_type cpu_types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
static const cprof_value_type wall_types[] = {{"samples", "count"}, {"wall", "nanoseconds"}};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- Threads ---- */

static cprof__recorded_thread *place_of(cprof_recording *r, uint32_t index)
{
    if (index >= r->thread_room) {
        uint32_t room = r->thread_room ? r->thread_room : 64;
        while (room <= index)
            room *= 2;
        cprof__recorded_thread *grown = cprof__realloc(r->threads, room * sizeof *grown);
        if (!grown) {
            r->out_of_memory = true;
            return NULL;
        }
        memset(grown + r->thread_room, 0, (room - r->thread_room) * sizeof *grown);
        r->threads = grown;
        r->thread_room = room;
    }
    return &r->threads[index];
}

void cprof__recording_add_thread(cprof_recording *r, const cprof__tracked *thread, uint64_t begin_ns)
{
    cprof__recorded_thread *place = place_of(r, thread->sampled.index);
    if (place)
        *place = (cprof__recorded_thread){.serial = thread->serial, .begin_ns = begin_ns};
}

static void add(cprof_recording *r, uint32_t stack, uint32_t labels, uint64_t count, uint64_t ns)
{
    const int64_t values[4] = {(int64_t)count, (int64_t)ns, 0, 0};
    if (!stack || !cprof__sums_add(&r->sums, stack, labels, values))
        r->out_of_memory = true;
    r->samples += (int64_t)count;
}

/* What was kept back of a thread goes where it was last seen. */
static void settle(cprof_recording *r, cprof__recorded_thread *place)
{
    if (place->kept_ns && place->last_stack)
        add(r, place->last_stack, place->last_labels, 0, place->kept_ns);
    place->kept_ns = 0;
}

void cprof__recording_drop_thread(cprof_recording *r, const cprof__tracked *thread)
{
    uint32_t index = thread->sampled.index;
    if (index < r->thread_room && r->threads[index].serial == thread->serial) {
        settle(r, &r->threads[index]);
        r->threads[index] = (cprof__recorded_thread){0};
    }
}

/* ---- Samples ---- */

/* How much of CREDIT is the recording's, and where its thread is noted. */
static uint64_t accept(cprof_recording *r, const cprof__credit *credit, cprof__recorded_thread **place)
{
    *place = place_of(r, credit->thread->sampled.index);
    if (!*place || (*place)->serial != credit->thread->serial || credit->at_ns <= (*place)->begin_ns)
        return 0;
    r->fell_back += r->source == CPROF__SOURCE_CPU && credit->thread->fell_back && !(*place)->fell_back;
    (*place)->fell_back |= credit->thread->fell_back;
    uint64_t own_ns = credit->at_ns - (*place)->begin_ns;
    uint64_t weight_ns = credit->weight_ns < own_ns ? credit->weight_ns : own_ns;
    r->credited_ns += weight_ns;
    return weight_ns;
}

void cprof__recording_rest(cprof_recording *r, const cprof__credit *credit)
{
    cprof__recorded_thread *place;
    uint64_t weight_ns = accept(r, credit, &place);
    if (weight_ns)
        add(r, credit->stack, credit->labels, 0, weight_ns);
}

void cprof__recording_credit(cprof_recording *r, const cprof__credit *credit)
{
    cprof__recorded_thread *place;
    uint64_t weight_ns = accept(r, credit, &place);
    if (!weight_ns)
        return;
    place->last_stack = credit->stack;
    place->last_labels = credit->labels;
    place->kept_ns += weight_ns;
    /* At the sampler's own rate each sample counts, also one that came early. */
    uint64_t counted = credit->count;
    if (r->period_ns > credit->thread->sampled.events[r->source].period_ns)
        counted = place->kept_ns / r->period_ns;
    if (!counted)
        return;
    if (counted > credit->count)
        counted = credit->count;
    add(r, credit->stack, credit->labels, counted, place->kept_ns);
    place->kept_ns = 0;
    r->unresolved += credit->unresolved ? (int64_t)counted : 0;
    r->lost += credit->lost ? (int64_t)counted : 0;
}

/* ---- Beginning and end ---- */

int cprof__recording_begin(cprof_recording *r)
{
    r->sums.columns = 2;
    r->time_ns = cprof__realtime_ns();
    r->begin_ns = clock_ns(CLOCK_MONOTONIC);
    r->process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (cprof__tracked *t = cprof__threads_first(); t; t = t->next) {
        uint64_t now_ns = r->source == CPROF__SOURCE_CPU ? cprof__threads_cpu_ns(t) : r->begin_ns;
        cprof__recording_add_thread(r, t, now_ns);
    }
    return r->out_of_memory ? cprof__fail_memory() : 0;
}

static void add_special(cprof_recording *r, const char *name, uint64_t ns)
{
    uint64_t frame = cprof__vmcode_special(name);
    if (ns)
        add(r, frame ? cprof__stacks_intern(&frame, 1, 0) : 0, 0, 0, ns);
}

/* A thread that has used more than a few periods since its last sample blocks our signal. */
#define BLOCKED_PERIODS 4

/* What the process used besides what was credited. */
static void close_accounts(cprof_recording *r, uint64_t collector_ns)
{
    uint64_t total_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - r->process_ns, blocked_ns = 0;
    uint64_t own_ns = collector_ns - r->collector_ns;
    for (cprof__tracked *t = cprof__threads_first(); t; t = t->next) {
        uint64_t now_ns = cprof__threads_cpu_ns(t), at_ns = atomic_load(&t->sampled.events[r->source].at_ns);
        const cprof__recorded_thread *place = place_of(r, t->sampled.index);
        if (place && place->serial == t->serial && at_ns < place->begin_ns)
            at_ns = place->begin_ns;
        uint64_t rest_ns = now_ns > at_ns ? now_ns - at_ns : 0;
        if (t->events[r->source].engine && rest_ns > t->sampled.events[r->source].period_ns * BLOCKED_PERIODS)
            blocked_ns += rest_ns;
    }
    uint64_t known_ns = r->credited_ns + own_ns + blocked_ns;
    add_special(r, "[cprof]", own_ns);
    add_special(r, "[signals blocked]", blocked_ns);
    add_special(r, "[not sampled]", total_ns > known_ns ? total_ns - known_ns : 0);
}

static size_t write_comments(const cprof_recording *r, char (*texts)[160], const char **list)
{
    size_t count = 0;
#define COMMENT(CONDITION, ...)                                                                              \
    do {                                                                                                     \
        if (CONDITION) {                                                                                     \
            snprintf(texts[count], sizeof texts[count], __VA_ARGS__);                                        \
            list[count] = texts[count];                                                                      \
            count++;                                                                                         \
        }                                                                                                    \
    } while (0)
    COMMENT(true, "cprof engine: %s", r->engine_comment);
    COMMENT(r->fell_back,
            "threads sampled by timers on their CPU clocks, since the engine could not serve them: %u",
            (unsigned)r->fell_back);
    COMMENT(r->unresolved, "%lld of %lld samples without the Lua frames: no safepoint came",
            (long long)r->unresolved, (long long)r->samples);
    COMMENT(r->lost, "samples that lost their stacks, for want of room in the ring: %lld",
            (long long)r->lost);
    COMMENT(r->out_of_memory, "samples were lost: out of memory");
#undef COMMENT
    return count;
}

int cprof__recording_end(cprof_recording *r, uint64_t collector_ns)
{
    char texts[5][160];
    const char *comments[5];
    bool cpu = r->source == CPROF__SOURCE_CPU;
    r->end_ns = clock_ns(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < r->thread_room; i++)
        settle(r, &r->threads[i]);
    if (cpu)
        close_accounts(r, collector_ns);
    cprof__free(r->threads);
    r->threads = NULL;
    r->thread_room = 0;
    const cprof__description about = {
        .name = "profile",
        .types = cpu ? cpu_types : wall_types,
        .columns = 2,
        .period_type = cpu ? cpu_types[1] : wall_types[1],
        .period = (int64_t)r->period_ns,
        .time_ns = r->time_ns,
        .duration_ns = (int64_t)(r->end_ns - r->begin_ns),
        .comments = comments,
        .comment_count = write_comments(r, texts, comments),
    };
    return cprof__snapshot_make(&about, r->samples, &r->sums, &r->snapshot);
}
