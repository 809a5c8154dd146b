/* SPDX-License-Identifier: MIT
 *
 * The C side of `scripts/bench custom`: a process that answers one line of numbers to each line that it is
 * asked, so that the driver (tests/bench/go) can take turns between it and the peers. It is compiled with
 * frame pointers and without.
 *
 *     addremove DEPTH COUNT THREADS   nanoseconds for an add and a remove, on each of THREADS threads
 *     changing DEPTH COUNT            the same on one thread, where the last 5 frames differ from call to
 * call
 *     live COUNT STACKS               makes COUNT entries live: bytes of malloc and resident bytes an entry
 *     write                           nanoseconds, the most bytes of malloc that were out, bytes written
 */
#define _GNU_SOURCE
#include "worker.h"

#include "cprof.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OBJECTS = 1024, THREADS_MAX = 8, CHANGING = 5 };

static cprof_profile *blobs;

int64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int fail(const char *what)
{
    printf("error %s: %s\n", what, cprof_last_error());
    return -1;
}

/* ---- A stack of a given depth: dig calls itself, and what is asked for at the bottom ---- */

typedef void (*bottom_fn)(void *context);

/* The asm keeps the compiler from turning the recursion into a loop or the call into a jump. */
__attribute__((noinline)) static void dig(int levels, bottom_fn bottom, void *context)
{
    if (levels > 1)
        dig(levels - 1, bottom, context);
    else
        bottom(context);
    __asm__ volatile("" ::: "memory");
}

static void add_probe(void *context)
{
    *(int *)context = cprof_profile_add(blobs, context, 1);
}

/* How many frames a stack has that is dug 1 level deep, as the profile shows it. */
static int frames_at_one_level(void)
{
    int base = 0, status = 0;
    dig(1, add_probe, &status);
    cprof_snapshot *snapshot = NULL;
    cprof_sample sample = {0};
    if (status == 0 && cprof_profile_snapshot(blobs, &snapshot) == 0 &&
        cprof_snapshot_sample(snapshot, 0, &sample) == 0)
        base = (int)sample.frame_count;
    cprof_snapshot_free(snapshot);
    cprof_profile_remove(blobs, &status);
    return base;
}

/* ---- addremove ---- */

typedef struct task {
    int depth, count, base;
    pthread_barrier_t *start;
    void ***objects; /* the thread's own, from its own allocations */
    int64_t elapsed_ns;
    int status;
    bool changing;
} task;

static void **make_objects(void)
{
    void **objects = malloc(OBJECTS * sizeof *objects);
    for (int i = 0; objects && i < OBJECTS; i++)
        objects[i] = malloc(64);
    return objects;
}

static void add_remove_loop(void *context)
{
    task *run = context;
    void **objects = *run->objects;
    int status = 0; /* not in *run: the tasks of two threads share a cache line */
    int64_t began = 0;
    for (int i = -OBJECTS; i < run->count; i++) { /* below 0 to warm up */
        if (i == 0) {
            pthread_barrier_wait(run->start);
            began = bench_now_ns();
        }
        void *object = objects[(i + OBJECTS) % OBJECTS];
        status |= cprof_profile_add(blobs, object, 1);
        status |= cprof_profile_remove(blobs, object);
    }
    run->elapsed_ns = bench_now_ns() - began;
    run->status = status;
}

/* One of 32 ways down to an add and a remove: at each of CHANGING levels the call is one of two. */
__attribute__((noinline)) static void take_way(unsigned way, int levels, task *run, void *object)
{
    if (levels == 0) {
        run->status |= cprof_profile_add(blobs, object, 1);
        run->status |= cprof_profile_remove(blobs, object);
    } else if (way & 1) {
        take_way(way >> 1, levels - 1, run, object);
        __asm__ volatile("nop" ::: "memory");
    } else {
        take_way(way >> 1, levels - 1, run, object);
        __asm__ volatile("" ::: "memory");
    }
}

static void changing_loop(void *context)
{
    task *run = context;
    int64_t began = 0;
    for (int i = -OBJECTS; i < run->count; i++) {
        if (i == 0)
            began = bench_now_ns();
        take_way((unsigned)i * 2654435761u >> 16, CHANGING, run, (*run->objects)[(i + OBJECTS) % OBJECTS]);
    }
    run->elapsed_ns = bench_now_ns() - began;
}

