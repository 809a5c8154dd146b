/* SPDX-License-Identifier: MIT
 *
 * What the parts of the C benchmark worker share: the clock, and a count of the memory that malloc gives out.
 */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include <stddef.h>
#include <stdint.h>

int64_t bench_now_ns(void);

/* Starts to count what malloc gives out and gets back in this process. */
void bench_count_start(void);

/* Stops. *PEAK gets the most that was out at a time, in bytes above the start; returns what is out still. */
int64_t bench_count_stop(int64_t *peak);

/* Bytes of physical memory of this process. */
int64_t bench_resident_bytes(void);

#endif
