/* SPDX-License-Identifier: MIT
 *
 * Labels of what runs: sets joined, each thread with its own, on entries and events, without an allocation once
 * they are interned.
 */
#define _GNU_SOURCE
#include "test.h"

#include "core/labels.h"
#include "cprof.h"
#include "cprof_vm.h"
#include "sigsafe/current.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const cprof_labels *set_of(const char *key, const char *value)
{
    cprof_label label = {key, value, 0, NULL};
    const cprof_labels *set;
    assert_int_equal(cprof_labels_intern(&label, 1, &set), 0);
    return set;
}

static const cprof_labels *join(const cprof_labels *inner, const cprof_labels *outer)
{
    const cprof_labels *set;
    assert_int_equal(cprof_labels_join(inner, outer, &set), 0);
    return set;
}

/* SET as "key=value key=value". */
static void assert_set(const cprof_labels *set, const char *wanted)
{
    char text[256] = "";
    size_t count, length = 0;
    const cprof_label *list = cprof_labels_list(set, &count);
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s=%s", i ? " " : "", list[i].key,
                                   list[i].str ? list[i].str : "?");
    assert_string_equal(text, wanted);
}

static void test_join(void **unused)
{
    (void)unused;
    const cprof_labels *a = set_of("a", "1"), *b = set_of("b", "2"), *other = set_of("a", "3");
    assert_set(join(a, b), "a=1 b=2");
    assert_ptr_equal(join(a, b), join(b, a));
    assert_set(join(a, other), "a=1");
    assert_set(join(other, a), "a=3");
    assert_set(join(other, join(a, b)), "a=3 b=2");
    assert_set(join(join(a, b), other), "a=1 b=2");
    assert_ptr_equal(join(a, NULL), a);
    assert_ptr_equal(join(NULL, a), a);
    assert_ptr_equal(join(a, a), a);
    assert_null(join(NULL, NULL));
    assert_int_equal(cprof_labels_join(a, b, NULL), CPROF_EINVAL);
    assert_ptr_equal(cprof_vm_labels_get(cprof_vm_labels_number(a)), a);
    assert_null(cprof_vm_labels_get(0));
    assert_null(cprof_vm_labels_get(60000));
    assert_null(cprof_vm_labels_get(UINT32_MAX));
}

/* More pairs than the table of joined ones has room for. */
static void test_join_many(void **unused)
{
    (void)unused;
    enum { SETS = 150 };
    static const cprof_labels *inner[SETS], *outer[SETS];
    char value[32];
    for (int i = 0; i < SETS; i++) {
        snprintf(value, sizeof value, "%d", i);
        inner[i] = set_of("inner", value);
        outer[i] = set_of("outer", value);
    }
    long allocated = -1;
    for (int round = 0; round < 2; round++) {
        cprof__alloc_fail_after(-1);
        for (int i = 0; i < SETS; i++)
            for (int j = 0; j < SETS; j++) {
                size_t count;
                const cprof_label *list = cprof_labels_list(join(inner[i], outer[j]), &count);
                assert_int_equal(count, 2);
                assert_string_equal(list[0].str, cprof_labels_list(inner[i], &count)->str);
                assert_string_equal(list[1].str, cprof_labels_list(outer[j], &count)->str);
            }
        allocated = cprof__alloc_fail_after(-1);
    }
    assert_int_equal(allocated, 0);
}

/* Lists that are too long for the stack. */
static void test_join_long(void **unused)
{
    (void)unused;
    enum { EACH = 40 };
    static char keys[2 * EACH][16];
    cprof_label labels[2 * EACH];
    const cprof_labels *even, *all, *first;
    for (int i = 0; i < 2 * EACH; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        labels[i] = (cprof_label){keys[i], NULL, i, NULL};
    }
    assert_int_equal(cprof_labels_intern(labels, 2 * EACH, &all), 0);
    assert_int_equal(cprof_labels_intern(labels, EACH, &first), 0);
    assert_int_equal(cprof_labels_intern(labels + EACH, EACH, &even), 0);
    long tries;
    const cprof_labels *joined;
    SWEEP(cprof_labels_join(first, even, &joined), &tries);
    assert_ptr_equal(joined, all);
}

