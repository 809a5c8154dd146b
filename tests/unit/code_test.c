/* SPDX-License-Identifier: MIT
 *
 * What code is known of: libraries that come and go, one in the other's place, while threads capture; eras;
 * function starts; names that outlive the library.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/code.h"
#include "core/objects.h"
#include "core/symbols.h"
#include "cprof.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#define FRAMES_MAX 256

typedef struct seen {
    uint64_t pcs[FRAMES_MAX];
    size_t count;
    uint32_t era;
    cprof__walk_end end;
} seen;

__attribute__((noinline)) static int capture(void *context)
{
    seen *s = context;
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    s->count = cprof__code_capture(&regs, s->pcs, FRAMES_MAX, &s->end);
    s->era = cprof__code_era();
    return 0;
}

static cprof__trail trail;

/* As cprof adds entries: with a trail of the walk before. */
__attribute__((noinline)) static int capture_again(void *context)
{
    cprof__regs regs;
    seen *s = context;
    CPROF__REGS_HERE(&regs);
    s->count = cprof__code_capture_again(&regs, &trail, FRAMES_MAX);
    s->end = trail.end;
    memcpy(s->pcs, cprof__trail_pcs(&trail), s->count * sizeof *s->pcs);
    if (!s->count)
        s->count = cprof__code_capture(&regs, s->pcs, FRAMES_MAX, &s->end);
    s->era = cprof__code_era();
    return 0;
}

typedef int (*loaded_function)(int (*callback)(void *context), void *context);

/* Captures through FUNCTION of the library at PATH. Returns: its address, or 0 where it could not be loaded. */
static uint64_t call_through(const char *path, const char *function, int (*callback)(void *context), seen *s)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    loaded_function call = library ? (loaded_function)(uintptr_t)dlsym(library, function) : NULL;
    if (!call)
        return 0;
    call(callback, s);
    dlclose(library);
    return (uint64_t)(uintptr_t)call;
}

static uint64_t capture_through(const char *path, const char *function, seen *s)
{
    return call_through(path, function, capture, s);
}

static const char *name_at(uint64_t address, uint32_t era)
{
    const cprof__symbol *symbol;
    assert_int_equal(cprof__symbols_find(address, era, &symbol), 0);
    return symbol->lines[symbol->line_count - 1].function;
}

/* Frame 0 is capture, frame 1 the library's. */
static void expect_library(const seen *s, const char *path, const char *function)
{
    assert_int_equal(s->end, CPROF__WALK_ROOT);
    const cprof__mapping *mapping = cprof__code_mapping(s->pcs[1], s->era);
    assert_non_null(mapping);
    assert_string_equal(mapping->path, path);
    assert_string_equal(name_at(s->pcs[1], s->era), function);
}

static void test_one_in_the_others_place(void **state)
{
    (void)state;
    seen first = {0}, second = {0}, again = {0};
    uint64_t place = capture_through(LOADED_FIRST, "loaded_first", &first);
    assert_true(place != 0);
    expect_library(&first, LOADED_FIRST, "loaded_first"); /* it is unloaded by now */

    assert_true(capture_through(LOADED_SECOND, "loaded_second", &second) == place);
    assert_true(second.era > first.era);
    expect_library(&second, LOADED_SECOND, "loaded_second");
    expect_library(&first, LOADED_FIRST, "loaded_first");

    assert_true(capture_through(LOADED_FIRST, "loaded_first", &again) == place);
    assert_true(again.era > second.era);
    expect_library(&again, LOADED_FIRST, "loaded_first");
    expect_library(&second, LOADED_SECOND, "loaded_second");
}

/* Not a word of the stack differs, and yet it is another one. */
static void test_trail_of_what_has_gone(void **state)
{
    (void)state;
    seen first = {0}, second = {0};
    for (int i = 0; i < 2; i++) {
        uint64_t one = call_through(LOADED_FIRST, "loaded_first", capture_again, &first);
        uint64_t other = call_through(LOADED_SECOND, "loaded_second", capture_again, &second);
        assert_true(one != 0 && one == other);
        assert_int_equal(first.pcs[1], second.pcs[1]);
        assert_true(second.era > first.era);
        expect_library(&first, LOADED_FIRST, "loaded_first");
        expect_library(&second, LOADED_SECOND, "loaded_second");
    }
}

/* A library that comes back where it was is what it was. */
static void test_no_growth(void **state)
{
    (void)state;
    seen s = {0};
    assert_true(capture_through(LOADED_SECOND, "loaded_second", &s) != 0);
    const cprof__mapping *mapping = cprof__code_mapping(s.pcs[1], s.era);
    for (int i = 0; i < 100; i++) {
        seen next = {0};
        assert_true(capture_through(LOADED_SECOND, "loaded_second", &next) != 0);
        assert_ptr_equal(cprof__code_mapping(next.pcs[1], next.era), mapping);
        assert_int_equal(next.era, s.era);
    }
}

