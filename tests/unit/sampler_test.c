/* SPDX-License-Identifier: MIT
 *
 * CPU profiles through the public C API: misuse, several recordings at once, engines, forks, locks of others held for
 * long, every allocation failing once. ThreadSanitizer delivers no signals to code that computes; what needs them is
 * left out there.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof.h"
#include "cprof_vm.h"
#include "sigsafe/handler.h"

#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sampling.h"

/* ---- The malloc that others wait in ---- */

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define OWN_MALLOC true

extern void *__libc_malloc(size_t size);
extern void __libc_free(void *memory);

static pthread_mutex_t malloc_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool malloc_held;

void *malloc(size_t size)
{
    if (atomic_load(&malloc_held)) {
        pthread_mutex_lock(&malloc_lock);
        pthread_mutex_unlock(&malloc_lock);
    }
    return __libc_malloc(size);
}

void free(void *memory)
{
    if (atomic_load(&malloc_held)) {
        pthread_mutex_lock(&malloc_lock);
        pthread_mutex_unlock(&malloc_lock);
    }
    __libc_free(memory);
}

static void hold_malloc(bool held)
{
    if (held)
        pthread_mutex_lock(&malloc_lock);
    atomic_store(&malloc_held, held);
    if (!held)
        pthread_mutex_unlock(&malloc_lock);
}
#else
#define OWN_MALLOC false

static void hold_malloc(bool held)
{
    (void)held;
}
#endif

/* ---- Misuse ---- */

static void refused(const cprof_cpu_options *options, int expected, const char *part)
{
    cprof_recording *none = NULL;
    assert_int_equal(cprof_start_cpu_profile(options, &none), expected);
    assert_null(none);
    if (!strstr(cprof_last_error(), part))
        fail_msg("'%s' does not contain '%s'", cprof_last_error(), part);
}

static void refuse_all(void)
{
    static const int rates[] = {0, -1, 4001, 1 << 30};
    const cprof_cpu_options init = CPROF_CPU_OPTIONS_INIT;
    cprof_cpu_options options = init;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        options.hz = rates[i];
        refused(&options, CPROF_EINVAL, "hz");
    }
    options = init, options.mode = "cpus";
    refused(&options, CPROF_EINVAL, "mode");
    options = init, options.engine = "itimer";
    refused(&options, CPROF_EINVAL, "engine");
    options = init, options.engine = "timer", options.mode = "wall";
    refused(&options, CPROF_EINVAL, "engine");
    options = init, options.output = "";
    refused(&options, CPROF_EINVAL, "output");
    options = init, options.output = "/nowhere/at/all/cpu.pb.gz";
    refused(&options, CPROF_ESYSTEM, "/nowhere/at/all");
    options = init, options.struct_size = 8;
    refused(&options, CPROF_EINVAL, "struct_size");
    assert_int_equal(cprof_start_cpu_profile(&init, NULL), CPROF_EINVAL);
    assert_int_equal(cprof_recording_stop(NULL, NULL), CPROF_EINVAL);
    cprof_recording_free(NULL);
}

static void test_misuse(void **state)
{
    (void)state;
    refuse_all();
    cprof_recording *recording = start(1000);
    burn(10);
    refuse_all();
    burn(50);
    cprof_snapshot *data = NULL, *again = NULL;
    assert_int_equal(cprof_recording_stop(recording, &data), 0);
    assert_int_equal(cprof_recording_stop(recording, &again), 0);
    assert_int_equal(sum(data, 1, NULL), sum(again, 1, NULL));
    assert_int_equal(cprof_recording_stop(recording, NULL), 0);
    cprof_recording_free(recording);
    cprof_snapshot_free(again);
    expect_burn(data);
}

/* ---- Several at once ---- */

static void expect_total(cprof_snapshot *data, uint64_t least_ns, uint64_t most_ns)
{
    int64_t total = sum(data, 1, NULL);
    assert_true(total >= (int64_t)(least_ns - least_ns / 20));
    assert_true(total <= (int64_t)(most_ns + most_ns / 20));
}

/* Each has its own rate and its own time; all of it is accounted for. */
static void test_several(void **state)
{
    (void)state;
    uint64_t before[3], begun[3], ending[3], ended[3];
    static const int rates[] = {100, 1000, 250};
    cprof_recording *recordings[3];
    cprof_snapshot *data[3];
    for (int i = 0; i < 3; i++) {
        before[i] = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        recordings[i] = start(rates[i]);
        begun[i] = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        burn(100);
    }
    for (int i = 0; i < 3; i++) {
        burn(200);
        ending[i] = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        data[i] = stop(recordings[i]);
        ended[i] = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    }
    for (int i = 0; i < 3; i++)
        expect_total(data[i], ending[i] - begun[i], ended[i] - before[i]);
    if (SIGNALS_COME) {
        assert_true(sum(data[1], 0, NULL) > sum(data[2], 0, NULL));
        assert_true(sum(data[2], 0, NULL) > sum(data[0], 0, NULL));
    }
    for (int i = 0; i < 3; i++)
        expect_burn(data[i]);
}

static void test_engines(void **state)
{
    (void)state;
    static const char *const engines[] = {"perf", "timer", "monotonic"};
    for (int i = 0; i < 3; i++) {
        cprof_recording *recording = NULL;
        cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
        options.engine = engines[i];
        int code = cprof_start_cpu_profile(&options, &recording);
        if (code == CPROF_ESYSTEM) /* the system forbids it */
            continue;
        assert_int_equal(code, 0);
        assert_string_equal(cprof_recording_engine(recording), engines[i]);
        options.engine = engines[(i + 1) % 3];
        refused(&options, CPROF_EEXIST, "engine");
        burn(300);
        expect_burn(stop(recording));
    }
}

