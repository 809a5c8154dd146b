/* SPDX-License-Identifier: MIT
 *
 * What the scenes of lifecycle.c and lifecycle_limits.c share.
 */
#ifndef CPROF_TESTS_LIFECYCLE_H
#define CPROF_TESTS_LIFECYCLE_H

#include "cprof.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

#define MUST(CONDITION)                                                                                      \
    do {                                                                                                     \
        if (!(CONDITION)) {                                                                                  \
            printf("line %d: %s (%s)\n", __LINE__, #CONDITION, cprof_last_error());                          \
            fflush(stdout);                                                                                  \
            _exit(99);                                                                                       \
        }                                                                                                    \
    } while (0)

/* Where the scene's profile is to go. */
extern const char *file;

/* Uses MS milliseconds of the thread's CPU time. */
void burn(long ms);

/* Starts and stops a recording at 1000 Hz. */
cprof_recording *start(const char *output);
int stop(cprof_recording *recording);

/* A thread, with a stack of that size (0: the usual), and something for it to do. */
pthread_t spawn(void *(*function)(void *), size_t stack_bytes);
void *burner(void *context);

/* Scenes of lifecycle_limits.c. */
int closes_all(void);
int no_descriptors(void);
int no_descriptors_before(void);
int no_timers(void);
int no_perf(void);
int no_cpu_timers(void);
int unloads(void);
int unloads_soon(void);

#endif
