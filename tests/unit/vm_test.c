/* SPDX-License-Identifier: MIT
 *
 * A virtual machine of twenty lines meets the core: its frames stand in their places among the native ones,
 * its own native frames are not shown, keys of two states differ, entries leave with their state, and states
 * of other threads are left alone.
 */
#include "test.h"

#include "cprof.h"
#include "cprof_vm.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))
#define STAY __asm__ volatile("")

/* A state is its stack of frames, innermost last. */
struct fake {
    cprof_vm_frame frames[16];
    size_t count;
    cprof_vm_state *attached;
    pthread_t walker; /* the thread that walked it last */
    int walks;
};

static size_t walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                   size_t max, int *truncated)
{
    struct fake *fake = state;
    fake->walker = pthread_self();
    fake->walks++;
    size_t skipped = 0;
    if (!running) { /* what runs here is what was called from here */
        for (; skipped < fake->count; skipped++) {
            const cprof_vm_frame *frame = &fake->frames[fake->count - 1 - skipped];
            size_t i = 0;
            while (i < native->count && native->starts[i] != frame->entry)
                i++;
            if (frame->entry && i < native->count)
                break;
        }
    }
    size_t count = 0;
    for (size_t i = fake->count - skipped; i-- > 0;) {
        if (count == max) {
            *truncated = 1;
            break;
        }
        frames[count++] = fake->frames[i];
    }
    return count;
}

typedef int (*native_function)(struct fake *fake);

static NOINLINE int interpret(struct fake *fake, native_function function)
{
    int code = function(fake);
    STAY;
    return code;
}

/* The API: runs the VM's function NAME at LINE, which calls FUNCTION. */
static NOINLINE int fake_call(struct fake *fake, const char *name, int64_t line, native_function function)
{
    cprof_vm_function_key key = {"fake.vm", 7, 1, 100, strlen(name), name};
    const cprof_vm_function *vm_function;
    assert_int_equal(cprof_vm_function_intern(&key, name, &vm_function), 0);
    fake->frames[fake->count++] = (cprof_vm_frame){cprof_vm_function_address(vm_function, line), 0, 0};
    fake->frames[fake->count++] = (cprof_vm_frame){1, (uint64_t)(uintptr_t)function, 0};
    int code = interpret(fake, function);
    fake->count -= 2;
    STAY;
    return code;
}

static const void *const entry_points[] = {(const void *)fake_call};
static const cprof_vm fake_vm = {.struct_size = sizeof fake_vm,
                                 .name = "fake",
                                 .entry_points = entry_points,
                                 .entry_point_count = 1,
                                 .walk = walk};

static cprof_profile *profile;
static struct fake one, two;
static char c_key;

static NOINLINE int vm_add(struct fake *fake)
{
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    options.skip = 0;
    int code = cprof_vm_add(fake->attached, fake, profile, cprof_vm_next_key(fake->attached), &options);
    STAY;
    return code;
}

static NOINLINE int c_add(struct fake *fake)
{
    (void)fake;
    int code = cprof_profile_add(profile, &c_key, 1);
    STAY;
    return code;
}

static NOINLINE int helper(struct fake *fake)
{
    int code = fake_call(fake, "inner", 7, vm_add);
    STAY;
    return code;
}

static NOINLINE int callback(struct fake *fake)
{
    int code = helper(fake);
    STAY;
    return code;
}

static NOINLINE int other_state(struct fake *fake)
{
    (void)fake;
    int code = fake_call(&two, "second", 3, vm_add);
    STAY;
    return code;
}

/* The names of the one sample's frames up to the function WANTED ends with. */
static void expect_stack(const char *wanted)
{
    cprof_snapshot *snapshot;
    cprof_sample sample;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample_count(snapshot), 1);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    char text[1024] = "";
    for (size_t i = 0; i < sample.frame_count && strncmp(sample.frames[i].name, "test_", 5) != 0 &&
                       strcmp(sample.frames[i].name, "run_on_thread") != 0;
         i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " < " : "",
                 sample.frames[i].name);
    assert_string_equal(text, wanted);
    cprof_snapshot_free(snapshot);
}

