/* SPDX-License-Identifier: MIT
 *
 * The ring between a handler and the collector: what is written comes out, in order and whole, over the ring's end
 * too; a full ring says so and loses nothing of what it holds; two threads at once.
 */
#include "test.h"

#include "sigsafe/ring.h"

#include <pthread.h>

#define SIZE 64

static uint64_t words[SIZE];

static cprof__ring fresh(void)
{
    return (cprof__ring){.words = words, .size = SIZE};
}

static bool put(cprof__ring *ring, uint64_t count, uint64_t value)
{
    uint64_t *record = cprof__ring_reserve(ring, count);
    if (!record)
        return false;
    record[0] = cprof__record_head(CPROF__RECORD_SAMPLE, count);
    for (uint64_t i = 1; i < count; i++)
        record[i] = value;
    cprof__ring_commit(ring, count);
    return true;
}

/* The length of the next record, whose words must all be VALUE; 0 where there is none. */
static uint64_t get(cprof__ring *ring, uint64_t value)
{
    uint64_t *record = cprof__ring_peek(ring);
    if (!record)
        return 0;
    uint64_t count = (uint32_t)record[0];
    assert_int_equal(record[0] >> 32, CPROF__RECORD_SAMPLE);
    for (uint64_t i = 1; i < count; i++)
        assert_int_equal(record[i], value);
    cprof__ring_drop(ring, record);
    return count;
}

static void test_order(void **state)
{
    (void)state;
    cprof__ring ring = fresh();
    assert_int_equal(get(&ring, 0), 0);
    assert_true(put(&ring, 3, 7));
    assert_true(put(&ring, 5, 8));
    assert_int_equal(get(&ring, 7), 3);
    assert_int_equal(get(&ring, 8), 5);
    assert_int_equal(get(&ring, 0), 0);
}

static void test_wraps(void **state)
{
    (void)state;
    cprof__ring ring = fresh();
    for (uint64_t i = 1; i < 1000; i++) {
        uint64_t count = 2 + i * 7 % 30;
        assert_true(put(&ring, count, i));
        assert_int_equal(get(&ring, i), count);
    }
}

static void test_full(void **state)
{
    (void)state;
    cprof__ring ring = fresh();
    uint64_t held = 0;
    while (put(&ring, 10, held + 1))
        held++;
    assert_int_equal(held, SIZE / 10);
    assert_false(put(&ring, 10, 99));
    for (uint64_t i = 1; i <= held; i++)
        assert_int_equal(get(&ring, i), 10);
    assert_int_equal(get(&ring, 0), 0);
    assert_true(put(&ring, 10, 5));
    assert_int_equal(get(&ring, 5), 10);
}

/* What is reserved for more than comes of it takes no more room than came. */
static void test_commits_less(void **state)
{
    (void)state;
    cprof__ring ring = fresh();
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t *record = cprof__ring_reserve(&ring, 30);
        assert_non_null(record);
        record[0] = cprof__record_head(CPROF__RECORD_SAMPLE, 2);
        record[1] = i;
        cprof__ring_commit(&ring, 2);
        assert_int_equal(get(&ring, i), 2);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    cprof__ring ring = {.size = SIZE};
    assert_null(cprof__ring_reserve(&ring, 1));
}

#define RECORDS 200000

static void *writer(void *context)
{
    for (uint64_t i = 1; i <= RECORDS;)
        i += put(context, 2 + i % 20, i);
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    cprof__ring ring = fresh();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, writer, &ring), 0);
    for (uint64_t i = 1; i <= RECORDS; i++) {
        uint64_t count;
        while ((count = get(&ring, i)) == 0) {}
        assert_int_equal(count, 2 + i % 20);
    }
    pthread_join(thread, NULL);
    assert_int_equal(get(&ring, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_wraps),
        cmocka_unit_test(test_full),      cmocka_unit_test(test_commits_less),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
