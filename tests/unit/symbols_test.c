/* SPDX-License-Identifier: MIT
 *
 * Names of addresses: inlined frames with their lines, functions that left by a tail call, stripped programs,
 * separate debug information. Compiled with -O2 -g in every preset: what is asked is what the compiler made
 * of it.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/symbols.h"
#include "cprof.h"

#include <elfutils/libdw.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 128

static uint64_t pcs[FRAMES_MAX];
static size_t count;

__attribute__((noinline)) static void capture(void)
{
    cprof__regs regs;
    cprof__walk_end end;
    CPROF__REGS_HERE(&regs);
    count = cprof__code_capture(&regs, pcs, FRAMES_MAX, &end);
    assert_int_equal(end, CPROF__WALK_ROOT);
}

static const cprof__symbol *symbol_at(uint64_t address)
{
    const cprof__symbol *symbol;
    assert_int_equal(cprof__symbols_find(address, cprof__code_era(), &symbol), 0);
    assert_true(symbol->line_count > 0);
    return symbol;
}

static const char *outermost(const cprof__symbol *symbol)
{
    return symbol->lines[symbol->line_count - 1].function;
}

/* ---- Inlined ---- */

static int line_of_capture, line_of_inner, line_of_middle, start_of_inner, start_of_middle, start_of_outer;

#define STAY __asm__ volatile("" ::: "memory")

__attribute__((always_inline)) static inline void inner(void)
{
    start_of_inner = __LINE__ - 2;
    line_of_capture = __LINE__ + 1;
    capture();
    STAY;
}

__attribute__((always_inline)) static inline void middle(void)
{
    start_of_middle = __LINE__ - 2;
    line_of_inner = __LINE__ + 1;
    inner();
    STAY;
}

__attribute__((noinline)) static void outer(void)
{
    start_of_outer = __LINE__ - 2;
    line_of_middle = __LINE__ + 1;
    middle();
    STAY;
}

static void expect_line(const cprof__line *line, const char *function, int number, int start)
{
    assert_string_equal(line->function, function);
    assert_string_equal(line->file, __FILE__);
    assert_int_equal(line->line, number);
    assert_int_equal(line->start_line, start);
}

static void test_inlined(void **state)
{
    (void)state;
    outer();
    const cprof__symbol *symbol = symbol_at(pcs[1]);
    assert_int_equal(symbol->line_count, 3);
    expect_line(&symbol->lines[0], "inner", line_of_capture, start_of_inner);
    expect_line(&symbol->lines[1], "middle", line_of_inner, start_of_middle);
    expect_line(&symbol->lines[2], "outer", line_of_middle, start_of_outer);
    assert_true(symbol->named);
    assert_int_equal(symbol->function_start, (uint64_t)(uintptr_t)outer);
    assert_int_equal(symbol->call_target, (uint64_t)(uintptr_t)capture);
    cprof__mapping_has has = cprof__symbols_mapping_has(symbol->mapping);
    assert_true(has.functions && has.filenames && has.line_numbers && has.inline_frames);
}

/* ---- Tail calls ---- */

__attribute__((noinline, noclone)) static int does_it(int a)
{
    capture();
    return a + 1;
}

/* Becomes a jump: its frame is gone when does_it runs. */
__attribute__((noinline, noclone)) static int wrapper(int a)
{
    return does_it(a * 3);
}

__attribute__((noinline, noclone)) static int calls_wrapper(int a)
{
    return wrapper(a) + 1;
}

__attribute__((noinline, noclone)) static int calls_directly(int a)
{
    return does_it(a) + 1;
}

static void test_tail_call(void **state)
{
    (void)state;
    assert_int_equal(calls_wrapper(1), 5);
    const cprof__symbol *inside = symbol_at(pcs[1]), *outside = symbol_at(pcs[2]);
    assert_string_equal(outermost(inside), "does_it");
    assert_string_equal(outermost(outside), "calls_wrapper");
    uint64_t hidden = cprof__symbols_tail_called(outside, inside);
    assert_int_equal(hidden, (uint64_t)(uintptr_t)wrapper);
    assert_string_equal(outermost(symbol_at(hidden)), "wrapper");

    assert_int_equal(calls_directly(1), 3);
    assert_string_equal(outermost(symbol_at(pcs[2])), "calls_directly");
    assert_int_equal(cprof__symbols_tail_called(symbol_at(pcs[2]), symbol_at(pcs[1])), 0);
}

static int compare(const void *a, const void *b)
{
    capture();
    return *(const int *)a - *(const int *)b;
}

/* A call through the PLT is a call of the function behind it. */
__attribute__((noinline)) static void *calls_library(void)
{
    static int values[] = {3}, key = 3;
    size_t number = 1;
    void *found = lfind(&key, values, &number, sizeof *values, compare);
    STAY;
    return found;
}

static void test_plt(void **state)
{
    (void)state;
    calls_library();
    const cprof__symbol *library = symbol_at(pcs[2]), *caller = symbol_at(pcs[3]);
    assert_string_equal(outermost(library), "lfind");
    assert_string_equal(outermost(caller), "calls_library");
    assert_int_equal(caller->call_target, (uint64_t)(uintptr_t)lfind);
    assert_int_equal(cprof__symbols_tail_called(caller, library), 0);
}

