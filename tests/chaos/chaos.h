/* SPDX-License-Identifier: MIT
 *
 * What the parts of the chaos program share: workers, each a thread that does its kind of harm over and over until it
 * is told to stop, and a random number for each. Threads: any.
 */
#ifndef CPROF_TESTS_CHAOS_H
#define CPROF_TESTS_CHAOS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct worker {
    const char *name;
    void (*act)(struct worker *self); /* one act, of some milliseconds */
    uint64_t random;
    _Atomic uint64_t acts; /* looked at by the watchdog */
} worker;

extern const char *chaos_folder; /* where files are written */
extern const char *chaos_plugin; /* the library that is loaded and unloaded */
extern const char *chaos_script; /* chaos.lua */
extern const char *chaos_lua;    /* the folder of cprof.lua */
extern atomic_bool chaos_over;
extern __thread worker *chaos_self; /* the calling thread's, or NULL */

/* A number from 0 to LIMIT - 1. */
uint32_t chaos_random(worker *self, uint32_t limit);

/* Uses CPU time. */
void chaos_spin(uint64_t us);

/* What must not be: says it and ends the process with a core. */
void chaos_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* native.c */
void chaos_threads(worker *self);
void chaos_libraries(worker *self);
void chaos_forks(worker *self);
void chaos_memory(worker *self);
void chaos_signals(worker *self);

/* recordings.c */
void chaos_recordings(worker *self);
void chaos_profiles(worker *self);

/* states.c */
void chaos_states(worker *self);
void chaos_poor_states(worker *self); /* whose allocator fails */

#endif
