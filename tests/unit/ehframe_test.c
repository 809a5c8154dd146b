/* SPDX-License-Identifier: MIT
 *
 * Unwind rows from instructions written by hand, from the program's own tables, and from those tables
 * damaged: then anything may come out but a fault or a table that is out of order.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/cfi.h"
#include "core/ehframe.h"
#include "cprof.h"

#include <dwarf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

/* ---- Instructions ---- */

typedef struct told {
    size_t count;
    struct {
        uint64_t address;
        cprof__rule rule;
    } rows[16];
} told;

static bool tell(void *context, uint64_t address, cprof__rule rule)
{
    told *t = context;
    assert_true(t->count < 16);
    t->rows[t->count].address = address;
    t->rows[t->count++].rule = rule;
    return true;
}

/* Runs OWN after what every x86_64 common entry says: CFA = rsp + 8, return address at CFA - 8. */
static told run(const uint8_t *own, size_t size, bool is_signal)
{
    static const uint8_t initial[] = {DW_CFA_def_cfa, 7, 8, DW_CFA_offset | 16, 1};
    cprof__cfi_common common = {.code_align = 1,
                                .data_align = -8,
                                .is_signal = is_signal,
                                .initial = {initial, initial + sizeof initial, false}};
    told t = {0};
    assert_true(cprof__cfi_run(&common, (cprof__cursor){own, own + size, false}, 1000, tell, &t));
    return t;
}

#define RUN(...) run((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__}, false)
#define SP(BYTES, FP_WORDS) cprof__rule_make(CPROF__RULE_SP, (BYTES) / 8, (FP_WORDS))
#define FP(BYTES, FP_WORDS) cprof__rule_make(CPROF__RULE_FP, (BYTES) / 8, (FP_WORDS))

static void expect(const told *t, size_t index, uint64_t address, cprof__rule rule)
{
    assert_true(index < t->count);
    assert_int_equal(t->rows[index].address, address);
    assert_int_equal(t->rows[index].rule, rule);
}

static void test_frame_pointer(void **state)
{
    (void)state;
    told t =
        RUN(DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16, DW_CFA_offset | 6, 2, DW_CFA_advance_loc | 3,
            DW_CFA_def_cfa_register, 6, DW_CFA_advance_loc1, 200, DW_CFA_def_cfa, 7, 8);
    expect(&t, 0, 1000, SP(8, 0));
    expect(&t, 1, 1001, SP(16, 2));
    expect(&t, 2, 1004, FP(16, 2));
    expect(&t, 3, 1204, SP(8, 2));
}

static void test_remembered(void **state)
{
    (void)state;
    told t =
        RUN(DW_CFA_def_cfa_offset, 32, DW_CFA_remember_state, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset,
            8, DW_CFA_advance_loc2, 0, 1, DW_CFA_restore_state, DW_CFA_GNU_args_size, 64, DW_CFA_advance_loc4,
            0, 0, 1, 0, DW_CFA_restore | 6, DW_CFA_def_cfa_offset_sf, 0x7e);
    expect(&t, 0, 1000, SP(32, 0));
    expect(&t, 1, 1001, SP(8, 0));
    expect(&t, 2, 1257, SP(32, 0));
    expect(&t, 3, 1257 + 65536, SP(16, 0));
}

static void test_special_frames(void **state)
{
    (void)state;
    told plt = RUN(DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and,
                   DW_OP_lit11, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus);
    expect(&plt, 0, 1000, cprof__rule_make(CPROF__RULE_PLT, 11, 0));
    told realigned = RUN(DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78, DW_OP_deref, DW_CFA_expression, 6,
                         2, DW_OP_breg6, 0);
    expect(&realigned, 0, 1000, cprof__rule_make(CPROF__RULE_FP_DEREF, -1, 1));
    told kept = RUN(DW_CFA_def_cfa_expression, 5, DW_OP_breg7, 40, DW_OP_deref, DW_OP_plus_uconst, 8);
    expect(&kept, 0, 1000, cprof__rule_make(CPROF__RULE_SP_DEREF, 5, 0));
    told root = RUN(DW_CFA_undefined, 16);
    expect(&root, 0, 1000, CPROF__RULE_END);
    static const uint8_t nop[] = {DW_CFA_nop};
    told trampoline = run(nop, sizeof nop, true);
    expect(&trampoline, 0, 1000, CPROF__RULE_SIGNAL);
}

