/* SPDX-License-Identifier: MIT
 *
 * One stack of a sample's native frames and of what a safepoint told later: the VM's own functions are left out, a
 * native function that the VM had called is the leaf with its helpers, the collector's time is a leaf of its own, and
 * what no safepoint told is named.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/code.h"
#include "core/stacks.h"
#include "core/vmcode.h"
#include "cprof_vm.h"
#include "sampler/weave.h"

#include <string.h>

#define CODE(NAME)                                                                                           \
    static __attribute__((noinline, noclone)) int NAME(int x)                                                \
    {                                                                                                        \
        __asm__ volatile("" : "+r"(x));                                                                      \
        return x;                                                                                            \
    }

/* Functions of a program, known by their addresses alone. */
CODE(interpreter)
CODE(table_get)
CODE(api_call)
CODE(api_push)
CODE(called)
CODE(helper)
CODE(host)

static cprof__weaving room;

static const void *const entry_points[] = {(const void *)api_call, (const void *)api_push};
static const char *const activities[] = {"gc", NULL};

static size_t no_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                      size_t max, int *truncated)
{
    (void)state, (void)running, (void)native, (void)frames, (void)max, (void)truncated;
    return 0;
}

static const cprof_vm vm = {.struct_size = sizeof vm,
                            .name = "fake",
                            .entry_points = entry_points,
                            .entry_point_count = 2,
                            .walk = no_walk,
                            .activities = activities};

static const cprof__vm_kind *kind;

static uint64_t start_of(int (*function)(int))
{
    return (uint64_t)(uintptr_t)function;
}

static uint64_t inside(int (*function)(int))
{
    return start_of(function) + 1;
}

/* A sample of the COUNT FUNCTIONS, leaf first. */
static cprof__sample *sample_of(int (*const *functions)(int), size_t count)
{
    static union {
        cprof__sample sample;
        uint64_t room[CPROF__SAMPLE_WORDS + 16];
    } space;
    memset(&space, 0, sizeof space);
    space.sample.vm = &vm;
    space.sample.end = CPROF__WALK_ROOT;
    space.sample.count = count;
    for (size_t i = 0; i < count; i++)
        space.sample.pcs[i] = inside(functions[i]);
    return &space.sample;
}

