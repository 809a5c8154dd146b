/* SPDX-License-Identifier: MIT
 *
 * The table of entries against a plain model: random adds, removes and range removals must agree at every
 * step.
 */
#include "test.h"

#include "core/entries.h"
#include "cprof.h"

#include <stdlib.h>
#include <string.h>

#define KEYS 4096

struct model {
    bool present[KEYS];
    uint32_t stack[KEYS];
    int64_t second[KEYS];
};

static uint64_t key_of(unsigned i)
{
    return 0x7f0000000000u + (uint64_t)i * 4096; /* spreads over the shards, with neighbours in one */
}

static int check_entry(void *context, const cprof__entry *entry)
{
    struct model *model = context;
    unsigned i = (unsigned)((entry->key - key_of(0)) / 4096);
    assert_true(i < KEYS && model->present[i]);
    assert_int_equal(entry->stack, model->stack[i]);
    assert_int_equal(entry->values ? entry->values[1] : 0, model->second[i]);
    assert_int_equal(entry->values ? entry->values[0] : 1, 1);
    model->present[i] = false;
    return 0;
}

static void agree(cprof__entries *entries, const struct model *model)
{
    struct model *seen = malloc(sizeof *seen);
    memcpy(seen, model, sizeof *seen);
    int64_t count = 0;
    for (unsigned i = 0; i < KEYS; i++)
        count += seen->present[i];
    assert_int_equal(cprof__entries_count(entries), count);
    cprof__entries_each(entries, check_entry, seen);
    for (unsigned i = 0; i < KEYS; i++)
        assert_false(seen->present[i]);
    free(seen);
}

static void test_model(void **state)
{
    (void)state;
    cprof__entries *entries = aligned_alloc(64, sizeof *entries);
    struct model *model = calloc(1, sizeof *model);
    cprof__entries_init(entries, 2);
    srand(7);
    for (int step = 0; step < 200000; step++) {
        unsigned i = (unsigned)rand() % KEYS;
        bool grow = step / 20000 % 2 == 0; /* the table swells and shrinks in turn */
        if ((unsigned)rand() % 100 < (grow ? 70u : 20u)) {
            int64_t values[2] = {1, step > 100000 && rand() % 4 == 0 ? rand() : 0};
            cprof__entry entry = {key_of(i), (uint32_t)step + 1, 0, values[1] ? values : NULL};
            int code = cprof__entries_add(entries, &entry);
            assert_int_equal(code, model->present[i] ? CPROF_EEXIST : 0);
            if (!model->present[i]) {
                model->present[i] = true;
                model->stack[i] = (uint32_t)step + 1;
                model->second[i] = values[1];
            }
        } else {
            assert_int_equal(cprof__entries_remove(entries, key_of(i)), model->present[i]);
            model->present[i] = false;
        }
        if (step % 10000 == 0)
            agree(entries, model);
    }
    agree(entries, model);
    cprof__entries_remove_range(entries, key_of(100), key_of(2000));
    for (unsigned i = 100; i < 2000; i++)
        model->present[i] = false;
    agree(entries, model);
    cprof__entries_remove_range(entries, 0, UINT64_MAX);
    assert_int_equal(cprof__entries_count(entries), 0);
    for (int i = 0; i < CPROF__SHARDS; i++)
        cprof__free(entries->shards[i].words);
    free(model);
    free(entries);
}

static void test_memory(void **state)
{
    (void)state;
    cprof__entries *entries = aligned_alloc(64, sizeof *entries);
    cprof__entries_init(entries, 1);
    for (uint64_t i = 1; i <= 200000; i++) {
        cprof__entry entry = {0x5500000000 + i * 64, 1, 0, NULL};
        assert_int_equal(cprof__entries_add(entries, &entry), 0);
    }
    size_t bytes = 0;
    for (int i = 0; i < CPROF__SHARDS; i++)
        bytes += ((size_t)entries->shards[i].mask + 1) * entries->shards[i].stride * 8;
    assert_true(bytes <= 200000 * 48);
    cprof__entries_remove_range(entries, 0, UINT64_MAX);
    bytes = 0;
    for (int i = 0; i < CPROF__SHARDS; i++) {
        bytes += ((size_t)entries->shards[i].mask + 1) * entries->shards[i].stride * 8;
        cprof__free(entries->shards[i].words);
    }
    assert_true(bytes <= 64 * 8 * 16);
    free(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests_name("entries", tests, NULL, NULL);
}
