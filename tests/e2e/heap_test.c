/* SPDX-License-Identifier: MIT
 *
 * Heap profiles of C code, as a program sees them that is linked with the shared library: what malloc and its like
 * allocate is taken over in this program's own slots.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cprof.h"

#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define RATE_DEFAULT 524288

/* What a profile says of one function. */
typedef struct sums {
    int64_t alloc_objects, alloc_space, inuse_objects, inuse_space;
} sums;

static bool mentions(const cprof_sample *sample, const char *function)
{
    for (size_t i = 0; i < sample->frame_count; i++)
        if (strcmp(sample->frames[i].name, function) == 0)
            return true;
    return false;
}

/* Of all samples with FUNCTION on their stacks; NULL: of all. */
static sums read_profile(const char *name, const char *function)
{
    cprof_snapshot *snapshot;
    sums s = {0};
    assert_int_equal(cprof_profile_snapshot(cprof_lookup(name), &snapshot), 0);
    for (size_t i = 0; i < cprof_snapshot_sample_count(snapshot); i++) {
        cprof_sample sample;
        assert_int_equal(cprof_snapshot_sample(snapshot, i, &sample), 0);
        if (!function || mentions(&sample, function)) {
            s.alloc_objects += sample.values[0];
            s.alloc_space += sample.values[1];
            s.inuse_objects += sample.values[2];
            s.inuse_space += sample.values[3];
        }
    }
    cprof_snapshot_free(snapshot);
    return s;
}

static void turn_on(int64_t rate)
{
    assert_int_equal(cprof_set_mem_profile_rate(rate, NULL), 0);
    assert_int_equal(cprof_heap_native(1, NULL), 0);
}

static void turn_off(void)
{
    assert_int_equal(cprof_set_mem_profile_rate(0, NULL), 0);
}

/* Compilers leave out allocations that nobody looks at. */
static _Atomic(void *) seen;

static void *see(void *block)
{
    atomic_store_explicit(&seen, block, memory_order_relaxed);
    return block;
}

/* ---- Each function of the allocator ---- */

/* Sanitizers make strings by an allocator of their own, which no object imports; and stop where memory runs out. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#define BY_THE_C_LIBRARY malloc(29)
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1 report_signal_unsafe=0";
}
#else
#define SANITIZED 0
#define BY_THE_C_LIBRARY strdup("what the C library allocates")
#endif

static __attribute__((noinline, noclone)) void allocate_by_all(void *blocks[16])
{
    int n = 0;
    blocks[n++] = see(malloc(1000));
    blocks[n++] = see(calloc(10, 100));
    blocks[n++] = see(realloc(NULL, 1000));
    blocks[n++] = see(realloc(see(malloc(1)), 1000));
    blocks[n++] = see(reallocarray(NULL, 10, 100));
    blocks[n++] = see(reallocarray(see(malloc(2)), 100, 10));
    assert_int_equal(posix_memalign(&blocks[n], 64, 1000), 0);
    see(blocks[n++]);
    blocks[n++] = see(aligned_alloc(8, 1000));
    blocks[n++] = see(memalign(64, 1000));
    blocks[n++] = see(valloc(1000));
    blocks[n++] = see(pvalloc(1000));
    blocks[n++] = see(malloc(0));
    blocks[n++] = see(BY_THE_C_LIBRARY);
    blocks[n] = NULL;
}

#define ALL_OBJECTS 15
#define ALL_LIVE 13
#define ALL_LIVE_BYTES (11 * 1000 + 29)

static void test_each_function_is_counted_exactly(void **state)
{
    (void)state;
    void *blocks[16];
    turn_on(1);
    allocate_by_all(blocks);
    sums now = read_profile("heap", "allocate_by_all");
    assert_int_equal(now.alloc_objects, ALL_OBJECTS);
    assert_int_equal(now.alloc_space, ALL_LIVE_BYTES + 3);
    assert_int_equal(now.inuse_objects, ALL_LIVE);
    assert_int_equal(now.inuse_space, ALL_LIVE_BYTES);
    for (int i = 0; blocks[i]; i++)
        free(blocks[i]);
    now = read_profile("heap", "allocate_by_all");
    assert_int_equal(now.alloc_objects, ALL_OBJECTS);
    assert_int_equal(now.inuse_objects, 0);
    assert_int_equal(now.inuse_space, 0);
    turn_off();
}

static void test_what_fails_changes_nothing(void **state)
{
    (void)state;
    turn_on(1);
    sums before = read_profile("heap", NULL);
    void *none = NULL,
         *(*volatile resize)(void *, size_t) = realloc; /* compilers hold what failed for freed */
    void *block = see(malloc(100));
    volatile size_t huge = SIZE_MAX / 4;
    errno = 0;
    assert_null(see(malloc(huge)));
    assert_int_equal(errno, ENOMEM);
    assert_null(see(resize(block, huge)));
    assert_null(see(reallocarray(NULL, huge, 8)));
    assert_null(see(calloc(huge, 8)));
    assert_int_equal(posix_memalign(&none, 3, 8), EINVAL);
    sums after = read_profile("heap", NULL);
    assert_int_equal(after.inuse_objects - before.inuse_objects, 1);
    assert_int_equal(after.inuse_space - before.inuse_space, 100);
    free(block);
    after = read_profile("heap", NULL);
    assert_int_equal(after.inuse_objects - before.inuse_objects, 0);
    turn_off();
}

