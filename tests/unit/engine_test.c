/* SPDX-License-Identifier: MIT
 *
 * Events whose descriptors a host closes behind our back.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof.h"
#include "sampler/engine.h"

#include "sampling.h"

#include <unistd.h>

static cprof__code_map map;

static void no_vm(cprof__sampled *thread, cprof__sample *sample, const void *context, uint64_t high)
{
    (void)thread;
    (void)sample;
    (void)context;
    (void)high;
}

/* A host closes all descriptors that it finds, and the number becomes another event's. Whoever then closes the first
 * event must not take the second one's signals along. */
static void test_a_number_that_became_another_events(void **state)
{
    (void)state;
    static uint64_t words[8192];
    cprof__sampled closed = {.index = 100}, open = {.index = 101, .ring = {.words = words, .size = 8192}};
    cprof__engine_event first = {0}, second = {0};
    atomic_store(&closed.tid, gettid());
    atomic_store(&open.tid, gettid());
    atomic_store(&open.serial, 1);
    if (!SIGNALS_COME ||
        cprof__engine_perf_user.open(&first, &closed, CPROF__SOURCE_CPU, 1000000000, 1000000000) != 0)
        skip();
    assert_int_equal(cprof__handler_install(&map, no_vm, NULL), 0);
    cprof__handler_publish(&open);
    close(first.fd);
    assert_int_equal(cprof__engine_perf_user.open(&second, &open, CPROF__SOURCE_CPU, 1000000, 1000000), 0);
    assert_int_equal(second.fd, first.fd);
    assert_true(first.engine->lost(&first));
    first.engine->close(&first);
    burn(100);
    second.engine->close(&second);
    cprof__handler_withdraw(&open);
    cprof__handler_remove();
    assert_true(atomic_load(&open.ring.head) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_number_that_became_another_events)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
