/* SPDX-License-Identifier: MIT
 *
 * Custom profiles through the public C API: names, keys, errors that change nothing, labels, values, events,
 * snapshots, threads, fork, and every allocation failing once.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static cprof_profile *make(const char *name)
{
    cprof_profile *profile = NULL;
    assert_int_equal(cprof_profile_new(name, NULL, &profile), 0);
    return profile;
}

static void expect_error(int code, int expected, const char *part)
{
    assert_int_equal(code, expected);
    if (!strstr(cprof_last_error(), part))
        fail_msg("'%s' does not contain '%s'", cprof_last_error(), part);
}

static void test_names(void **state)
{
    (void)state;
    cprof_profile *profile = make("names.one"), *untouched = profile;
    assert_string_equal(cprof_profile_name(profile), "names.one");
    assert_ptr_equal(cprof_lookup("names.one"), profile);
    assert_null(cprof_lookup("names.two"));
    assert_null(cprof_lookup(NULL));
    expect_error(cprof_profile_new("names.one", NULL, &profile), CPROF_EEXIST, "names.one");
    expect_error(cprof_profile_new("", NULL, &profile), CPROF_EINVAL, "name: empty");
    expect_error(cprof_profile_new(NULL, NULL, &profile), CPROF_EINVAL, "name: empty");
    expect_error(cprof_profile_new("heap", NULL, &profile), CPROF_EINVAL, "built in");
    expect_error(cprof_profile_new("x", NULL, NULL), CPROF_EINVAL, "out");
    assert_ptr_equal(profile, untouched);
    assert_string_equal(cprof_last_error_name(), "EINVAL");
    make("names.b/ü \"q\"");
    make("names.a");
    cprof_profile **list;
    size_t count;
    assert_int_equal(cprof_profiles(&list, &count), 0);
    for (size_t i = 1; i < count; i++)
        assert_true(strcmp(cprof_profile_name(list[i - 1]), cprof_profile_name(list[i])) < 0);
    assert_true(count >= 3);
    cprof_free(list);
}

static void test_sample_types(void **state)
{
    (void)state;
    cprof_value_type types[] = {
        {"reads", "count"}, {"bytes", "bytes"}, {"reads", "count"}, {"d", "d"}, {"e", "e"}};
    cprof_profile_options options = CPROF_PROFILE_OPTIONS_INIT;
    options.sample_types = types;
    cprof_profile *profile;
    options.sample_type_count = 0;
    expect_error(cprof_profile_new("types", &options, &profile), CPROF_EINVAL, "sample_types: 0");
    options.sample_type_count = 5;
    expect_error(cprof_profile_new("types", &options, &profile), CPROF_EINVAL, "sample_types: 5");
    options.sample_type_count = 3;
    expect_error(cprof_profile_new("types", &options, &profile), CPROF_EINVAL, "'reads' is given twice");
    types[1].unit = "";
    expect_error(cprof_profile_new("types", &options, &profile), CPROF_EINVAL, "number 2");
    types[1].unit = "bytes";
    options.struct_size = 3;
    expect_error(cprof_profile_new("types", &options, &profile), CPROF_EINVAL, "struct_size");
    assert_null(cprof_lookup("types"));
    options.struct_size = sizeof options;
    options.sample_type_count = 2;
    assert_int_equal(cprof_profile_new("types", &options, &profile), 0);
    const cprof_value_type *got;
    assert_int_equal(cprof_profile_sample_types(profile, &got), 2);
    assert_string_equal(got[1].type, "bytes");
}

static void test_add_remove(void **state)
{
    (void)state;
    cprof_profile *profile = make("add");
    int a, b;
    assert_int_equal(cprof_profile_add(profile, &a, 1), 0);
    expect_error(cprof_profile_add(profile, &a, 1), CPROF_EEXIST, "key");
    assert_int_equal(cprof_profile_count(profile), 1);
    expect_error(cprof_profile_add(profile, NULL, 1), CPROF_EINVAL, "key: NULL");
    expect_error(cprof_profile_add(profile, &b, -1), CPROF_EINVAL, "skip");
    expect_error(cprof_profile_add(NULL, &b, 1), CPROF_EINVAL, "profile");
    expect_error(cprof_profile_remove(profile, &b), CPROF_ENOENT, "add");
    expect_error(cprof_profile_remove(profile, NULL), CPROF_ENOENT, "add");
    int64_t values[2] = {1, 2};
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    options.values = values;
    options.value_count = 2;
    expect_error(cprof_profile_add_entry(profile, &b, &options), CPROF_EINVAL, "values: 2");
    expect_error(cprof_profile_record(profile, NULL), CPROF_EINVAL, "holds entries");
    assert_int_equal(cprof_profile_count(profile), 1);
    assert_int_equal(cprof_profile_remove(profile, &a), 0);
    assert_int_equal(cprof_profile_count(profile), 0);
    assert_int_equal(cprof_profile_add(profile, &a, 1), 0);
    assert_int_equal(cprof_profile_remove(profile, &a), 0);
}

static void test_labels(void **state)
{
    (void)state;
    const cprof_labels *one, *two, *three;
    cprof_label list[] = {{"route", "/blob", 0, NULL}, {"bytes", NULL, 42, "bytes"}};
    cprof_label turned[] = {list[1], list[0]};
    assert_int_equal(cprof_labels_intern(list, 2, &one), 0);
    assert_int_equal(cprof_labels_intern(turned, 2, &two), 0);
    assert_ptr_equal(one, two);
    list[1].num = 43;
    assert_int_equal(cprof_labels_intern(list, 2, &three), 0);
    assert_ptr_not_equal(one, three);
    size_t count;
    const cprof_label *got = cprof_labels_list(one, &count);
    assert_int_equal(count, 2);
    assert_string_equal(got[0].key, "bytes");
    assert_int_equal(got[0].num, 42);
    assert_string_equal(got[1].str, "/blob");
    cprof_label twice[] = {{"a", "1", 0, NULL}, {"a", "2", 0, NULL}};
    expect_error(cprof_labels_intern(twice, 2, &two), CPROF_EINVAL, "'a' is given twice");
    twice[1].key = "";
    expect_error(cprof_labels_intern(twice, 2, &two), CPROF_EINVAL, "label 2");
    assert_int_equal(cprof_labels_intern(NULL, 0, &two), 0);
    assert_null(two);
}

static __attribute__((noinline)) int open_one(cprof_profile *profile, void *key, const cprof_labels *labels,
                                              int64_t bytes)
{
    int64_t values[2] = {1, bytes};
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    options.labels = labels;
    options.values = values;
    options.value_count = 2;
    int code = cprof_profile_add_entry(profile, key, &options);
    __asm__ volatile(""); /* keeps the call above from becoming a jump */
    return code;
}