/* ---- On and off ---- */

static void test_off_says_how_to_turn_it_on(void **state)
{
    (void)state;
    cprof_snapshot *none = NULL;
    turn_off();
    assert_int_equal(cprof_profile_snapshot(cprof_lookup("heap"), &none), CPROF_EOFF);
    assert_non_null(strstr(cprof_last_error(), "set_mem_profile_rate(524288) turns it on"));
    assert_int_equal(cprof_profile_snapshot(cprof_lookup("allocs"), &none), CPROF_EOFF);
    assert_int_equal(cprof_profile_count(cprof_lookup("heap")), 0);
    assert_int_equal(cprof_set_mem_profile_rate(-1, NULL), CPROF_EINVAL);
    assert_int_equal(cprof_set_mem_profile_rate((INT64_C(1) << 40) + 1, NULL), CPROF_EINVAL);
    int64_t old = -1;
    int was = -1;
    assert_int_equal(cprof_heap_native(1, &was), 0);
    assert_int_equal(was, 0);
    assert_int_equal(cprof_set_mem_profile_rate(4096, &old), 0);
    assert_int_equal(old, RATE_DEFAULT);
    assert_int_equal(cprof_heap_native(0, &was), 0);
    assert_int_equal(was, 1);
    assert_int_equal(cprof_set_mem_profile_rate(0, &old), 0);
    assert_int_equal(old, 4096);
}

static __attribute__((noinline, noclone)) void *allocate_again(void)
{
    return see(malloc(5000));
}

/* Blocks outlive it; what is turned on again knows nothing of them. */
static void test_off_forgets(void **state)
{
    (void)state;
    turn_on(1);
    void *block = allocate_again();
    assert_int_equal(read_profile("heap", "allocate_again").inuse_space, 5000);
    turn_off();
    turn_on(1);
    assert_int_equal(read_profile("heap", "allocate_again").inuse_space, 0);
    free(block);
    assert_int_equal(read_profile("heap", NULL).inuse_objects >= 0, 1);
    turn_off();
}

static void test_the_profiles_are_built_in(void **state)
{
    (void)state;
    const cprof_value_type *types;
    cprof_profile *heap = cprof_lookup("heap");
    assert_int_equal(cprof_profile_sample_types(heap, &types), 4);
    assert_string_equal(types[3].type, "inuse_space");
    assert_int_equal(cprof_profile_add(heap, types, 0), CPROF_EINVAL);
    assert_int_equal(cprof_profile_record(heap, NULL), CPROF_EINVAL);
    assert_int_equal(cprof_profile_remove(heap, types), CPROF_ENOENT);
    assert_int_equal(cprof_profile_new("heap", NULL, &heap), CPROF_EINVAL);
}

/* ---- Statistics ---- */

static __attribute__((noinline, noclone)) void *allocate_many(size_t size)
{
    return see(malloc(size));
}

/* COUNT blocks of SIZE at RATE: what is recorded of them, less what there was, in standard deviations. One block counts
 * as 1/p with the chance p, so its variance is (1-p)/p. */
static double deviation(size_t size, int count, int64_t rate)
{
    void **blocks = malloc((size_t)count * sizeof *blocks);
    turn_on(rate);
    for (int i = 0; i < count; i++)
        blocks[i] = allocate_many(size);
    sums now = read_profile("heap", "allocate_many");
    for (int i = 0; i < count; i++)
        free(blocks[i]);
    sums after = read_profile("heap", "allocate_many");
    turn_off();
    free(blocks);
    assert_int_equal(after.inuse_objects, 0);
    assert_int_equal(after.inuse_space, 0);
    assert_int_equal(after.alloc_space, now.alloc_space);
    double p = -expm1(-(double)size / (double)rate), sigma = sqrt((1 - p) / p * count);
    assert_true(fabs((double)now.inuse_space - (double)now.inuse_objects * (double)size) <=
                (double)size + 0.01 * (double)now.inuse_space);
    return ((double)now.inuse_objects - count) / sigma;
}

static void test_weights_are_unbiased(void **state)
{
    (void)state;
    static const size_t sizes[] = {16, 100, 1000, 10000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_true(fabs(deviation(sizes[i], 20000, 8192)) < 6);
        assert_true(fabs(deviation(sizes[i], 2000, 65536)) < 6);
    }
}

/* ---- Threads, forks, signals, no memory ---- */

