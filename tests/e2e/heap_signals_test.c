/* SPDX-License-Identifier: MIT
 *
 * A host whose signal handlers allocate and free, at any time: also while its thread is inside cprof, which was
 * called by malloc. No common allocator allows that, so this program has one that does (signal_allocator.c). cprof's
 * memory comes from there too.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cprof.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* ---- The host ---- */

#define PER_HANDLER 8

static _Atomic int handled;
static void *_Atomic kept[PER_HANDLER];

static void on_alarm(int signal)
{
    int saved = errno;
    (void)signal;
    for (int i = 0; i < PER_HANDLER; i++) {
        free(atomic_exchange(&kept[i], NULL));
        atomic_store(&kept[i], strdup("allocated in a handler"));
    }
    atomic_fetch_add(&handled, 1);
    errno = saved;
}

static int64_t live_objects(const char *function)
{
    cprof_snapshot *snapshot;
    int64_t objects = 0;
    assert_int_equal(cprof_profile_snapshot(cprof_lookup("heap"), &snapshot), 0);
    for (size_t i = 0; i < cprof_snapshot_sample_count(snapshot); i++) {
        cprof_sample sample;
        assert_int_equal(cprof_snapshot_sample(snapshot, i, &sample), 0);
        for (size_t j = 0; j < sample.frame_count; j++)
            if (strcmp(sample.frames[j].name, function) == 0) {
                objects += sample.values[2];
                break;
            }
    }
    cprof_snapshot_free(snapshot);
    return objects;
}

static __attribute__((noinline, noclone)) void work(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t end = now.tv_sec + 2;
    while (now.tv_sec < end) {
        for (int i = 0; i < 200; i++) {
            char *text = strdup("allocated in the program"); /* the C library calls malloc for it */
            char *longer = text ? strndup(text, 9) : NULL;
            free(text);
            free(longer);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
}

static void test_handlers_allocate_at_any_time(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    assert_int_equal(cprof_set_mem_profile_rate(1, NULL), 0);
    assert_int_equal(cprof_heap_native(1, NULL), 0);
    setitimer(ITIMER_REAL, &often, NULL);
    work();
    setitimer(ITIMER_REAL, &never, NULL);
    assert_true(atomic_load(&handled) > 100);
    assert_in_range(live_objects("on_alarm"), 0, PER_HANDLER);
    for (int i = 0; i < PER_HANDLER; i++)
        free(atomic_exchange(&kept[i], NULL));
    assert_int_equal(live_objects("on_alarm"), 0);
    assert_int_equal(cprof_set_mem_profile_rate(0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_handlers_allocate_at_any_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
