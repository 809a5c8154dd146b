/* SPDX-License-Identifier: MIT
 *
 * The C side of `scripts/bench cpu`: answers a line of numbers to each line that it is asked. Times are CPU time in
 * nanoseconds; MS is how long to burn; FILE gets the profile that was recorded meanwhile at HZ.
 *
 *     total THREADS MS HZ FILE    what the process used by getrusage, while THREADS burn MS each
 *     lives LIFE_MS MS HZ FILE    the same with threads of LIFE_MS, two at a time, for MS in all
 *     split MS HZ FILE            the process; then alpha, beta, gamma and delta as each measured itself
 *     phases PERIOD_MS MS HZ FILE the same of alpha, beta, gamma, which take a third of each period
 *     cost FRAMES HZ UNITS        UNITS of work at FRAMES native frames: the process's time without and with a
 *                                 profiler, and the samples it took
 *
 * The profiler of `cost` is gperftools' where that is preloaded (its rate comes from CPUPROFILE_FREQUENCY); with the
 * argument "empty" it is a handler that does nothing but count, signalled by the same engine: what the kernel takes.
 */
#define _GNU_SOURCE
#include "load.h"

#include "cprof.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define THREADS_MAX 8

LOAD_BURNER(alpha, 1)
LOAD_BURNER(beta, 2)
LOAD_BURNER(gamma, 3)
LOAD_BURNER(delta, 4)

static int fail(const char *what)
{
    printf("error %s: %s\n", what, cprof_last_error());
    return -1;
}

/* ---- Recording ---- */

static cprof_recording *recording;
static int64_t began_ns;

/* What the process uses between the two calls of these is what the profile has to account for; the work of starting
 * and stopping is outside on both sides. */
static int start_recording(int hz)
{
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.hz = hz;
    int code = cprof_start_cpu_profile(&options, &recording);
    began_ns = load_process_ns();
    return code;
}

static int stop_recording(const char *file, int64_t *used_ns, int64_t *samples)
{
    cprof_snapshot *data;
    *used_ns = load_process_ns() - began_ns;
    int code = cprof_recording_stop(recording, &data);
    if (code)
        return code;
    *samples = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(data); i++) {
        cprof_sample sample;
        code = cprof_snapshot_sample(data, i, &sample);
        *samples += code ? 0 : sample.values[0];
    }
    if (file)
        code = cprof_snapshot_write(data, file, NULL);
    cprof_snapshot_free(data);
    cprof_recording_free(recording);
    return code;
}

/* ---- Totals ---- */

static void *burn_thread(void *context)
{
    alpha(*(int64_t *)context);
    return NULL;
}

/* COUNT threads at once, so often. */
static int run_threads(int count, int64_t ns, int64_t rounds)
{
    pthread_t threads[THREADS_MAX];
    for (int64_t round = 0; round < rounds; round++) {
        for (int i = 0; i < count; i++)
            if (pthread_create(&threads[i], NULL, burn_thread, &ns) != 0)
                return -1;
        for (int i = 0; i < count; i++)
            pthread_join(threads[i], NULL);
    }
    return 0;
}

static void answer_total(int threads, int64_t ns, int64_t rounds, int hz, const char *file)
{
    int64_t used_ns, samples;
    if (threads < 1 || threads > THREADS_MAX || start_recording(hz) != 0) {
        fail("start");
        return;
    }
    int failed = run_threads(threads, ns, rounds);
    if (stop_recording(file, &used_ns, &samples) != 0 || failed)
        fail("total");
    else
        printf("%lld\n", (long long)used_ns);
}

/* ---- Splits ---- */

typedef int64_t (*burner)(int64_t ns);

#define PARTS 4

/* Turns of a few milliseconds that keep step with nothing, or of TURN_NS each. TOOK gets what each part took. */
static void burn_parts(const burner *parts, const int *percent, int64_t turn_ns, int64_t ns, int64_t *took)
{
    uint64_t random = (uint64_t)load_thread_ns();
    for (int64_t done = 0; done < ns;) {
        int64_t turn = turn_ns ? turn_ns : 2 * MS + 4 * MS * load_random(&random) / 65536;
        for (int i = 0; i < PARTS && parts[i]; i++) {
            int64_t part = parts[i](turn * percent[i] / 100);
            took[i] += part;
            done += part;
        }
    }
}

static void answer_split(bool phases, int64_t turn_ns, int64_t ns, int hz, const char *file)
{
    static const burner all[PARTS] = {alpha, beta, gamma, delta}, three[PARTS] = {alpha, beta, gamma};
    static const int shares[PARTS] = {50, 30, 15, 5}, thirds[PARTS] = {33, 33, 33};
    int64_t took[PARTS] = {0}, used_ns, samples;
    if (start_recording(hz) != 0) {
        fail("start");
        return;
    }
    burn_parts(phases ? three : all, phases ? thirds : shares, turn_ns, ns, took);
    if (stop_recording(file, &used_ns, &samples) != 0) {
        fail("stop");
        return;
    }
    printf("%lld", (long long)used_ns);
    for (int i = 0; i < (phases ? 3 : PARTS); i++)
        printf(" %lld", (long long)took[i]);
    printf("\n");
}

/* ---- The cost of a sample ---- */

