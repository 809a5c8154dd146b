/* SPDX-License-Identifier: MIT
 *
 * What a program pays for cprof while nothing samples: the same work, with cprof and without, whose instructions
 * callgrind counts. ROUNDS of two sizes are compared, so that what starting costs cancels out. With cprof, a recording
 * has been started and stopped first; the sampler's thread is waited for, since it lingers for some seconds and
 * callgrind would count what it does as well.
 *
 *     zero ROUNDS
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef WITH_CPROF
#include "cprof.h"

static int count_threads(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    if (!directory)
        return 1;
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static int prepare(void)
{
    cprof_recording *recording;
    int code = cprof_start_cpu_profile(NULL, &recording);
    if (code) {
        fprintf(stderr, "zero: %s\n", cprof_last_error());
        return code;
    }
    cprof_recording_free(recording);
    for (int i = 0; i < 300 && count_threads() > 1; i++)
        usleep(100000);
    return count_threads() > 1;
}
#else
static int prepare(void)
{
    return 0;
}
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *end_at_once(void *context)
{
    return context;
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* What cprof could touch: memory, locks, threads, calls through the libraries' tables. */
__attribute__((noinline)) static unsigned work(int round)
{
    unsigned sum = (unsigned)round;
    int *numbers = malloc(200 * sizeof *numbers);
    for (int i = 0; numbers && i < 200; i++)
        numbers[i] = (int)(sum = sum * 1664525u + 1013904223u) >> 8;
    qsort(numbers, 200, sizeof *numbers, compare);
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&lock);
        free(calloc(1, 16 + (sum + (unsigned)i) % 100));
        pthread_mutex_unlock(&lock);
    }
    if (round % 100 == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, end_at_once, NULL) == 0)
            pthread_join(thread, NULL);
    }
    sum += (unsigned)numbers[sum % 200];
    free(numbers);
    return sum;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    unsigned sum = 0;
    if (prepare() != 0)
        return 1;
    for (int i = 0; i < rounds; i++)
        sum += work(i);
    printf("%u\n", sum);
    return 0;
}