static void test_snapshot(void **state)
{
    (void)state;
    cprof_value_type types[] = {{"open", "count"}, {"bytes", "bytes"}};
    cprof_profile_options options = CPROF_PROFILE_OPTIONS_INIT;
    options.sample_types = types;
    options.sample_type_count = 2;
    cprof_profile *profile;
    assert_int_equal(cprof_profile_new("snapshot", &options, &profile), 0);
    cprof_label label = {"route", "/a", 0, NULL};
    const cprof_labels *labels;
    assert_int_equal(cprof_labels_intern(&label, 1, &labels), 0);
    char keys[30];
    for (int i = 0; i < 30; i++)
        assert_int_equal(open_one(profile, &keys[i], i < 10 ? labels : NULL, i), 0);
    cprof_snapshot *snapshot;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    for (int i = 0; i < 30; i++)
        assert_int_equal(cprof_profile_remove(profile, &keys[i]), 0);
    assert_string_equal(cprof_snapshot_name(snapshot), "snapshot");
    assert_int_equal(cprof_snapshot_count(snapshot), 30);
    assert_int_equal(cprof_snapshot_sample_count(snapshot), 2);
    cprof_sample sample;
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_int_equal(sample.values[0], 20);
    assert_int_equal(sample.values[1], (10 + 29) * 20 / 2);
    assert_null(sample.labels);
    assert_true(sample.frame_count > 1);
    assert_string_equal(sample.frames[0].name, "open_one");
    assert_int_equal(cprof_snapshot_sample(snapshot, 1, &sample), 0);
    assert_int_equal(sample.values[0], 10);
    assert_int_equal(sample.values[1], 45);
    assert_ptr_equal(sample.labels, labels);
    expect_error(cprof_snapshot_sample(snapshot, 2, &sample), CPROF_EINVAL, "index: 2");
    cprof_snapshot_free(snapshot);
    cprof_snapshot_free(NULL);
}