static void test_unsupported(void **state)
{
    (void)state;
    told other_register = RUN(DW_CFA_def_cfa, 10, 8);
    expect(&other_register, 0, 1000, CPROF__RULE_UNSUPPORTED);
    told elsewhere = RUN(DW_CFA_register, 16, 1);
    expect(&elsewhere, 0, 1000, CPROF__RULE_UNSUPPORTED);
    told odd = RUN(DW_CFA_def_cfa_offset, 12);
    expect(&odd, 0, 1000, CPROF__RULE_UNSUPPORTED);
    told huge = RUN(DW_CFA_def_cfa_offset, 0x80, 0x80, 0x80, 0x80, 0x80, 1);
    expect(&huge, 0, 1000, CPROF__RULE_UNSUPPORTED);
    /* What is wrong spoils what follows, not what came before. */
    told wrong = RUN(DW_CFA_advance_loc | 4, 0x3f, DW_CFA_advance_loc | 4, DW_CFA_def_cfa_offset, 16);
    expect(&wrong, 0, 1000, SP(8, 0));
    expect(&wrong, 1, 1004, CPROF__RULE_UNSUPPORTED);
    assert_int_equal(wrong.count, 2);
    told cut = RUN(DW_CFA_advance_loc | 4, DW_CFA_def_cfa_offset, 0x80);
    expect(&cut, 1, 1004, CPROF__RULE_UNSUPPORTED);
    told empty = RUN(DW_CFA_advance_loc | 1, DW_CFA_restore_state);
    expect(&empty, 1, 1001, CPROF__RULE_UNSUPPORTED);
}

static void test_offsets_that_fit(void **state)
{
    (void)state;
    int64_t limit = INT64_C(1) << (CPROF__RULE_OFFSET_BITS - 1);
    const int64_t offsets[] = {0, 1, -1, 5, limit - 1, -limit};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        for (uint64_t fp = 0; fp <= CPROF__RULE_FP_WORDS_MAX; fp++) {
            cprof__rule rule = cprof__rule_make(CPROF__RULE_FP, offsets[i], fp);
            assert_int_equal(cprof__rule_kind(rule), CPROF__RULE_FP);
            assert_true(cprof__rule_offset(rule) == offsets[i]);
            assert_int_equal(cprof__rule_fp_words(rule), fp);
            assert_int_equal(rule & CPROF__RULE_TRANSIENT, 0);
        }
    assert_int_equal(cprof__rule_make(CPROF__RULE_SP, limit, 0), CPROF__RULE_UNSUPPORTED);
    assert_int_equal(cprof__rule_make(CPROF__RULE_SP, 1, CPROF__RULE_FP_WORDS_MAX + 1),
                     CPROF__RULE_UNSUPPORTED);
}

/* ---- Whole tables ---- */

/* The program's own, as mapped. */
static int find_own(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    cprof__eh_source *s = context;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
            s->header = info->dlpi_phdr[i].p_vaddr;
            s->header_size = info->dlpi_phdr[i].p_memsz;
        }
    s->bias = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD)
            continue;
        if (p->p_vaddr + p->p_memsz > s->limit)
            s->limit = p->p_vaddr + p->p_memsz;
        if (s->header >= p->p_vaddr && s->header < p->p_vaddr + p->p_memsz) {
            s->bytes = (const uint8_t *)(info->dlpi_addr + p->p_vaddr);
            s->address = p->p_vaddr;
            s->size = p->p_memsz;
        }
    }
    return 1;
}

static cprof__eh_source own_source(void)
{
    cprof__eh_source s = {0};
    dl_iterate_phdr(find_own, &s);
    assert_true(s.size > 0);
    return s;
}

/* A copy of what lies at BYTES: a whole segment, with what sanitizers put between our variables. */
__attribute__((no_sanitize("address"))) static uint8_t *dup_segment(const uint8_t *bytes, size_t size)
{
    volatile uint8_t *copy = malloc(size);
    for (size_t i = 0; i < size; i++)
        copy[i] = bytes[i];
    return (uint8_t *)copy;
}

static void check_order(const cprof__rows *rows)
{
    for (uint32_t i = 1; i < rows->row_count; i++)
        assert_true(rows->rows[i].start > rows->rows[i - 1].start);
    for (uint32_t i = 0; i < rows->function_count; i++) {
        assert_true(rows->functions[i].start < rows->functions[i].limit);
        assert_true(i == 0 || rows->functions[i].start >= rows->functions[i - 1].limit);
    }
}