static void test_memory(void **unused)
{
    (void)unused;
    const cprof_labels *a = set_of("memory", "1"), *b = set_of("memory.other", "2");
    cprof__alloc_fail_after(0);
    const cprof_labels *joined = NULL;
    int code = cprof_labels_join(a, b, &joined);
    cprof__alloc_fail_after(-1);
    /* The arena may have had room. */
    assert_true(code == CPROF_ENOMEM ? joined == NULL : code == 0);
    assert_set(join(a, b), "memory=1 memory.other=2");
}

/* ---- Threads ---- */

static void *in_thread(void *set)
{
    const cprof_labels *old = set;
    assert_int_equal(cprof_set_labels(set, &old), 0);
    assert_null(old); /* the creator's are not inherited */
    assert_int_equal(cprof__current.labels, cprof__labels_number(set));
    assert_int_equal(cprof_set_labels(NULL, &old), 0);
    assert_ptr_equal(old, set);
    return NULL;
}

static void test_threads(void **unused)
{
    (void)unused;
    const cprof_labels *mine = set_of("thread", "main"), *old;
    assert_int_equal(cprof_set_labels(mine, NULL), 0);
    pthread_t threads[4];
    char value[16];
    for (int i = 0; i < 4; i++) {
        snprintf(value, sizeof value, "%d", i);
        pthread_create(&threads[i], NULL, in_thread, (void *)set_of("thread", value));
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(cprof_set_labels(NULL, &old), 0);
    assert_ptr_equal(old, mine);
    assert_int_equal(cprof__current.labels, 0);
}

static void assert_now(const char *wanted)
{
    const cprof_labels *now;
    cprof_set_labels(NULL, &now);
    cprof_set_labels(now, NULL);
    assert_set(now, wanted);
}

static void check_now(void *wanted)
{
    assert_now(wanted);
}

static void assert_with(const cprof_labels *set, const char *wanted)
{
    assert_int_equal(cprof_with_labels(set, check_now, (void *)(uintptr_t)wanted), 0);
}

static void deeper(void *context)
{
    (void)context;
    assert_with(set_of("b", "2"), "a=1 b=2");
    assert_with(set_of("a", "2"), "a=2");
    assert_with(NULL, "a=1");
    assert_now("a=1");
}

static void test_with_labels(void **unused)
{
    (void)unused;
    assert_int_equal(cprof_with_labels(set_of("a", "1"), deeper, NULL), 0);
    assert_now("");
    assert_int_equal(cprof_with_labels(NULL, NULL, NULL), CPROF_EINVAL);
}

/* ---- On profiles ---- */

/* The labels of the only sample of PROFILE. */
static void assert_labels(cprof_profile *profile, const char *wanted)
{
    cprof_snapshot *snapshot;
    cprof_sample sample;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample_count(snapshot), 1);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_set(sample.labels, wanted);
    cprof_snapshot_free(snapshot);
}

static cprof_profile *fresh(const char *name)
{
    cprof_profile *profile;
    assert_int_equal(cprof_profile_new(name, NULL, &profile), 0);
    return profile;
}

static void test_entries(void **unused)
{
    (void)unused;
    cprof_profile *entries = fresh("labels_test.entries"), *events = fresh("labels_test.events");
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    cprof_set_labels(join(set_of("route", "/"), set_of("user", "u")), NULL);
    assert_int_equal(cprof_profile_add(entries, entries, 1), 0);
    assert_labels(entries, "route=/ user=u");
    assert_int_equal(cprof_profile_record(events, NULL), 0);
    assert_labels(events, "route=/ user=u");
    assert_int_equal(cprof_profile_remove(entries, entries), 0);

    options.labels = join(set_of("route", "/own"), set_of("size", "big"));
    assert_int_equal(cprof_profile_add_entry(entries, entries, &options), 0);
    assert_labels(entries, "route=/own size=big user=u");
    assert_int_equal(cprof_profile_remove(entries, entries), 0);

    cprof_set_labels(NULL, NULL);
    assert_int_equal(cprof_profile_add_entry(entries, entries, &options), 0);
    assert_labels(entries, "route=/own size=big");
}

