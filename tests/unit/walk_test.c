/* SPDX-License-Identifier: MIT
 *
 * Walks against libunwind: the stacks of an optimised program, from inside and from every instruction of it;
 * then from signal handlers, small threads and coroutines, where a walk must know by itself that it has come
 * to the root.
 */
#define _GNU_SOURCE
#include "test.h"

#include "base/thread.h"
#include "core/code.h"
#include "maze.h"

#define UNW_LOCAL_ONLY
#include <libunwind.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAMES_MAX 512

#ifdef WALK_TEST_SANITIZED /* whose frames are large */
#define SMALL_STACK_BYTES (256 * 1024)
#else
#define SMALL_STACK_BYTES (16 * 1024)
#endif

/* ---- The judge ---- */

/* The pcs as cprof__walk writes them, by libunwind, from CONTEXT. */
static size_t judge(unw_context_t *context, bool from_signal, uint64_t *pcs)
{
    unw_cursor_t cursor;
    unw_word_t pc;
    size_t count = 0;
    bool exact = true;
    assert_int_equal(unw_init_local2(&cursor, context, from_signal ? UNW_INIT_SIGNAL_FRAME : 0), 0);
    do {
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        if (!pc)
            break;
        pcs[count++] = exact ? pc : pc - 1;
        exact = unw_is_signal_frame(&cursor) > 0;
    } while (count < FRAMES_MAX && unw_step(&cursor) > 0);
    return count;
}

typedef struct tally {
    unsigned stacks, agreed;
    size_t frames;
    unsigned shown;
} tally;

/* Compares from frame FIRST on; the frames before it are the test's own. */
static void compare(tally *t, const uint64_t *ours, size_t count, const uint64_t *theirs, size_t their_count,
                    size_t first, cprof__walk_end end)
{
    bool same = count == their_count && count >= first && end == CPROF__WALK_ROOT &&
                memcmp(ours + first, theirs + first, (count - first) * sizeof *ours) == 0;
    t->stacks++;
    t->frames += count;
    t->agreed += same;
    if (same || t->shown++ >= 3)
        return;
    print_message("stack %u: %zu frames (end %d), libunwind %zu\n", t->stacks, count, end, their_count);
    for (size_t i = 0; i < count || i < their_count; i++)
        print_message("  %12lx %12lx\n", i < count ? ours[i] : 0, i < their_count ? theirs[i] : 0);
}

__attribute__((noinline)) static void visit(void *context)
{
    uint64_t ours[FRAMES_MAX], theirs[FRAMES_MAX];
    cprof__regs regs;
    cprof__walk_end end;
    unw_context_t here;
    CPROF__REGS_HERE(&regs);
    size_t count = cprof__code_capture(&regs, ours, FRAMES_MAX, &end);
    unw_getcontext(&here);
    compare(context, ours, count, theirs, judge(&here, false, theirs), 1, end);
}

static void test_stacks(void **state)
{
    (void)state;
    tally t = {0};
    for (uint64_t seed = 0; t.stacks < 10000; seed++)
        maze_run(seed, (int)(seed % 40), false, visit, &t);
    print_message("walk: %u of %u stacks agree with libunwind to the root, %.1f frames each\n", t.agreed,
                  t.stacks, (double)t.frames / t.stacks);
    assert_true(t.agreed >= t.stacks * 99 / 100);
}

/* ---- From every instruction ---- */

#define TRAP_FLAG 0x100
#define STEPS_MAX 40000

static tally stepped;
static volatile sig_atomic_t stepping;
static uint64_t stack_low, stack_high;

static void trap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    ucontext_t *uc = context;
    greg_t *r = uc->uc_mcontext.gregs;
    if (!stepping || stepped.stacks >= STEPS_MAX) {
        r[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        return;
    }
    uint64_t ours[FRAMES_MAX], theirs[FRAMES_MAX];
    cprof__regs regs = {(uint64_t)r[REG_RIP], (uint64_t)r[REG_RSP], (uint64_t)r[REG_RBP]};
    cprof__walk_end end;
    bool transient;
    size_t count =
        cprof__walk(cprof__code_current(), &regs, &(cprof__walk_memory){stack_low, stack_high, false}, ours,
                    FRAMES_MAX, &end, &transient);
    compare(&stepped, ours, count, theirs, judge(uc, true, theirs), 0, end);
}

static void nothing(void *context)
{
    (void)context;
}

static void test_instructions(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO}, before;
    assert_int_equal(cprof__code_load_all(), 0);
    sigaction(SIGTRAP, &action, &before);
    stack_low = cprof__thread_self()->stack_low;
    stack_high = cprof__thread_self()->stack_high;
    stepping = 1;
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    for (uint64_t seed = 1; seed < 400 && stepped.stacks < STEPS_MAX; seed++)
        maze_run(seed, (int)(seed % 8), true, nothing, NULL);
    stepping = 0;
    __asm__ volatile("nop");
    sigaction(SIGTRAP, &before, NULL);
    print_message("walk: %u of %u instructions agree with libunwind to the root\n", stepped.agreed,
                  stepped.stacks);
    assert_true(stepped.stacks >= 10000);
    assert_true(stepped.agreed >= stepped.stacks / 100 * 99);
}

/* ---- Where a walk must find the root by itself ---- */

typedef struct seen {
    uint64_t pcs[FRAMES_MAX];
    size_t count;
    cprof__walk_end end;
} seen;

static seen last;