/* Of gperftools' profiler.h, as far as it is needed. */
struct ProfilerState {
    int enabled;
    time_t start_time;
    char profile_name[1024];
    int samples_gathered;
};

static struct peer {
    int (*start)(const char *file);
    void (*stop)(void);
    void (*state)(struct ProfilerState *state);
} peer;

/* ---- The empty handler ---- */

static struct empty {
    int fd;
    volatile sig_atomic_t count;
} empty;

static void count_signal(int signal)
{
    (void)signal;
    empty.count++;
}

static int start_empty(int hz)
{
    struct perf_event_attr attr = {.size = sizeof attr,
                                   .type = PERF_TYPE_SOFTWARE,
                                   .config = PERF_COUNT_SW_TASK_CLOCK,
                                   .sample_period = UINT64_C(1000000000) / (uint64_t)hz,
                                   .wakeup_events = 1,
                                   .disabled = 1,
                                   .exclude_hv = 1};
    struct f_owner_ex owner = {F_OWNER_TID, gettid()};
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGURG, &action, NULL);
    empty.count = 0;
    empty.fd = (int)syscall(SYS_perf_event_open, &attr, gettid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (empty.fd < 0 && errno == EACCES) {
        attr.exclude_kernel = 1;
        empty.fd = (int)syscall(SYS_perf_event_open, &attr, gettid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    if (empty.fd < 0 || fcntl(empty.fd, F_SETOWN_EX, &owner) != 0 || fcntl(empty.fd, F_SETSIG, SIGURG) != 0 ||
        fcntl(empty.fd, F_SETFL, O_ASYNC | O_NONBLOCK) != 0)
        return -1;
    return ioctl(empty.fd, PERF_EVENT_IOC_ENABLE, 0);
}

/* ---- gperftools ---- */

static void find_peer(void)
{
    *(void **)&peer.start = dlsym(RTLD_DEFAULT, "ProfilerStart");
    *(void **)&peer.stop = dlsym(RTLD_DEFAULT, "ProfilerStop");
    *(void **)&peer.state = dlsym(RTLD_DEFAULT, "ProfilerGetCurrentState");
}

static void work(int units)
{
    for (int i = 0; i < units; i++)
        load_spin(5);
}

/* The asm keeps the compiler from turning the recursion into a loop or the call into a jump. */
__attribute__((noinline)) static void dig(int levels, int units, int *depth)
{
    void *pcs[256];
    if (levels > 1)
        dig(levels - 1, units, depth);
    else if (depth)
        *depth = backtrace(pcs, 256);
    else
        work(units);
    __asm__ volatile("" ::: "memory");
}

static int64_t process_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t timed(int levels, int units)
{
    int64_t began = process_clock_ns();
    dig(levels, units, NULL);
    return process_clock_ns() - began;
}

static bool is_empty;

static int timed_with_profiler(int levels, int units, int hz, int64_t *ns, int64_t *samples)
{
    int64_t used_ns;
    if (is_empty) {
        if (start_empty(hz) != 0)
            return -1;
        *ns = timed(levels, units);
        close(empty.fd);
        *samples = empty.count;
        return 0;
    }
    if (!peer.start) {
        if (start_recording(hz) != 0)
            return -1;
        *ns = timed(levels, units);
        return stop_recording(NULL, &used_ns, samples);
    }
    struct ProfilerState state = {0};
    if (!peer.start("/dev/null"))
        return -1;
    *ns = timed(levels, units);
    peer.state(&state);
    peer.stop();
    *samples = state.samples_gathered;
    return 0;
}

/* Asked again and again; every second time the turn with the profiler comes first. */
static void answer_cost(int frames, int hz, int units)
{
    static int base, turn;
    if (!base)
        dig(1, units, &base);
    int levels = frames - base + 1, status = 0;
    int64_t off = 0, on = 0, samples = 0;
    bool first = turn++ % 2;
    if (!first)
        off = timed(levels, units);
    status = timed_with_profiler(levels, units, hz, &on, &samples);
    if (first)
        off = timed(levels, units);
    if (status)
        fail("cost");
    else
        printf("%lld %lld %lld\n", (long long)off, (long long)on, (long long)samples);
}

int main(int argc, char **argv)
{
    char line[512], file[512];
    int a, hz;
    long long ms;
    find_peer();
    is_empty = argc > 1 && strcmp(argv[1], "empty") == 0;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "total %d %lld %d %511s", &a, &ms, &hz, file) == 4)
            answer_total(a, ms * MS, 1, hz, file);
        else if (sscanf(line, "lives %d %lld %d %511s", &a, &ms, &hz, file) == 4)
            answer_total(2, a * MS, ms / a / 2, hz, file);
        else if (sscanf(line, "split %lld %d %511s", &ms, &hz, file) == 3)
            answer_split(false, 0, ms * MS, hz, file);
        else if (sscanf(line, "phases %d %lld %d %511s", &a, &ms, &hz, file) == 4)
            answer_split(true, a * MS, ms * MS, hz, file);
        else if (sscanf(line, "cost %d %d %lld", &a, &hz, &ms) == 3)
            answer_cost(a, hz, (int)ms);
        else
            printf("error unknown question: %s", line);
        fflush(stdout);
    }
    return 0;
}