#define THREADS 24
#define KEPT 200

static __attribute__((noinline, noclone)) void *allocate_kept(void)
{
    return see(malloc(64));
}

/* ThreadSanitizer allocates while it starts a thread and is not ready for itself: threads begin before the profile. */
static pthread_barrier_t begun, turned_on;

/* Allocates, frees and resizes, and leaves KEPT blocks of 64 bytes behind. */
static void *churn(void *context)
{
    void **kept = context;
    void *blocks[64] = {0};
    unsigned random = (unsigned)(uintptr_t)context;
    pthread_barrier_wait(&begun);
    pthread_barrier_wait(&turned_on);
    for (int i = 0; i < 20000; i++) {
        void **block = &blocks[(random = random * 1103515245 + 12345) >> 16 & 63];
        *block = random & 1 << 24 ? realloc(*block, 1 + (random >> 8) % 3000)
                                  : (free(*block), calloc(1, 1 + random % 100));
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    for (int i = 0; i < KEPT; i++)
        kept[i] = allocate_kept();
    return NULL;
}

/* Forks while the others allocate; each child allocates and writes a profile, and says by its status whether that went
 * well. */
static int fork_once(void)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        void *block = allocate_again();
        bool good = read_profile("heap", "allocate_again").inuse_space == 5000;
        free(block);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static void test_threads_churn_and_fork(void **state)
{
    (void)state;
    static void *kept[THREADS][KEPT];
    pthread_t threads[THREADS];
    pthread_barrier_init(&begun, NULL, THREADS + 1);
    pthread_barrier_init(&turned_on, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, kept[i]), 0);
    pthread_barrier_wait(&begun);
    turn_on(1);
    pthread_barrier_wait(&turned_on);
    for (int i = 0; i < (SANITIZED ? 0 : 5); i++) /* their allocators do not survive it */
        assert_int_equal(fork_once(), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    sums now = read_profile("heap", "allocate_kept");
    assert_int_equal(now.inuse_objects, THREADS * KEPT);
    assert_int_equal(now.inuse_space, THREADS * KEPT * 64);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < KEPT; j++)
            free(kept[i][j]);
    assert_int_equal(read_profile("heap", "allocate_kept").inuse_objects, 0);
    assert_int_equal(read_profile("heap", "churn").inuse_objects, 0);
    turn_off();
}

/* The handler runs while cprof writes a profile, in the program's function: what it allocates is the program's.
 * (Handlers at any time: heap_signals_test.c.) */
static _Atomic int handled;
static void *from_handler;

static void on_alarm(int signal)
{
    (void)signal;
    void *block = malloc(300);
    free(see(malloc(20)));
    free(from_handler);
    from_handler = block;
    handled++;
}

static int raise_signal(void *context, const void *bytes, size_t length)
{
    (void)context, (void)bytes, (void)length;
    raise(SIGALRM);
    return 0;
}

static void test_handlers_allocate(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_alarm}, before;
    sigaction(SIGALRM, &action, &before);
    turn_on(1);
    handled = 0;
    for (int i = 0; i < 20; i++)
        assert_int_equal(cprof_profile_write_to(cprof_lookup("heap"), raise_signal, NULL, NULL), 0);
    assert_true(handled >= 20);
    sums now = read_profile("heap", "on_alarm");
    assert_int_equal(now.inuse_objects, 1);
    assert_int_equal(now.inuse_space, 300);
    free(from_handler);
    turn_off();
    sigaction(SIGALRM, &before, NULL);
}

/* In a child, whose memory is to run out. */
static void allocate_until_none_is_left(void)
{
    static void *blocks[1 << 16];
    struct rlimit limit = {UINT64_C(600) << 20, UINT64_C(600) << 20};
    turn_on(1);
    setrlimit(RLIMIT_AS, &limit);
    int count = 0;
    while (count < 1 << 16 && (blocks[count] = see(malloc(50000))) != NULL)
        count++;
    int64_t objects = 0;
    for (int i = 0; i < count / 2; i++) {
        free(blocks[i]);
        objects++;
    }
    sums now = read_profile("heap", "allocate_until_none_is_left");
    int64_t missing = count - objects - now.inuse_objects;
    _exit(count > 1000 && missing >= 0 && missing <= count / 100 ? 0 : 1);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    if (SANITIZED)
        skip(); /* they need the address space for themselves */
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        allocate_until_none_is_left();
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_function_is_counted_exactly),
        cmocka_unit_test(test_what_fails_changes_nothing),
        cmocka_unit_test(test_off_says_how_to_turn_it_on),
        cmocka_unit_test(test_off_forgets),
        cmocka_unit_test(test_the_profiles_are_built_in),
        cmocka_unit_test(test_weights_are_unbiased),
        cmocka_unit_test(test_threads_churn_and_fork),
        cmocka_unit_test(test_handlers_allocate),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
