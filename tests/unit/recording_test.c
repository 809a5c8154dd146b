/* SPDX-License-Identifier: MIT
 *
 * What a recording says of its samples.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/stacks.h"
#include "cprof.h"
#include "sampler/recording.h"

#include <stdio.h>
#include <string.h>

/* Beside a faster recording each signal of which is a sample, this one counts one in ten. */
static void test_no_more_is_missing_than_was_counted(void **state)
{
    (void)state;
    static cprof__tracked thread = {.serial = 1};
    thread.sampled.events[CPROF__SOURCE_CPU].period_ns = 1000000;
    cprof_recording r = {.source = CPROF__SOURCE_CPU, .period_ns = 10000000, .engine_comment = "none"};
    uint64_t pc = 0x1000;
    assert_int_equal(cprof__recording_begin(&r), 0);
    cprof__recording_add_thread(&r, &thread, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        const cprof__credit credit = {.thread = &thread,
                                      .at_ns = i * 20000000,
                                      .weight_ns = 20000000,
                                      .count = 20,
                                      .stack = cprof__stacks_intern(&pc, 1, 0),
                                      .unresolved = true,
                                      .lost = i == 3};
        cprof__recording_credit(&r, &credit);
    }
    assert_int_equal(r.samples, 6);
    assert_int_equal(r.unresolved, 6);
    assert_int_equal(r.lost, 2);
    assert_int_equal(cprof__recording_end(&r, 0), 0);
    cprof_snapshot_free(r.snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_more_is_missing_than_was_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
