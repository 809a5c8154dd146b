/* SPDX-License-Identifier: MIT
 *
 * chaos SECONDS SEED FOLDER PLUGIN SCRIPT LUA: samples itself at 4 kHz while its workers do all that is known to have
 * crashed profilers. Each round is a recording, of which a line tells what must be true: "round FILE LEAST_NS MOST_NS",
 * between which CPU times its total lies.
 * What the files hold is for scripts/chaos to check. Ends with 0, or by a signal with a core: also where a worker has
 * stood still for minutes.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include "cprof.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROUND_SECONDS 3
#define STILL_SECONDS 240

const char *chaos_folder, *chaos_plugin, *chaos_script, *chaos_lua;
atomic_bool chaos_over;
__thread worker *chaos_self;

static worker workers[] = {
    {.name = "threads", .act = chaos_threads},
    {.name = "libraries", .act = chaos_libraries},
    {.name = "forks", .act = chaos_forks},
    {.name = "memory", .act = chaos_memory},
    {.name = "signals", .act = chaos_signals},
    {.name = "recordings", .act = chaos_recordings},
    {.name = "recordings", .act = chaos_recordings},
    {.name = "profiles", .act = chaos_profiles},
    {.name = "states", .act = chaos_states},
    {.name = "states", .act = chaos_states},
    {.name = "poor states", .act = chaos_poor_states},
};
#define WORKERS (sizeof workers / sizeof workers[0])

uint32_t chaos_random(worker *self, uint32_t limit)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return (uint32_t)(self->random >> 32) % limit;
}

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void chaos_spin(uint64_t us)
{
    uint64_t until = clock_us(CLOCK_THREAD_CPUTIME_ID) + us;
    while (clock_us(CLOCK_THREAD_CPUTIME_ID) < until) {}
}

/* The sampler's own signals interrupt what sleeps. */
static void sleep_until(uint64_t us)
{
    const struct timespec until = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {}
}

void chaos_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("chaos: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void *work(void *context)
{
    worker *self = context;
    pthread_setname_np(pthread_self(), self->name);
    chaos_self = self;
    while (!atomic_load(&chaos_over)) {
        self->act(self);
        atomic_fetch_add(&self->acts, 1);
        usleep(chaos_random(self, 10000)); /* who collects and writes is to come to run as well */
    }
    return NULL;
}

/* One after the other, until all have come to their end. */
static void *watch(void *context)
{
    uint64_t seen[WORKERS] = {0};
    int still[WORKERS] = {0};
    pthread_setname_np(pthread_self(), "watchdog");
    for (;;) {
        sleep_until(clock_us(CLOCK_MONOTONIC) + 1000000);
        for (size_t i = 0; i < WORKERS; i++) {
            uint64_t acts = atomic_load(&workers[i].acts);
            still[i] = acts == seen[i] ? still[i] + 1 : 0;
            seen[i] = acts;
            if (still[i] > STILL_SECONDS)
                chaos_fail("worker %zu (%s) stands still after %llu acts", i, workers[i].name,
                           (unsigned long long)acts);
        }
    }
    return context;
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void round_of(unsigned number)
{
    char path[4096];
    cprof_recording *recording;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    snprintf(path, sizeof path, "%s/round-%u.pb.gz", chaos_folder, number);
    options.hz = 4000;
    options.output = path;
    uint64_t before = cpu_us(), wall = clock_us(CLOCK_MONOTONIC);
    if (cprof_start_cpu_profile(&options, &recording) != 0)
        chaos_fail("round %u: start: %s", number, cprof_last_error());
    uint64_t begun = cpu_us();
    sleep_until(wall + ROUND_SECONDS * 1000000);
    uint64_t ending = cpu_us();
    if (cprof_recording_stop(recording, NULL) != 0)
        chaos_fail("round %u: stop: %s", number, cprof_last_error());
    printf("round %s %llu %llu\n", path, (unsigned long long)(ending - begun) * 1000,
           (unsigned long long)(cpu_us() - before) * 1000);
    fflush(stdout);
    cprof_recording_free(recording);
}

int main(int count, char **arguments)
{
    pthread_t threads[WORKERS], watchdog;
    if (count != 7)
        return 2;
    uint64_t seconds = strtoull(arguments[1], NULL, 10), seed = strtoull(arguments[2], NULL, 10);
    chaos_folder = arguments[3];
    chaos_plugin = arguments[4];
    chaos_script = arguments[5];
    chaos_lua = arguments[6];
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].random = (seed + i + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            chaos_fail("no thread for %s", workers[i].name);
    }
    if (pthread_create(&watchdog, NULL, watch, NULL) != 0)
        chaos_fail("no thread for the watchdog");
    uint64_t until = clock_us(CLOCK_MONOTONIC) + seconds * 1000000;
    for (unsigned number = 0; number == 0 || clock_us(CLOCK_MONOTONIC) < until; number++)
        round_of(number);
    atomic_store(&chaos_over, true);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < WORKERS; i++)
        printf("worker %s: %llu acts\n", workers[i].name, (unsigned long long)workers[i].acts);
    return 0;
}