static void *run_task(void *context)
{
    task *run = context;
    if (!*run->objects)
        *run->objects = make_objects();
    if (run->changing)
        dig(run->depth - run->base - CHANGING, changing_loop, run);
    else
        dig(run->depth - run->base + 1, add_remove_loop, run);
    return NULL;
}

static void *measure_base(void *context)
{
    *(int *)context = frames_at_one_level();
    return NULL;
}

static int add_remove(int depth, int count, int threads, bool changing)
{
    static void **objects[THREADS_MAX];
    static int base;
    pthread_t ids[THREADS_MAX];
    task tasks[THREADS_MAX];
    pthread_barrier_t start;
    if (threads < 1 || threads > THREADS_MAX)
        return fail("threads");
    if (base == 0 &&
        (pthread_create(&ids[0], NULL, measure_base, &base) != 0 || pthread_join(ids[0], NULL) != 0))
        return fail("base");
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        tasks[i] = (task){.depth = depth,
                          .count = count,
                          .base = base,
                          .start = &start,
                          .objects = &objects[i],
                          .changing = changing};
        pthread_create(&ids[i], NULL, run_task, &tasks[i]);
    }
    double sum = 0;
    int status = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum += (double)tasks[i].elapsed_ns / count;
        status |= tasks[i].status;
    }
    pthread_barrier_destroy(&start);
    if (status != 0 || base == 0)
        return fail("add or remove");
    printf("%.1f\n", sum / threads);
    return 0;
}

/* ---- live and write ---- */

typedef struct range {
    char *objects;
    int first, step, count, status;
} range;

static void add_range(void *context)
{
    range *part = context;
    for (int i = part->first; i < part->count; i += part->step)
        part->status |= cprof_profile_add(blobs, part->objects + (size_t)i * 64, 1);
}

static void remove_range(void *context)
{
    range *part = context;
    for (int i = part->first; i < part->count; i += part->step)
        part->status |= cprof_profile_remove(blobs, part->objects + (size_t)i * 64);
}

/* Entry I goes to stack I modulo STACKS; each stack is a depth. */
static int each_stack(char *objects, int count, int stacks, bottom_fn bottom)
{
    int status = 0;
    for (int stack = 0; stack < stacks; stack++) {
        range part = {objects, stack, stacks, count, 0};
        dig(3 + stack, bottom, &part);
        status |= part.status;
    }
    return status;
}

static int live(int count, int stacks)
{
    char *objects = malloc((size_t)count * 64); /* kept: the entries stay live */
    if (!objects)
        return fail("objects");
    memset(objects, 1, (size_t)count * 64);
    /* The stacks themselves are known before memory is measured: the bar is for entries that share them. */
    if (each_stack(objects, stacks, stacks, add_range) != 0 ||
        each_stack(objects, stacks, stacks, remove_range) != 0)
        return fail("warming up");
    int64_t resident = bench_resident_bytes(), peak;
    bench_count_start();
    if (each_stack(objects, count, stacks, add_range) != 0)
        return fail("add");
    int64_t counted = bench_count_stop(&peak);
    printf("%.2f %.2f\n", (double)counted / count, (double)(bench_resident_bytes() - resident) / count);
    return 0;
}

static int count_bytes(void *context, const void *bytes, size_t length)
{
    (void)bytes;
    *(size_t *)context += length;
    return 0;
}

static int write_profile(void)
{
    size_t written = 0;
    int64_t began = bench_now_ns(), peak = 0;
    if (cprof_profile_write_to(blobs, count_bytes, &written, NULL) != 0)
        return fail("write");
    int64_t elapsed = bench_now_ns() - began;
    /* Once more for the memory, so that counting takes no time from the figure above. */
    bench_count_start();
    if (cprof_profile_write_to(blobs, count_bytes, &written, NULL) != 0)
        return fail("write");
    bench_count_stop(&peak);
    printf("%lld %lld %zu\n", (long long)elapsed, (long long)peak, written / 2);
    return 0;
}

int main(void)
{
    char line[256];
    int a, b, c;
    if (cprof_profile_new("bench.blobs", NULL, &blobs) != 0)
        return fail("new profile") != 0;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "addremove %d %d %d", &a, &b, &c) == 3)
            add_remove(a, b, c, false);
        else if (sscanf(line, "changing %d %d", &a, &b) == 2)
            add_remove(a, b, 1, true);
        else if (sscanf(line, "live %d %d", &a, &b) == 2)
            live(a, b);
        else if (strncmp(line, "write", 5) == 0)
            write_profile();
        else
            printf("error unknown question: %s", line);
        fflush(stdout);
    }
    return 0;
}