static volatile double sink;

static void burn(void *unused)
{
    (void)unused;
    struct timespec begin, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    do {
        for (int i = 0; i < 10000; i++)
            sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 300);
}

/* What burns nearly all the time does so under labels. */
static void test_cpu(void **unused)
{
    (void)unused;
    cprof_recording *recording;
    cprof_snapshot *snapshot;
    assert_int_equal(cprof_start_cpu_profile(NULL, &recording), 0);
    assert_int_equal(cprof_with_labels(set_of("cpu", "burn"), burn, NULL), 0);
    assert_int_equal(cprof_recording_stop(recording, &snapshot), 0);
    int64_t labelled = 0, total = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(snapshot); i++) {
        cprof_sample sample;
        size_t count;
        assert_int_equal(cprof_snapshot_sample(snapshot, i, &sample), 0);
        const cprof_label *list = cprof_labels_list(sample.labels, &count);
        bool burns = count == 1 && strcmp(list->key, "cpu") == 0 && strcmp(list->str, "burn") == 0;
        labelled += burns ? sample.values[0] : 0;
        total += sample.values[0];
    }
    assert_true(labelled > 0);
    assert_true(labelled * 10 >= total * 8);
    cprof_snapshot_free(snapshot);
    cprof_recording_free(recording);
}

/* Once interned, no call allocates: neither setting, nor joining, nor interning again. */
static void test_no_allocation(void **unused)
{
    (void)unused;
    cprof_profile *events = fresh("labels_test.allocation");
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    const cprof_labels *a = set_of("a", "1"), *b = set_of("b", "2");
    options.labels = b;
    long allocated = -1;
    for (int round = 0; round < 2; round++) {
        cprof__alloc_fail_after(-1);
        for (int i = 0; i < 100; i++) {
            cprof_set_labels(a, NULL);
            assert_int_equal(cprof_profile_record(events, &options), 0);
            assert_ptr_equal(set_of("a", "1"), a);
            assert_with(b, "a=1 b=2");
        }
        allocated = cprof__alloc_fail_after(-1);
    }
    cprof_set_labels(NULL, NULL);
    assert_int_equal(allocated, 0);
}

/* Two threads join the same pairs while sets are made. */
static void *join_pairs(void *unused)
{
    (void)unused;
    char value[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(value, sizeof value, "%d", i % 300);
        const cprof_labels *both = join(set_of("left", value), set_of("right", value));
        size_t count;
        const cprof_label *list = cprof_labels_list(both, &count);
        assert_int_equal(count, 2);
        assert_string_equal(list[0].str, value);
        assert_string_equal(list[1].str, value);
    }
    return NULL;
}

static void test_join_at_once(void **unused)
{
    (void)unused;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, join_pairs, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* Comes last: it uses all sets up. */
static void test_full(void **unused)
{
    (void)unused;
    const cprof_labels *a = set_of("full", "a"), *b = set_of("full.other", "b"), *set = NULL;
    const cprof_labels *known = join(a, set_of("full.third", "c"));
    for (int i = 0; i < 70000; i++) {
        cprof_label label = {"number", NULL, i, NULL};
        assert_int_equal(cprof_labels_intern(&label, 1, &set), 0);
    }
    assert_set(set, "cprof=label sets full");
    assert_set(join(a, b), "cprof=label sets full");
    assert_set(join(set, a), "cprof=label sets full");
    assert_ptr_equal(join(a, set_of("full.third", "c")), known);
    assert_with(b, "full.other=b");
    cprof_set_labels(a, NULL);
    assert_with(b, "cprof=label sets full");
    assert_now("full=a");
    cprof_set_labels(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),          cmocka_unit_test(test_join_many),
        cmocka_unit_test(test_join_long),     cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_with_labels),
        cmocka_unit_test(test_entries),       cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_join_at_once),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