/* Whether stack NUMBER is the COUNT FRAMES. */
static void assert_stack(uint32_t number, const uint64_t *frames, size_t count)
{
    assert_int_not_equal(number, 0);
    cprof__stack stack = cprof__stacks_get(number);
    assert_int_equal(stack.depth, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(stack.frames[i], frames[i]);
}

static cprof_vm_frame f = {.address = CPROF_VM_ADDRESS_MIN + 100},
                      g = {.address = CPROF_VM_ADDRESS_MIN + 200};

static cprof__vm_frames told(const cprof_vm_frame *frames, size_t count)
{
    return (cprof__vm_frames){.segments = {{kind, frames, count}}, .count = 1};
}

static void test_vm_code(void **state)
{
    (void)state;
    int (*const native[])(int) = {table_get, interpreter, api_call, host};
    const cprof_vm_frame frames[] = {f, g};
    cprof__vm_frames vm_frames = told(frames, 2);
    bool unresolved;
    uint32_t number = cprof__weave(&room, sample_of(native, 4), &vm_frames, &unresolved);
    const uint64_t wanted[] = {f.address, g.address, inside(host)};
    assert_stack(number, wanted, 3);
    assert_false(unresolved);
}

static void test_called_function(void **state)
{
    (void)state;
    int (*const native[])(int) = {helper, called, interpreter, api_call, host};
    cprof_vm_frame c = {.address = CPROF_VM_ADDRESS_MIN + 300, .entry = start_of(called)};
    const cprof_vm_frame at_return[] = {c, f}, returned_unseen[] = {f};
    const uint64_t wanted[] = {inside(helper), inside(called), f.address, inside(host)};
    bool unresolved;
    cprof__sample *sample = sample_of(native, 5);
    sample->entry = start_of(called);
    cprof__vm_frames vm_frames = told(at_return, 2);
    assert_stack(cprof__weave(&room, sample, &vm_frames, &unresolved), wanted, 4);
    assert_false(unresolved);
    vm_frames = told(returned_unseen, 1);
    assert_stack(cprof__weave(&room, sample, &vm_frames, &unresolved), wanted, 4);
    assert_false(unresolved);
}

/* What a called function asked of the API is time of its own. */
static void test_api_inside(void **state)
{
    (void)state;
    int (*const native[])(int) = {table_get, api_push, helper, called, interpreter, api_call, host};
    cprof_vm_frame c = {.address = CPROF_VM_ADDRESS_MIN + 300, .entry = start_of(called)};
    const cprof_vm_frame frames[] = {c, f};
    const uint64_t wanted[] = {inside(helper), inside(called), f.address, inside(host)};
    bool unresolved;
    cprof__sample *sample = sample_of(native, 7);
    sample->entry = start_of(called);
    cprof__vm_frames vm_frames = told(frames, 2);
    assert_stack(cprof__weave(&room, sample, &vm_frames, &unresolved), wanted, 4);
}

static void test_collector(void **state)
{
    (void)state;
    int (*const native[])(int) = {table_get, interpreter, api_call, host};
    const cprof_vm_frame frames[] = {f};
    const uint64_t wanted[] = {cprof__vmcode_special("[gc]"), f.address, inside(host)};
    bool unresolved;
    cprof__sample *sample = sample_of(native, 4);
    sample->activity = 1;
    cprof__vm_frames vm_frames = told(frames, 1);
    assert_stack(cprof__weave(&room, sample, &vm_frames, &unresolved), wanted, 3);
}

static void test_no_safepoint(void **state)
{
    (void)state;
    int (*const native[])(int) = {helper, called, interpreter, api_call, host};
    const uint64_t marker = cprof__vmcode_special("[lua: no safepoint]");
    const uint64_t in_called[] = {inside(helper), inside(called), marker, inside(host)};
    const uint64_t in_vm[] = {marker, inside(host)};
    bool unresolved;
    cprof__sample *sample = sample_of(native, 5);
    assert_stack(cprof__weave(&room, sample, NULL, &unresolved), in_vm, 2);
    assert_true(unresolved);
    sample->entry = start_of(called);
    assert_stack(cprof__weave(&room, sample, NULL, &unresolved), in_called, 4);
    assert_true(unresolved);
    cprof__vm_frames nothing = {.count = 0};
    assert_stack(cprof__weave(&room, sample, &nothing, &unresolved), in_called, 4);
    assert_true(unresolved);
}

static void test_without_vm(void **state)
{
    (void)state;
    int (*const native[])(int) = {helper, called, host};
    const uint64_t wanted[] = {inside(helper), inside(called), inside(host), 0};
    bool unresolved;
    cprof__sample *sample = sample_of(native, 3);
    sample->vm = NULL;
    assert_stack(cprof__weave(&room, sample, NULL, &unresolved), wanted, 3);
    assert_false(unresolved);
    sample->end = CPROF__WALK_BROKEN;
    uint64_t stopped[] = {wanted[0], wanted[1], wanted[2], cprof__vmcode_special("[unwinding stopped]")};
    assert_stack(cprof__weave(&room, sample, NULL, &unresolved), stopped, 4);
    sample->end = CPROF__WALK_FULL;
    stopped[3] = cprof__vmcode_special("[truncated]");
    assert_stack(cprof__weave(&room, sample, NULL, &unresolved), stopped, 4);
}

static int setup(void **state)
{
    static int anything;
    cprof_vm_state *attached;
    *state = NULL;
    if (cprof__code_load_all() != 0 || cprof_vm_attach(&vm, &anything, &attached) != 0)
        return -1;
    kind = cprof__vm_kind_of(attached);
    return interpreter(0) + table_get(0) + api_call(0) + api_push(0) + called(0) + helper(0) + host(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vm_code),      cmocka_unit_test(test_called_function),
        cmocka_unit_test(test_api_inside),   cmocka_unit_test(test_collector),
        cmocka_unit_test(test_no_safepoint), cmocka_unit_test(test_without_vm),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