static atomic_bool over;

static NOINLINE void *sleeper(void *context)
{
    while (!atomic_load(&over))
        usleep(1000);
    return context;
}

static void test_wall(void **state)
{
    (void)state;
    pthread_t thread;
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&thread, NULL, sleeper, NULL), 0);
    cprof_recording *recording = NULL;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.mode = "wall";
    assert_int_equal(cprof_start_cpu_profile(&options, &recording), 0);
    burn(300);
    cprof_snapshot *data = stop(recording);
    if (SIGNALS_COME)
        assert_true(sum(data, 1, "sleeper") > 0);
    expect_burn(data);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
}

/* ---- Locks of others ---- */

static atomic_int spinner_tid;

static NOINLINE void *spinner(void *context)
{
    atomic_store(&spinner_tid, gettid());
    while (!atomic_load(&over))
        sink++;
    return context;
}

/* The spinner's clock as of its last sample; the handler moves it whether the sample finds room or not. */
static uint64_t sampled_ns(void)
{
    for (uint32_t i = 0; i < CPROF__SAMPLED_MAX; i++) {
        cprof__sampled *sampled = cprof__handler_find(i);
        if (sampled && atomic_load(&sampled->tid) == atomic_load(&spinner_tid))
            return atomic_load(&sampled->events[CPROF__SOURCE_CPU].at_ns);
    }
    return 0;
}

/* Until the spinner was sampled so many times more; a handler that waits for what we hold is waited for in vain. */
static void see_samples(int count)
{
    uint64_t seen = sampled_ns();
    for (time_t until = time(NULL) + 60; count > 0; count--) {
        while (sampled_ns() == seen)
            assert_true(time(NULL) < until);
        seen = sampled_ns();
    }
}

static int in_loader(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)info;
    (void)size;
    (void)context;
    see_samples(400);
    return 1;
}

static void test_locks(void **state)
{
    (void)state;
    pthread_t thread;
    if (!SIGNALS_COME)
        skip();
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&thread, NULL, spinner, NULL), 0);
    cprof_recording *recording = start(4000);
    while (!sampled_ns()) {}
    see_samples(10);
    if (OWN_MALLOC) {
        hold_malloc(true);
        see_samples(400);
        hold_malloc(false);
    }
    dl_iterate_phdr(in_loader, NULL);
    see_samples(10);
    cprof_snapshot *data = stop(recording);
    assert_true(sum(data, 1, "spinner") > 0);
    cprof_snapshot_free(data);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
}

/* ---- Late signals ---- */

/* A signal that carries another thread's record, as one does whose event was closed, and whose descriptor then became
 * another thread's: it is nobody's, or all that this thread has ever used would be counted as the other one's. */
static void test_late_signals(void **state)
{
    (void)state;
    pthread_t thread;
    if (!SIGNALS_COME)
        skip();
    burn(500);
    uint64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    cprof_recording *recording = start(1000);
    atomic_store(&over, false);
    atomic_store(&spinner_tid, 0);
    assert_int_equal(pthread_create(&thread, NULL, spinner, NULL), 0);
    while (!atomic_load(&spinner_tid) || !sampled_ns()) {}
    see_samples(3);
    uint32_t index = 0;
    while (!cprof__handler_find(index) || atomic_load(&cprof__handler_find(index)->tid) != spinner_tid)
        index++;
    for (int i = 0; i < 20; i++) {
        siginfo_t info = {.si_signo = CPROF__SIGNAL, .si_code = SI_TIMER};
        info.si_value.sival_ptr = cprof__handler_value(index, CPROF__SOURCE_CPU);
        assert_int_equal(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), CPROF__SIGNAL, &info), 0);
    }
    cprof_snapshot *data = stop(recording);
    expect_total(data, 0, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before);
    cprof_snapshot_free(data);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
}

/* ---- Forks ---- */

static int in_child(cprof_recording *parents)
{
    cprof_snapshot *data = NULL;
    cprof_recording *own = NULL;
    if (cprof_recording_stop(parents, &data) != CPROF_ECLOSED || data)
        return 1;
    cprof_recording_free(parents);
    if (cprof_start_cpu_profile(NULL, &own) != 0)
        return 2;
    burn(100);
    if (cprof_recording_stop(own, &data) != 0 || sum(data, 1, NULL) < 90000000)
        return 3;
    cprof_snapshot_free(data);
    cprof_recording_free(own);
    return 0;
}

static void test_fork(void **state)
{
    (void)state;
    cprof_recording *recording = start(4000);
    burn(20);
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(in_child(recording));
        while (waitpid(pid, &status, 0) < 0) {}
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    burn(20);
    expect_burn(stop(recording));
}

/* ---- Allocations ---- */

static int start_and_stop(void)
{
    cprof_recording *recording = NULL;
    cprof_snapshot *data = NULL;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.hz = 1000;
    int code = cprof_start_cpu_profile(&options, &recording);
    if (code)
        return code;
    burn(2);
    code = cprof_recording_stop(recording, &data);
    assert_true((code == 0) == (data != NULL));
    cprof_snapshot_free(data);
    cprof_recording_free(recording);
    return code;
}

static void test_allocations(void **state)
{
    (void)state;
    long tries;
    SWEEP(start_and_stop(), &tries);
    assert_true(tries > 1);
    cprof_recording *recording = start(1000);
    burn(50);
    expect_burn(stop(recording));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_misuse),  cmocka_unit_test(test_several),
        cmocka_unit_test(test_engines), cmocka_unit_test(test_wall),
        cmocka_unit_test(test_locks),   cmocka_unit_test(test_late_signals),

        cmocka_unit_test(test_fork),    cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