static void test_events(void **state)
{
    (void)state;
    cprof_profile *profile = make("events");
    int64_t value = 5;
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    options.values = &value;
    options.value_count = 1;
    for (int i = 0; i < 10; i++)
        assert_int_equal(cprof_profile_record(profile, i % 2 ? &options : NULL), 0);
    assert_int_equal(cprof_profile_count(profile), 10);
    expect_error(cprof_profile_add(profile, &value, 1), CPROF_EINVAL, "holds events");
    cprof_snapshot *snapshot;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample_count(snapshot), 1);
    cprof_sample sample;
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_int_equal(sample.values[0], 30);
    cprof_snapshot_free(snapshot);

    /* Sums wrap, also that of a text. */
    void *bytes;
    size_t length;
    cprof_write_options text = CPROF_WRITE_OPTIONS_INIT;
    text.debug = 1;
    value = INT64_MAX;
    assert_int_equal(cprof_profile_record(profile, &options), 0);
    assert_int_equal(cprof_profile_encode(profile, &text, &bytes, &length), 0);
    cprof_free(bytes);
}

static __attribute__((noinline)) int recurse(cprof_profile *profile, void *key, int depth)
{
    int code = depth ? recurse(profile, key, depth - 1) : cprof_profile_add(profile, key, 1);
    __asm__ volatile("");
    return code;
}

static void test_depth(void **state)
{
    (void)state;
    cprof_profile *profile = make("depth");
    int old;
    expect_error(cprof_set_prof_stack_depth(0, NULL), CPROF_EINVAL, "depth: 0");
    expect_error(cprof_set_prof_stack_depth(1025, NULL), CPROF_EINVAL, "depth: 1025");
    assert_int_equal(cprof_set_prof_stack_depth(10, &old), 0);
    assert_int_equal(old, 128);
    assert_int_equal(recurse(profile, &old, 50), 0);
    assert_int_equal(cprof_set_prof_stack_depth(old, NULL), 0);
    cprof_snapshot *snapshot;
    cprof_sample sample;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_int_equal(sample.frame_count, 10); /* ten less the function that was called, and the remark */
    assert_string_equal(sample.frames[8].name, "recurse");
    assert_string_equal(sample.frames[9].name, "[truncated]");
    cprof_snapshot_free(snapshot);
    assert_int_equal(cprof_profile_remove(profile, &old), 0);
    assert_int_equal(recurse(profile, &old, 500), 0);
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_int_equal(sample.frame_count, 128);
    assert_string_equal(sample.frames[127].name, "[truncated]");
    cprof_snapshot_free(snapshot);
}

/* ---- Threads and fork ---- */

#define THREADS 4
#define SMALL_STACK_BYTES (64 * 1024) /* of which pthreads and sanitizers take their part */
#define ROUNDS 20000

static cprof_profile *shared, *shared_events;

