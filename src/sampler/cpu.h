/* SPDX-License-Identifier: MIT
 *
 * The sampler behind cprof_start_cpu_profile (cprof.h): one for the process, at the highest rate that a running
 * recording asks for. What is written when the process ends is in ending.c.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_CPU_H
#define CPROF_SAMPLER_CPU_H

#include <stdbool.h>

/* Stops all recordings that have an output and writes it. */
void cprof__cpu_write_outputs(void);

/* Whether some recording runs that has an output. Takes the sampler's lock. */
bool cprof__cpu_has_outputs(void);

/* Wakes the collector's thread. Signals: safe. */
void cprof__cpu_wake(void);

/* ---- ending.c ---- */

/* Sees to it that outputs are written at exit, SIGINT and SIGTERM (where the host has left these to the default).
 * Under the sampler's lock. */
void cprof__ending_watch(void);

/* There are no outputs any more: the signals are the default's again, where they are still ours. */
void cprof__ending_unwatch(void);

/* In the child of a fork: the same, also where a signal has come, which was for the parent. */
void cprof__ending_forget(void);

/* On the collector's thread: where a signal has come, writes the outputs and ends the process by it. */
void cprof__ending_act(void);

#endif
