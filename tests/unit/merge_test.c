/* SPDX-License-Identifier: MIT
 *
 * How VM frames are woven into native ones, on stacks written down by hand. Native functions start at 0x100,
 * 0x200 …; a pc is its function's start + 5. API functions of the VM: 0xa00, 0xb00; its interpreter: 0xe00.
 */
#include "test.h"

#include "core/merge.h"

#include <string.h>

#define VM(N) (UINT64_C(0x10000000000000) + (N))
#define COMPILED 0xc00 /* stands for 0: of such code no function is known */

static uint64_t api_slots[8];
static cprof__entry_set api = {api_slots, 7, 0, 0, 0};

static void add_api(uint64_t start)
{
    uint32_t i = (uint32_t)(start >> 4) & api.mask;
    while (api_slots[i])
        i = (i + 1) & api.mask;
    api_slots[i] = start;
}

struct given {
    uint64_t starts[16]; /* 0 ends */
    cprof_vm_frame frames[8];
    size_t frame_count;
    bool leave_out_helpers;
    size_t max;
};

/* Merges GIVEN and checks the frames, as starts of functions, and the place where the state was entered. */
static void expect(const struct given *given, const uint64_t *frames, size_t count, size_t place, bool cut)
{
    uint64_t pcs[16], starts[16], merged[32];
    size_t native_count = 0;
    for (; given->starts[native_count]; native_count++) {
        pcs[native_count] = given->starts[native_count] + 5;
        starts[native_count] = given->starts[native_count] == COMPILED ? 0 : given->starts[native_count];
    }
    cprof_vm_native native = {pcs, starts, native_count};
    cprof__merged out = {merged, 0, given->max ? given->max : 32, false};
    size_t after = cprof__merge_state(&out, &native, 0, &api, given->frames, given->frame_count,
                                      given->leave_out_helpers);
    assert_int_equal(out.count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(out.frames[i] >= VM(0) ? out.frames[i] : out.frames[i] - 5, frames[i]);
    assert_int_equal(after, place);
    assert_int_equal(out.cut, cut);
}

#define EXPECT(GIVEN, PLACE, CUT, ...)                                                                       \
    do {                                                                                                     \
        const uint64_t frames_[] = {__VA_ARGS__};                                                            \
        expect((GIVEN), frames_, sizeof frames_ / sizeof frames_[0], (PLACE), (CUT));                        \
    } while (0)

/* cprof <- add <- interpreter <- lua_pcall <- helper <- host <- interpreter <- lua_call <- main */
static void test_nested(void **state)
{
    (void)state;
    struct given given = {{0x900, 0x100, 0xe00, 0xa00, 0x200, 0x300, 0xe00, 0xb00, 0x400, 0},
                          {{VM(1), 0x100, 0}, {VM(2), 0, 0}, {VM(3), 0x300, 0}, {VM(4), 0, 0}},
                          4,
                          true,
                          0};
    EXPECT(&given, 8, false, 0x100, VM(2), 0x200, 0x300, VM(4));
    given.frames[2].flags = CPROF_VM_RUNTIME;
    EXPECT(&given, 8, false, 0x100, VM(2), 0x300, VM(4));
    given.leave_out_helpers = false;
    EXPECT(&given, 8, false, 0x900, 0x100, VM(2), 0x300, VM(4));
}

static void test_api_calls_api(void **state)
{
    (void)state;
    struct given given = {
        {0x100, 0xe00, 0xa00, 0xb00, 0x400, 0}, {{VM(1), 0x100, 0}, {VM(2), 0, 0}}, 2, true, 0};
    EXPECT(&given, 4, false, 0x100, VM(2));
}

/* A function that the VM runs without a native frame (LuaJIT's pcall) keeps its own address. */
/* A sample in compiled code, or in what it called of the VM's: host <- helper <- interpreter <- compiled (<- 0xd00). */
static void test_compiled(void **state)
{
    (void)state;
    struct given given = {{COMPILED, 0xe00, 0x200, 0x300, 0xe00, 0xb00, 0x400, 0},
                          {{VM(1), 0, 0}, {VM(2), 0x300, 0}, {VM(3), 0, 0}},
                          3,
                          true,
                          0};
    EXPECT(&given, 6, false, VM(1), 0x200, 0x300, VM(3));
    const uint64_t helped[] = {0xd00, COMPILED, 0xe00, 0x200, 0x300, 0xe00, 0xb00, 0x400, 0};
    memcpy(given.starts, helped, sizeof helped);
    EXPECT(&given, 7, false, VM(1), 0x200, 0x300, VM(3));
}

/* The interpreter is known for an entry point: lua_call and lua_resume leave by a jump into it. 0xd00 and 0xd80 are the
 * VM's own, as a collector that calls a finalizer, which C code or compiled code had caused. */
static void test_interpreter(void **state)
{
    (void)state;
    struct given nested = {{0x100, 0xe00, 0x200, 0x300, 0xe00, 0x400, 0},
                           {{VM(1), 0x100, 0}, {VM(2), 0, 0}, {VM(3), 0x300, 0}, {VM(4), 0, 0}},
                           4,
                           true,
                           0};
    struct given finalizer = {{0x100, 0xe00, 0xd00, 0xd80, COMPILED, 0xe00, 0xe00, 0x400, 0x500, 0xe00, 0},
                              {{VM(1), 0x100, 0}, {VM(2), 0, 0}},
                              2,
                              true,
                              0};
    struct given inner = finalizer;
    inner.starts[2] = 0x200; /* the host's, between two states */
    struct given unknown = finalizer;
    unknown.starts[7] = 0xa00;
    add_api(0xe00);
    api.interpreter = 0xe00;
    api.own_low = 0xd00;
    api.own_high = 0xe80;
    EXPECT(&nested, 5, false, 0x100, VM(2), 0x200, 0x300, VM(4));
    EXPECT(&finalizer, 7, false, 0x100, VM(2));
    EXPECT(&inner, 2, false, 0x100, VM(2));
    /* Where the VM's own are not known, the API tells. */
    api.own_low = api.own_high = 0;
    EXPECT(&nested, 5, false, 0x100, VM(2), 0x200, 0x300, VM(4));
    EXPECT(&unknown, 8, false, 0x100, VM(2));
}

static void test_no_native_frame(void **state)
{
    (void)state;
    struct given given = {{0x100, 0xe00, 0xa00, 0x400, 0},
                          {{VM(1), 0x100, 0}, {VM(2), 0, 0}, {VM(3), 0, 0}, {VM(4), 0x777, 0}, {VM(5), 0, 0}},
                          5,
                          true,
                          0};
    EXPECT(&given, 3, false, 0x100, VM(2), VM(3), VM(4), VM(5));
}

/* The same function twice on the stack is taken in order. */
static void test_recursion(void **state)
{
    (void)state;
    struct given given = {
        {0x100, 0xe00, 0xa00, 0x200, 0xe00, 0xa00, 0x200, 0xe00, 0xb00, 0},
        {{VM(1), 0x100, 0}, {VM(2), 0x200, 0}, {VM(3), 0, 0}, {VM(4), 0x200, 0}, {VM(5), 0, 0}},
        5,
        true,
        0};
    EXPECT(&given, 9, false, 0x100, 0x200, VM(3), 0x200, VM(5));
}

static void test_lost_root(void **state)
{
    (void)state;
    struct given given = {{0x100, 0xe00, 0}, {{VM(1), 0x100, 0}, {VM(2), 0, 0}}, 2, true, 0};
    EXPECT(&given, 2, false, 0x100, VM(2));
}

static void test_cut(void **state)
{
    (void)state;
    struct given given = {{0x100, 0xe00, 0xa00, 0x400, 0}, {{VM(1), 0x100, 0}, {VM(2), 0, 0}}, 2, true, 1};
    EXPECT(&given, 3, true, 0x100);
}

int main(void)
{
    add_api(0xa00);
    add_api(0xb00);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_api_calls_api),
        cmocka_unit_test(test_no_native_frame),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_compiled),
        cmocka_unit_test(test_lost_root),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_interpreter), /* the last: from here on it is an entry point */
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