static void test_own_tables(void **state)
{
    (void)state;
    cprof__eh_source s = own_source();
    cprof__rows *rows;
    assert_int_equal(cprof__ehframe_parse(&s, &rows), 0);
    check_order(rows);
    uint32_t count; /* of functions, as the header tells: version, three encodings, the section's address */
    memcpy(&count, s.bytes + (s.header - s.address) + 8, sizeof count);
    assert_int_equal(rows->function_count, count);
    uint64_t here = (uint64_t)(uintptr_t)test_own_tables - s.bias;
    const cprof__row_function *function = cprof__rows_function(rows, here + 1);
    assert_non_null(function);
    assert_int_equal(function->start, here);
    assert_int_equal(cprof__rows_rule(rows, here), SP(8, 0));
    assert_int_equal(cprof__rows_rule(rows, s.limit + 100), CPROF__RULE_FRAME);
    cprof__rows_free(rows);
}

/* The same functions are found one after the other as through the header's table. */
static void test_without_table(void **state)
{
    (void)state;
    cprof__eh_source s = own_source();
    cprof__rows *with, *without;
    uint8_t *copy = dup_segment(s.bytes, s.size);
    assert_int_equal(cprof__ehframe_parse(&s, &with), 0);
    copy[s.header - s.address + 2] = copy[s.header - s.address + 3] = DW_EH_PE_omit;
    s.bytes = copy;
    assert_int_equal(cprof__ehframe_parse(&s, &without), 0);
    assert_int_equal(with->row_count, without->row_count);
    assert_memory_equal(with->rows, without->rows, with->row_count * sizeof *with->rows);
    assert_int_equal(with->function_count, without->function_count);
    cprof__rows_free(with);
    cprof__rows_free(without);
    free(copy);
}

static uint32_t next_random(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33);
}

/* In memory of exactly its size, so that a sanitizer sees each step beyond it. */
static void test_damaged(void **state)
{
    (void)state;
    cprof__eh_source s = own_source();
    uint64_t random = 42, offset = s.header - s.address;
    const uint8_t *whole = s.bytes;
    int useful = 0;
    for (int round = 0; round < 3000; round++) {
        cprof__eh_source damaged = s;
        uint64_t end = s.size;
        if (round % 4 == 3)
            end = offset + 64 + next_random(&random) % (s.size - offset - 64);
        uint8_t *copy = dup_segment(whole + offset, end - offset);
        /* A damaged header hides all the rest, so that is done in some rounds only. */
        uint64_t from = round % 3 ? 64 : 0, room = end - offset;
        for (int i = 0; i < 1 + round % 60 && room > from; i++)
            copy[from + next_random(&random) % (from || i % 4 ? room - from : 64)] =
                (uint8_t)next_random(&random);
        damaged.bytes = copy;
        damaged.address = s.header;
        damaged.size = end - offset;
        cprof__rows *rows;
        assert_int_equal(cprof__ehframe_parse(&damaged, &rows), 0);
        check_order(rows);
        useful += rows->function_count > 1;
        for (int i = 0; i < 100; i++) {
            uint64_t at = next_random(&random) % (s.limit + 1000);
            cprof__rule rule = cprof__rows_rule(rows, at);
            assert_in_range(cprof__rule_kind(rule), CPROF__RULE_SP, CPROF__RULE_UNSUPPORTED);
        }
        cprof__rows_free(rows);
        free(copy);
    }
    assert_true(useful > 1000);
}

static void test_nothing_there(void **state)
{
    (void)state;
    cprof__eh_source s = {.limit = 1000};
    cprof__rows *rows;
    assert_int_equal(cprof__ehframe_parse(&s, &rows), 0);
    assert_int_equal(rows->function_count, 0);
    assert_int_equal(cprof__rows_rule(rows, 500), CPROF__RULE_FRAME);
    cprof__rows_free(rows);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    cprof__eh_source s = own_source();
    cprof__rows *rows;
    long tries;
    SWEEP(cprof__ehframe_parse(&s, &rows), &tries);
    assert_true(tries > 3);
    cprof__rows_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_pointer),    cmocka_unit_test(test_remembered),
        cmocka_unit_test(test_special_frames),   cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_offsets_that_fit), cmocka_unit_test(test_own_tables),
        cmocka_unit_test(test_without_table),    cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_nothing_there),    cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