static void *churn(void *argument)
{
    char *keys = argument;
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(cprof_profile_add(shared, keys + i % 64, 1), 0);
        if (i % 64 == 63)
            for (int j = 0; j < 64; j++)
                assert_int_equal(cprof_profile_remove(shared, keys + j), 0);
        if (i % 16 == 0)
            assert_int_equal(cprof_profile_record(shared_events, NULL), 0);
        if (i % 2000 == 0) {
            void *bytes;
            size_t length;
            assert_int_equal(cprof_profile_encode(shared, NULL, &bytes, &length), 0);
            cprof_free(bytes);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    shared = make("threads.entries");
    shared_events = make("threads.events");
    pthread_t threads[THREADS];
    char *keys[THREADS];
    for (int i = 0; i < THREADS; i++) {
        keys[i] = malloc(64);
        assert_int_equal(pthread_create(&threads[i], NULL, churn, keys[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        free(keys[i]);
    }
    assert_int_equal(cprof_profile_count(shared), THREADS * (ROUNDS % 64));
    assert_int_equal(cprof_profile_count(shared_events), THREADS * (ROUNDS / 16));
}

static void *churn_until(void *argument)
{
    static char key;
    while (!atomic_load((atomic_bool *)argument)) {
        cprof_profile_add(shared, &key, 1);
        cprof_profile_remove(shared, &key);
    }
    return NULL;
}

/* Writing asks the loader which objects there are, under a lock that is the loader's. */
static int write_away(void)
{
    void *bytes;
    size_t length;
    int code = cprof_profile_encode(shared, NULL, &bytes, &length);
    if (!code)
        cprof_free(bytes);
    return code;
}

static void *write_until(void *argument)
{
    while (!atomic_load((atomic_bool *)argument))
        assert_int_equal(write_away(), 0);
    return NULL;
}

/* AddressSanitizer's allocator, unlike glibc's, may be left locked in a child. */
#ifdef __SANITIZE_ADDRESS__
#define MALLOC_FORKS false
#else
#define MALLOC_FORKS true
#endif

/* A child that forks off while other threads work inside cprof must not find a lock held. */
static void test_fork(void **state)
{
    (void)state;
    atomic_bool stop = false;
    pthread_t adder, writer;
    assert_int_equal(pthread_create(&adder, NULL, churn_until, &stop), 0);
    if (MALLOC_FORKS)
        assert_int_equal(pthread_create(&writer, NULL, write_until, &stop), 0);
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            int key;
            _exit(cprof_profile_add(shared, &key, 1) || cprof_profile_remove(shared, &key) ||
                  (MALLOC_FORKS && write_away()));
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    atomic_store(&stop, true);
    pthread_join(adder, NULL);
    if (MALLOC_FORKS)
        pthread_join(writer, NULL);
}

/* libdw needs more of the stack than small threads have. */
static void *write_on_small_stack(void *argument)
{
    cprof_profile *profile = argument;
    void *bytes;
    size_t length;
    assert_int_equal(cprof_profile_encode(profile, NULL, &bytes, &length), 0);
    cprof_free(bytes);
    return NULL;
}

static void test_small_stack(void **state)
{
    (void)state;
    cprof_profile *profile = make("small stack");
    pthread_attr_t attributes;
    pthread_t thread;
    int key;
    assert_int_equal(cprof_profile_add(profile, &key, 0), 0);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, SMALL_STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attributes, write_on_small_stack, profile), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    cprof_snapshot *snapshot;
    cprof_sample sample;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_true(sample.frames[0].line > 0);
    cprof_snapshot_free(snapshot);
}

/* ---- Files ---- */

/* How many descriptors of this program lead to its own file, which holds its debug information. */
static int open_debug_files(void)
{
    int count = 0;
    struct stat program, file;
    assert_int_equal(stat("/proc/self/exe", &program), 0);
    for (int fd = 0; fd < 256; fd++)
        count += fstat(fd, &file) == 0 && file.st_ino == program.st_ino && file.st_dev == program.st_dev;
    return count;
}

/* Debug information is much memory, and a descriptor a file: it is closed when its use is over. */
static void test_nothing_stays_open(void **state)
{
    (void)state;
    cprof_profile *profile = make("open files");
    cprof_snapshot *snapshot;
    cprof_sample sample;
    void *bytes;
    size_t length;
    int key;
    assert_int_equal(cprof_profile_add(profile, &key, 0), 0);
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    assert_true(sample.frames[1].line > 0);
    cprof_snapshot_free(snapshot);
    assert_int_equal(open_debug_files(), 0);
    assert_int_equal(cprof_profile_remove(profile, &key), 0);
    assert_int_equal(cprof_profile_add(profile, &key, 0), 0);
    assert_int_equal(cprof_profile_encode(profile, NULL, &bytes, &length), 0);
    cprof_free(bytes);
    assert_int_equal(open_debug_files(), 0);
}

static int give_up(void *context, const void *bytes, size_t length)
{
    (void)context;
    (void)bytes;
    (void)length;
    return 1;
}

static void test_files(void **state)
{
    (void)state;
    cprof_profile *profile = make("files");
    char directory[] = "/tmp/cprof-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    expect_error(cprof_profile_write(profile, "/nonexistent/x", NULL), CPROF_ESYSTEM, "/nonexistent/x");
    assert_string_equal(cprof_last_error_name(), "ENOENT");
    expect_error(cprof_profile_write(profile, directory, NULL), CPROF_ESYSTEM, directory);
    expect_error(cprof_profile_write(profile, "", NULL), CPROF_EINVAL, "path");
    expect_error(cprof_profile_write(profile, "/dev/full", NULL), CPROF_ESYSTEM, "/dev/full");
    assert_string_equal(cprof_last_error_name(), "ENOSPC");
    expect_error(cprof_profile_write_to(profile, give_up, NULL, NULL), CPROF_ECANCELED, "");
    cprof_write_options options = CPROF_WRITE_OPTIONS_INIT;
    options.gzip_level = 10;
    expect_error(cprof_profile_write(profile, "/dev/null", &options), CPROF_EINVAL, "gzip_level: 10");
    snprintf(path, sizeof path, "%s/a.pb.gz", directory);
    assert_int_equal(cprof_profile_write(profile, path, NULL), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_size > 20);
    char command[128];
    snprintf(command, sizeof command, "test \"$(ls -A %s)\" = a.pb.gz && gzip -t %s", directory, path);
    assert_int_equal(system(command), 0);
    unlink(path);
    rmdir(directory);
}

static int everything(void)
{
    static int round;
    char name[32];
    snprintf(name, sizeof name, "sweep.%d", round++);
    cprof_profile *profile;
    int code = cprof_profile_new(name, NULL, &profile), key;
    if (code)
        return code;
    cprof_label label = {"round", name, 0, NULL};
    const cprof_labels *labels;
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    code = cprof_labels_intern(&label, 1, &labels);
    options.labels = labels;
    if (!code)
        code = cprof_profile_add_entry(profile, &key, &options);
    void *bytes;
    size_t length;
    if (!code && !(code = cprof_profile_encode(profile, NULL, &bytes, &length)))
        cprof_free(bytes);
    cprof_write_options text = CPROF_WRITE_OPTIONS_INIT;
    text.debug = 1;
    if (!code && !(code = cprof_profile_encode(profile, &text, &bytes, &length)))
        cprof_free(bytes);
    cprof_snapshot *snapshot;
    if (!code && !(code = cprof_profile_snapshot(profile, &snapshot))) {
        cprof_sample sample;
        code = cprof_snapshot_sample(snapshot, 0, &sample);
        cprof_snapshot_free(snapshot);
    }
    return code;
}

static void test_allocation_failures(void **state)
{
    (void)state;
    long tries;
    SWEEP(everything(), &tries);
    assert_true(tries > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_stack),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sample_types),
        cmocka_unit_test(test_add_remove),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_nothing_stays_open),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