static int set_up(void **state)
{
    (void)state;
    static int number;
    char name[32];
    snprintf(name, sizeof name, "vm.%d", number++);
    assert_int_equal(cprof_profile_new(name, NULL, &profile), 0);
    assert_int_equal(cprof_vm_attach(&fake_vm, &one, &one.attached), 0);
    assert_int_equal(cprof_vm_attach(&fake_vm, &two, &two.attached), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cprof_profile_remove(profile, &c_key);
    cprof_vm_detach(one.attached);
    cprof_vm_detach(two.attached);
    assert_int_equal(cprof_profile_count(profile), 0); /* their entries are gone */
    return 0;
}

static void test_simple(void **state)
{
    (void)state;
    assert_int_equal(fake_call(&one, "outer", 5, vm_add), 0);
    expect_stack("vm_add < outer");
}

static void test_nested(void **state)
{
    (void)state;
    assert_int_equal(fake_call(&one, "outer", 5, callback), 0);
    expect_stack("vm_add < inner < helper < callback < outer");
}

static void test_from_c(void **state)
{
    (void)state;
    assert_int_equal(fake_call(&one, "outer", 5, c_add), 0);
    expect_stack("c_add < outer");
}

static void test_two_states(void **state)
{
    (void)state;
    assert_int_equal(fake_call(&one, "first", 5, other_state), 0);
    expect_stack("vm_add < second < other_state < first");
}

static void test_idle_states_do_not_show(void **state)
{
    (void)state;
    assert_int_equal(c_add(NULL), 0);
    expect_stack("c_add");
}

static void test_keys(void **state)
{
    (void)state;
    assert_int_equal(cprof_vm_add(one.attached, &one, profile, 1, NULL), 0);
    assert_int_equal(cprof_vm_add(two.attached, &two, profile, 1, NULL), 0);
    assert_int_equal(cprof_vm_add(two.attached, &two, profile, 1, NULL), CPROF_EEXIST);
    assert_int_equal(cprof_profile_add(profile, (void *)1, 1), 0);
    assert_int_equal(cprof_profile_count(profile), 3);
    assert_int_equal(cprof_vm_remove(one.attached, profile, 1), 0);
    assert_int_equal(cprof_vm_remove(one.attached, profile, 1), CPROF_ENOENT);
    assert_int_equal(cprof_profile_count(profile), 2);
    assert_int_equal(cprof_profile_remove(profile, (void *)1), 0);
}

static void *add_from_thread(void *argument)
{
    (void)argument;
    assert_int_equal(c_add(NULL), 0);
    return NULL;
}

static void *run_on_thread(void *argument)
{
    cprof_vm_adopt(one.attached);
    assert_int_equal(fake_call(argument, "outer", 5, c_add), 0);
    return NULL;
}

static void test_threads_read_their_own_states(void **state)
{
    (void)state;
    pthread_t thread;
    one.walks = two.walks = 0;
    pthread_create(&thread, NULL, add_from_thread, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(one.walks + two.walks, 0);
    assert_int_equal(cprof_profile_remove(profile, &c_key), 0);
    pthread_create(&thread, NULL, run_on_thread, &one);
    pthread_join(thread, NULL);
    assert_true(one.walks > 0 && pthread_equal(one.walker, thread));
    expect_stack("c_add < outer");
}

static void test_bad_vm(void **state)
{
    (void)state;
    cprof_vm bad = fake_vm;
    cprof_vm_state *untouched = one.attached, *out = untouched;
    bad.struct_size = 3;
    assert_int_equal(cprof_vm_attach(&bad, &one, &out), CPROF_EINVAL);
    assert_int_equal(cprof_vm_attach(&fake_vm, NULL, &out), CPROF_EINVAL);
    assert_ptr_equal(out, untouched);
    cprof_vm_detach(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_simple, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nested, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_from_c, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_idle_states_do_not_show, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads_read_their_own_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_vm, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}