__attribute__((noinline)) static void capture(void *context)
{
    seen *s = context;
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    s->count = cprof__code_capture(&regs, s->pcs, FRAMES_MAX, &s->end);
}

static bool passes_through(const seen *s, const void *function)
{
    for (size_t i = 0; i < s->count; i++)
        if (cprof__code_function_start(s->pcs[i]) == (uint64_t)(uintptr_t)function)
            return true;
    return false;
}

static void on_signal(int number)
{
    (void)number;
    capture(&last);
    __asm__ volatile(""); /* no tail call */
}

static void raise_signal(void *context)
{
    (void)context;
    raise(SIGUSR1);
    __asm__ volatile("");
}

static void test_through_handler(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (uint64_t seed = 0; seed < 50; seed++) {
        last.count = 0;
        maze_run(seed, 12, false, raise_signal, NULL);
        assert_int_equal(last.end, CPROF__WALK_ROOT);
        assert_true(passes_through(&last, (void *)(uintptr_t)on_signal));
        assert_true(passes_through(&last, (void *)(uintptr_t)raise_signal));
        assert_true(passes_through(&last, (void *)(uintptr_t)maze_run));
    }
}

static void test_alternate_stack(void **state)
{
    (void)state;
    stack_t stack = {.ss_size = 256 * 1024}, none = {.ss_flags = SS_DISABLE};
    stack.ss_sp = malloc(stack.ss_size);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise_signal(NULL);
    sigaltstack(&none, NULL);
    free(stack.ss_sp);
    assert_int_equal(last.end, CPROF__WALK_ROOT);
    assert_true(passes_through(&last, (void *)(uintptr_t)test_alternate_stack));
}

static void *small_thread(void *context)
{
    capture(context);
    return context;
}

static void test_small_thread(void **state)
{
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, SMALL_STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, small_thread, &last), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    assert_int_equal(last.end, CPROF__WALK_ROOT);
    assert_true(passes_through(&last, (void *)(uintptr_t)small_thread));
}

static ucontext_t main_context, coroutine_context;

static void coroutine(void)
{
    maze_run(7, 20, false, capture, &last);
    __asm__ volatile("");
}

/* The stack is the host's own: we are not told where it begins and ends. */
static void test_coroutine(void **state)
{
    (void)state;
    size_t size = 1024 * 1024;
    char *stack = malloc(size);
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = stack;
    coroutine_context.uc_stack.ss_size = size;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
    swapcontext(&main_context, &coroutine_context);
    free(stack);
    assert_int_equal(last.end, CPROF__WALK_ROOT);
    assert_true(last.count > 20);
    assert_true(passes_through(&last, (void *)(uintptr_t)coroutine));
    assert_false(passes_through(&last, (void *)(uintptr_t)test_coroutine));
}

/* ---- Where a walk must stop ---- */

static void test_limits(void **state)
{
    (void)state;
    cprof__regs regs;
    uint64_t pcs[FRAMES_MAX];
    cprof__walk_end end;
    CPROF__REGS_HERE(&regs);
    size_t all = cprof__code_capture(&regs, pcs, FRAMES_MAX, &end);
    assert_int_equal(end, CPROF__WALK_ROOT);
    for (size_t max = 1; max < all; max++) {
        uint64_t fewer[FRAMES_MAX];
        assert_int_equal(cprof__code_capture(&regs, fewer, max, &end), max);
        assert_int_equal(end, CPROF__WALK_FULL);
        assert_memory_equal(fewer, pcs, max * sizeof *pcs);
    }
    assert_int_equal(cprof__code_capture(&regs, pcs, all, &end), all);
    assert_int_equal(end, CPROF__WALK_ROOT);
}

/* Registers that make no sense, over the stack as it is: any end is good but a fault or a stack without end. */
static void test_garbage(void **state)
{
    (void)state;
    uint64_t here = (uint64_t)(uintptr_t)&here, random = 1;
    assert_int_equal(cprof__code_load_all(), 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t words[3];
        for (int k = 0; k < 3; k++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            words[k] = random >> 20;
        }
        cprof__regs regs = {
            .pc = (uint64_t)(uintptr_t)(i % 2 ? (void *)(uintptr_t)test_garbage : (void *)(uintptr_t)qsort) +
                  words[0] % 4096,
            .sp = i % 3 ? here + words[1] % 2048 : words[1],
            .fp = i % 5 ? here + words[2] % 4096 : words[2] << (i % 20)};
        uint64_t pcs[64];
        cprof__walk_end end;
        size_t count = cprof__code_capture(&regs, pcs, 64, &end);
        assert_true(count >= 1 && count <= 64);
    }
}

static void test_unknown_code(void **state)
{
    (void)state;
    cprof__regs regs = {.pc = 0x10000, .sp = (uint64_t)(uintptr_t)&regs, .fp = 0};
    uint64_t pcs[8];
    cprof__walk_end end;
    assert_int_equal(cprof__code_capture(&regs, pcs, 8, &end), 1);
    assert_int_equal(end, CPROF__WALK_UNKNOWN);
    assert_int_equal(pcs[0], 0x10000);
    assert_int_equal(cprof__code_function_start(0x10000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_thread), /* first: what is loaded once is then loaded there */
        cmocka_unit_test(test_stacks),          cmocka_unit_test(test_instructions),
        cmocka_unit_test(test_through_handler), cmocka_unit_test(test_alternate_stack),
        cmocka_unit_test(test_coroutine),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_garbage),         cmocka_unit_test(test_unknown_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
