/* SPDX-License-Identifier: MIT
 *
 * Functions of VMs: equal keys are one function with one address, in this process and in every other; lines;
 * names.
 */
#include "test.h"

#include "core/vmcode.h"
#include "cprof_vm.h"

#include <stdio.h>
#include <string.h>

static const cprof_vm_function *intern(const char *source, int64_t first, int64_t last,
                                       uint64_t distinguisher)
{
    cprof_vm_function_key key = {source, strlen(source), first, last, distinguisher, NULL};
    const cprof_vm_function *function;
    assert_int_equal(cprof_vm_function_intern(&key, NULL, &function), 0);
    return function;
}

static void test_identity(void **state)
{
    (void)state;
    const cprof_vm_function *one = intern("a.lua", 3, 9, 0);
    assert_ptr_equal(intern("a.lua", 3, 9, 0), one);
    assert_ptr_not_equal(intern("a.lua", 3, 9, 1), one);
    assert_ptr_not_equal(intern("a.lua", 3, 8, 0), one);
    assert_ptr_not_equal(intern("b.lua", 3, 9, 0), one);
    /* Any change of this number changes every address that a scraper knows a stack by. */
    assert_int_equal(cprof_vm_function_address(one, 0), 0x1f1e45cc1b9f64);
}

static void test_lines(void **state)
{
    (void)state;
    const cprof_vm_function *function = intern("lines.lua", 10, 20, 0);
    cprof_vm_function_set_name(function, "f", CPROF_VM_NAME_CALL);
    for (int64_t line = 10; line <= 20; line++) {
        uint64_t address = cprof_vm_function_address(function, line), start;
        assert_true(address >= CPROF_VM_ADDRESS_MIN && address < CPROF_VM_ADDRESS_MAX && address % 2 == 0);
        for (int off = 0; off < 2; off++) { /* readers add or take one */
            cprof__line found;
            assert_true(cprof__vmcode_find(address + (uint64_t)off, &found, &start));
            assert_int_equal(found.line, line);
            assert_int_equal(found.start_line, 10);
            assert_string_equal(found.function, "f");
            assert_string_equal(found.file, "lines.lua");
        }
    }
    cprof__line found;
    uint64_t start;
    assert_true(cprof__vmcode_find(cprof_vm_function_address(function, 21), &found, &start));
    assert_int_equal(found.line, 0);
    assert_int_equal(cprof_vm_function_address(function, -1), start);
    const cprof_vm_function *chunk = intern("lines.lua", 0, 0, 0);
    assert_true(cprof__vmcode_find(cprof_vm_function_address(chunk, 100000), &found, &start));
    assert_int_equal(found.line, 100000);
    assert_false(cprof__vmcode_find(CPROF_VM_ADDRESS_MAX - 2, &found, &start));
}

static void test_names(void **state)
{
    (void)state;
    const cprof_vm_function *function = intern("names.lua", 1, 2, 0);
    assert_int_equal(cprof_vm_function_named(function), CPROF_VM_NAME_NONE);
    cprof_vm_function_set_name(function, "local tail", CPROF_VM_NAME_CALL);
    cprof_vm_function_set_name(function, "other", CPROF_VM_NAME_CALL);
    cprof__line found;
    uint64_t start;
    assert_true(cprof__vmcode_find(cprof_vm_function_address(function, 1), &found, &start));
    assert_string_equal(found.function, "local tail");
    cprof_vm_function_set_name(function, "names.f", CPROF_VM_NAME_OWN);
    cprof_vm_function_set_name(function, "late", CPROF_VM_NAME_CALL);
    assert_true(cprof__vmcode_find(cprof_vm_function_address(function, 1), &found, &start));
    assert_string_equal(found.function, "names.f");
}

static void test_many(void **state)
{
    (void)state;
    static const cprof_vm_function *functions[5000];
    for (int i = 0; i < 5000; i++) {
        char source[32];
        snprintf(source, sizeof source, "many%d.lua", i % 100);
        functions[i] = intern(source, i, i + 20, 0);
        cprof_vm_function_set_name(functions[i], source, CPROF_VM_NAME_OWN);
    }
    for (int i = 1; i < 5000; i++) {
        cprof__line found;
        uint64_t start;
        assert_true(cprof__vmcode_find(cprof_vm_function_address(functions[i], i + 7), &found, &start));
        assert_int_equal(found.line, i + 7);
        assert_int_equal(found.start_line, i);
    }
}

static int make_one(void)
{
    static int number;
    char source[32];
    snprintf(source, sizeof source, "sweep%d.lua", number++);
    cprof_vm_function_key key = {source, strlen(source), 1, 2, 0, NULL};
    const cprof_vm_function *function;
    return cprof_vm_function_intern(&key, "f", &function);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    for (int i = 0; i < 600; i++) { /* past the first growth of each list */
        long tries;
        SWEEP(make_one(), &tries);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests_name("vmcode", tests, NULL, NULL);
}
