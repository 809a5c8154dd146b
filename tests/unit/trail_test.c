/* SPDX-License-Identifier: MIT
 *
 * Walking again must give what walking gives: random call trees, in which consecutive stacks share outer
 * frames, differ in the middle or at the leaf only, or are the same, walked both ways at every node.
 */
#include "test.h"

#include "core/code.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 200
#define NOINLINE __attribute__((noinline, noclone))

static cprof__trail trail;
static size_t max = FRAMES_MAX;
static long walks, same_walks, joined_walks;
static unsigned seed = 1;

static unsigned next_random(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}

static NOINLINE void compare(void)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    uint64_t plain[FRAMES_MAX];
    cprof__walk_end end;
    size_t count = cprof__code_capture(&regs, plain, max, &end);
    size_t again = cprof__code_capture_again(&regs, &trail, max);
    const uint64_t *pcs = cprof__trail_pcs(&trail);
    assert_int_equal(again, count);
    assert_int_equal(trail.end, end);
    assert_memory_equal(pcs, plain, count * sizeof *plain);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += cprof__trail_term(plain[i], count - 1 - i);
    assert_true(cprof__trail_sum(&trail) == sum);
    walks++;
    same_walks += trail.fresh == 0;
    joined_walks += trail.fresh > 0 && trail.fresh < count;
}

static void descend(unsigned depth);

static NOINLINE void small(unsigned depth)
{
    descend(depth);
    __asm__ volatile("");
}

static NOINLINE void large(unsigned depth)
{
    char bytes[777];
    __asm__ volatile("" : : "r"(bytes) : "memory");
    descend(depth);
    __asm__ volatile("");
}

/* Has a frame pointer at any optimisation, and keeps the caller's. */
static NOINLINE void dynamic(unsigned depth)
{
    char *bytes = __builtin_alloca(16 + next_random(300));
    __asm__ volatile("" : : "r"(bytes) : "memory");
    descend(depth);
    __asm__ volatile("");
}

/* Uses all the registers that calls preserve, the frame pointer among them. */
static NOINLINE void busy(unsigned depth)
{
    unsigned a = next_random(9), b = next_random(9), c = next_random(9), d = next_random(9),
             e = next_random(9), f = next_random(9);
    for (unsigned i = 0; i < 2; i++) {
        descend(depth);
        a += b ^ i, b += c, c += d, d += e, e += f, f += a;
    }
    __asm__ volatile("" : : "r"(a + b + c + d + e + f));
}

static void descend(unsigned depth)
{
    static void (*const kinds[])(unsigned) = {small, large, dynamic, busy};
    compare();
    if (next_random(4) == 0)
        compare();
    for (unsigned children = depth ? next_random(3) : 0; children > 0; children--)
        kinds[next_random(4)](depth - 1);
    if (next_random(3) == 0)
        compare();
}

static void test_random_trees(void **state)
{
    (void)state;
    while (walks < 300000)
        descend(14);
    assert_true(same_walks > 0);
    print_message("trail: %ld walks, %ld the same, %ld joined\n", walks, same_walks, joined_walks);
    assert_true(joined_walks > walks / 2);
}

static NOINLINE void repeat(int times)
{
    while (times-- > 0)
        compare();
    __asm__ volatile("");
}

static NOINLINE void deep(unsigned depth)
{
    if (depth)
        deep(depth - 1);
    else
        repeat(3);
    __asm__ volatile("");
}

static void test_same(void **state)
{
    (void)state;
    long before = same_walks;
    repeat(100);
    assert_true(same_walks - before >= 99);
}

/* Stacks that are cut are the same only as wholes. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t limit = 1; limit <= 40; limit += 3) {
        max = limit;
        for (unsigned depth = 0; depth < 30; depth++)
            deep(depth);
    }
    max = FRAMES_MAX;
    deep(FRAMES_MAX + 20);
    repeat(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_trees), cmocka_unit_test(test_same),
                                       cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests_name("trail", tests, NULL, NULL);
}