/* The file is one, wherever it is mapped: its rows are loaded once. */
static void test_files_are_shared(void **state)
{
    (void)state;
    seen first = {0}, elsewhere = {0};
    assert_true(capture_through(LOADED_FIRST, "loaded_first", &first) != 0);
    void *in_its_place = dlopen(LOADED_SECOND, RTLD_NOW);
    assert_true(capture_through(LOADED_FIRST, "loaded_first", &elsewhere) != 0);
    dlclose(in_its_place);
    const cprof__mapping *one = cprof__code_mapping(first.pcs[1], first.era);
    const cprof__mapping *other = cprof__code_mapping(elsewhere.pcs[1], elsewhere.era);
    assert_ptr_not_equal(one, other);
    assert_ptr_equal(one->file, other->file);
    assert_string_equal(name_at(elsewhere.pcs[1], elsewhere.era), "loaded_first");
}

static void test_refresh(void **state)
{
    (void)state;
    bool changed;
    assert_int_equal(cprof__code_refresh(&changed), 0);
    assert_int_equal(cprof__code_refresh(&changed), 0);
    assert_false(changed);
    void *library = dlopen(LOADED_FIRST, RTLD_NOW);
    assert_int_equal(cprof__code_refresh(&changed), 0);
    assert_true(changed);
    dlclose(library);
    assert_int_equal(cprof__code_refresh(&changed), 0);
    assert_true(changed);
}

static void test_function_starts(void **state)
{
    (void)state;
    assert_int_equal(cprof__code_load_all(), 0);
    uint64_t start = (uint64_t)(uintptr_t)capture, libc = (uint64_t)(uintptr_t)dlsym(RTLD_DEFAULT, "getline");
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8; i++) {
            assert_int_equal(cprof__code_function_start(start + i), start);
            assert_int_equal(cprof__code_function_start(libc + i), libc);
        }
        assert_int_equal(cprof__code_function_start((uint64_t)(uintptr_t)&start), 0);
        if (round == 1)
            cprof__code_forget();
    }
}

static void test_mappings(void **state)
{
    (void)state;
    uint64_t here = (uint64_t)(uintptr_t)capture;
    assert_int_equal(cprof__code_refresh(NULL), 0);
    const cprof__mapping *mapping = cprof__code_mapping(here, cprof__code_era());
    assert_non_null(mapping);
    char *program = realpath("/proc/self/exe", NULL);
    assert_string_equal(mapping->path, program);
    free(program);
    assert_true(mapping->start <= here && here < mapping->limit);
    assert_int_equal(mapping->start % 4096, 0);
    assert_int_equal(strlen(mapping->build_id) % 2, 0);
    assert_true(strlen(mapping->build_id) > 0);
    assert_null(cprof__code_mapping(16, cprof__code_era()));
    const cprof__mapping *vdso = cprof__code_mapping(getauxval(AT_SYSINFO_EHDR), cprof__code_era());
    assert_non_null(vdso);
    assert_string_equal(vdso->path, "[vdso]");
}

/* ---- While others capture ---- */

static atomic_bool over;

static void *capture_always(void *context)
{
    seen *s = context;
    bool good = true;
    do {
        capture(s);
        cprof__code_function_start(s->pcs[0]);
        good &= s->end == CPROF__WALK_ROOT && cprof__code_mapping(s->pcs[0], s->era);
    } while (!atomic_load(&over));
    return good ? context : NULL;
}

static void test_churn(void **state)
{
    (void)state;
    static seen seens[2];
    pthread_t threads[2];
    atomic_store(&over, false);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, capture_always, &seens[i]), 0);
    for (int i = 0; i < 60; i++) { /* more than there are generations */
        seen s = {0};
        bool second = i % 2;
        assert_true(capture_through(second ? LOADED_SECOND : LOADED_FIRST,
                                    second ? "loaded_second" : "loaded_first", &s) != 0);
        expect_library(&s, second ? LOADED_SECOND : LOADED_FIRST, second ? "loaded_second" : "loaded_first");
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
}

/* ---- Where memory runs out ---- */

static int refresh_changed(void **library)
{
    if (!*library)
        *library = dlopen(LOADED_FIRST, RTLD_NOW);
    return cprof__code_refresh(NULL);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    void *library = NULL;
    long tries;
    SWEEP(refresh_changed(&library), &tries);
    assert_true(tries > 0);
    loaded_function call = (loaded_function)(uintptr_t)dlsym(library, "loaded_first");
    seen s = {0};
    call(capture, &s);
    assert_int_equal(s.end, CPROF__WALK_ROOT);
    const cprof__symbol *symbol;
    SWEEP(cprof__symbols_find(s.pcs[1] + 1, s.era, &symbol), &tries);
    assert_true(tries > 0);
    assert_string_equal(symbol->lines[0].function, "loaded_first");
    dlclose(library);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_out_of_memory), /* first: nothing is cached yet */
        cmocka_unit_test(test_refresh),         cmocka_unit_test(test_mappings),
        cmocka_unit_test(test_function_starts), cmocka_unit_test(test_one_in_the_others_place),
        cmocka_unit_test(test_no_growth),       cmocka_unit_test(test_files_are_shared),
        cmocka_unit_test(test_churn),           cmocka_unit_test(test_trail_of_what_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
