/* SPDX-License-Identifier: MIT
 *
 * VMs of a few lines are sampled: one that throws an error out of its safepoint, and one whose safepoint comes late.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof_vm.h"
#include "sampling.h"

#include <stdatomic.h>

/* ---- A VM that throws ---- */

static jmp_buf out_of_walk;
static atomic_ullong ticket;

static size_t throwing_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                            size_t max, int *truncated)
{
    (void)state;
    (void)running;
    (void)native;
    (void)frames;
    (void)max;
    (void)truncated;
    longjmp(out_of_walk, 1);
}

static int look(const cprof_vm_signal *signal, cprof_vm_moment *moment)
{
    (void)signal;
    moment->state = &ticket;
    moment->running = &ticket;
    moment->place[0] = atomic_load(&ticket); /* no moment is like the last */
    return 1;
}

static int request(const cprof_vm_moment *moment, uint64_t number)
{
    (void)moment;
    atomic_store(&ticket, number);
    return 1;
}

/* The VM's API, which runs until a safepoint is asked for. */
static NOINLINE uint64_t vm_call(void)
{
    uint64_t seen = atomic_load(&ticket);
    for (time_t until = time(NULL) + 60; atomic_load(&ticket) == seen;)
        assert_true(time(NULL) < until);
    return atomic_load(&ticket);
}

static const void *const vm_entries[] = {(const void *)vm_call};
static const cprof_vm throwing_vm = {.struct_size = sizeof throwing_vm,
                                     .name = "throwing",
                                     .entry_points = vm_entries,
                                     .entry_point_count = 1,
                                     .walk = throwing_walk,
                                     .look = look,
                                     .request = request};

/* Further in than what runs next. */
static NOINLINE void reach_safepoint(cprof_vm_state *vm_state, uint64_t number)
{
    volatile char room[4096];
    room[0] = 0;
    cprof_vm_safepoint(vm_state, number, &ticket, 0);
    room[1] = room[0];
}

/* An error thrown out of a safepoint leaves nothing closed: there is another request each time. */
static void test_throwing(void **state)
{
    (void)state;
    cprof_vm_state *attached = NULL;
    if (!SIGNALS_COME)
        skip();
    assert_int_equal(cprof_vm_attach(&throwing_vm, &ticket, &attached), 0);
    cprof_recording *recording = start(1000);
    for (volatile int i = 0; i < 5; i++) {
        uint64_t number = vm_call();
        if (setjmp(out_of_walk) == 0)
            reach_safepoint(attached, number);
    }
    burn(50);
    cprof_snapshot *data = stop(recording);
    assert_true(sum(data, 1, "vm_call") > 0 || sum(data, 1, "[lua: no safepoint]") > 0);
    expect_burn(data);
    cprof_vm_detach(attached);
}

/* ---- A VM whose safepoint comes late ---- */

static size_t patient_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                           size_t max, int *truncated)
{
    (void)running;
    (void)native;
    (void)max;
    *truncated = 0;
    frames[0] = (cprof_vm_frame){.address = cprof_vm_function_address(state, 0)};
    return 1;
}

static int patient_look(const cprof_vm_signal *signal, cprof_vm_moment *moment)
{
    (void)signal;
    moment->place[0] = 1;
    return 1;
}

/* The VM's API: a recording begins and ends in it. */
static NOINLINE void patient_call(void)
{
    burn(50);
    cprof_recording *passing = start(1000);
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    burn(50);
    uint64_t used_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns;
    cprof_snapshot *data = stop(passing);
    assert_true(sum(data, 1, "[lua: no safepoint]") > 0);
    assert_true(sum(data, 1, NULL) < (int64_t)used_ns + 20000000); /* and not what was before */
    cprof_snapshot_free(data);
    burn(50);
}

/* What waits for a safepoint goes on waiting when another recording ends. */
static void test_waiting(void **state)
{
    static const void *const entries[] = {(const void *)patient_call};
    static const cprof_vm vm = {.struct_size = sizeof vm,
                                .name = "patient",
                                .entry_points = entries,
                                .entry_point_count = 1,
                                .walk = patient_walk,
                                .look = patient_look,
                                .request = request};
    const cprof_vm_function_key key = {"patient.lua", 11, 1, 9, 0, NULL};
    const cprof_vm_function *function;
    cprof_vm_state *attached = NULL;
    (void)state;
    if (!SIGNALS_COME)
        skip();
    assert_int_equal(cprof_vm_function_intern(&key, "patient", &function), 0);
    assert_int_equal(cprof_vm_attach(&vm, (void *)function, &attached), 0);
    cprof_recording *recording = start(1000);
    patient_call();
    cprof_vm_safepoint(attached, atomic_load(&ticket), NULL, 0);
    cprof_snapshot *data = stop(recording);
    assert_int_equal(sum(data, 1, "[lua: no safepoint]"), 0);
    assert_true(sum(data, 1, "patient") > 0);
    cprof_snapshot_free(data);
    cprof_vm_detach(attached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_throwing), cmocka_unit_test(test_waiting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
