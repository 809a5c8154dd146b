/* SPDX-License-Identifier: MIT
 *
 * Work whose length is known, for the benchmark and the tests of CPU profiles: what a function burnt is what the
 * thread's CPU clock says, so a profile can be compared with the truth and not with an intention.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

/* CPU time of the calling thread. */
static inline int64_t load_thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* CPU time of the process, as the kernel accounts for it. */
static inline int64_t load_process_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

/* Some 80 us that touch no memory. SALT keeps the compiler from folding the functions that spin into one. */
static inline void load_spin(uint64_t salt)
{
    for (int i = 0; i < 60000; i++) {
        salt = salt * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(salt));
    }
}

/* A function that burns NS of its thread's CPU time in its own loop and returns what it took by the clock. */
#define LOAD_BURNER(NAME, SALT)                                                                              \
    __attribute__((noinline)) static int64_t NAME(int64_t ns)                                                \
    {                                                                                                        \
        int64_t began = load_thread_ns(), now;                                                               \
        do {                                                                                                 \
            load_spin(SALT);                                                                                 \
            now = load_thread_ns();                                                                          \
        } while (now - began < ns);                                                                          \
        return now - began;                                                                                  \
    }

/* Numbers from 0 to 65535 that keep step with nothing. */
static inline unsigned load_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 48);
}

#endif