/* ---- What is kept ---- */

static void test_cached(void **state)
{
    (void)state;
    outer();
    const cprof__symbol *first = symbol_at(pcs[1]);
    cprof__symbols_rest();
    assert_ptr_equal(symbol_at(pcs[1]), first);
    for (size_t i = 0; i < count; i++)
        assert_ptr_equal(symbol_at(pcs[i]), symbol_at(pcs[i]));
    /* After a rest the next new address opens the debug information again. */
    assert_string_equal(outermost(symbol_at((uint64_t)(uintptr_t)calls_directly + 1)), "calls_directly");
}

static void test_no_mapping(void **state)
{
    (void)state;
    const cprof__symbol *symbol = symbol_at(4096);
    assert_null(symbol->mapping);
    assert_false(symbol->named);
    assert_string_equal(symbol->lines[0].function, "");
    assert_ptr_equal(symbol_at(4096), symbol);
}

/* Anyone who may ask the server for symbols chooses addresses: those of nothing must take no memory. */
static void test_no_mapping_takes_nothing(void **state)
{
    (void)state;
    cprof__alloc_fail_after(LONG_MAX);
    for (uint64_t address = 8; address < 8000; address += 8)
        symbol_at(address);
    assert_int_equal(cprof__alloc_fail_after(-1), 0);
}

/* ---- Other programs ---- */

static char *output_of(const char *program)
{
    static char text[8192];
    FILE *pipe = popen(program, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = 0;
    assert_int_equal(pclose(pipe), 0);
    return text;
}

static void expect_stripped(const char *program)
{
    char *text = output_of(program), begin[128];
    snprintf(begin, sizeof begin, "%s+0x", strrchr(program, '/') + 1);
    assert_memory_equal(text, begin, strlen(begin));
    assert_non_null(strstr(text, " :0 unnamed\n"));
    assert_non_null(strstr(text, "\nmain :0 named\n"));
    assert_non_null(strstr(text, "\n_start :0 named\n"));
    assert_null(strstr(text, "nameless"));
    const char *again = strstr(text, "\nagain\n"), *given = strstr(text, "\ngiven :0 named\n");
    assert_true(again && given && given > again);
    assert_null(strstr(text, "too late"));
}

static void test_stripped(void **state)
{
    (void)state;
    expect_stripped(NAMED_STRIPPED);
    expect_stripped(NAMED_FIXED);
}

static void test_debug_file(void **state)
{
    (void)state;
    char *text = output_of(NAMED_APART), file[] = __FILE__, wanted[600];
    strcpy(strrchr(file, '/'), "/named.c");
    snprintf(wanted, sizeof wanted, "show %s:", file);
    assert_non_null(strstr(text, wanted));
    snprintf(wanted, sizeof wanted, "main %s:", file);
    assert_non_null(strstr(text, wanted));
    assert_null(strstr(text, "given"));
}

static void test_split_debug_information(void **state)
{
    (void)state;
    char *text = output_of(NAMED_SPLIT), file[] = __FILE__, wanted[600];
    strcpy(strrchr(file, '/'), "/named.c");
    snprintf(wanted, sizeof wanted, "\ninlined %s:", file);
    assert_non_null(strstr(text, wanted));
    snprintf(wanted, sizeof wanted, "\nnameless %s:", file);
    assert_non_null(strstr(text, wanted));
}

/* The last test, since the table stays full: /debug/pprof/symbol may be asked for every address there is. */
static void test_full(void **state)
{
    (void)state;
    const cprof__symbol *symbol, *known;
    uint64_t address = (uint64_t)(uintptr_t)cprof_symbolize;
    assert_int_equal(cprof__symbols_find(address, cprof__code_era(), &known), 0);
    /* Addresses of a library without debug information, which are quick to look at. */
    uint64_t start = (uint64_t)(uintptr_t)dwarf_begin;
    const cprof__mapping *mapping = cprof__code_mapping(start, cprof__code_era());
    assert_non_null(mapping);
    uint32_t asked = 0;
    for (uint64_t at = mapping->start; at < mapping->limit && asked <= CPROF__SYMBOLS_MAX; at++, asked++)
        assert_int_equal(cprof__symbols_find(at, cprof__code_era(), &symbol), 0);
    assert_int_equal(asked, CPROF__SYMBOLS_MAX + 1);
    assert_string_equal(symbol->lines[0].function, "[symbol table full]");
    assert_int_equal(cprof__symbols_find(address, cprof__code_era(), &symbol), 0);
    assert_ptr_equal(symbol, known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inlined),
        cmocka_unit_test(test_tail_call),
        cmocka_unit_test(test_plt),
        cmocka_unit_test(test_cached),
        cmocka_unit_test(test_no_mapping),
        cmocka_unit_test(test_stripped),
        cmocka_unit_test(test_debug_file),
        cmocka_unit_test(test_split_debug_information),
        cmocka_unit_test(test_no_mapping_takes_nothing),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
