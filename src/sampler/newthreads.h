/* SPDX-License-Identifier: MIT
 *
 * Threads that are made while anything is recorded are sampled from their first instruction: pthread_create is taken
 * over (hooks.h), and the new thread makes itself known, and at its end closes its own account. Those that are made
 * otherwise are found by the collector's next look.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_NEWTHREADS_H
#define CPROF_SAMPLER_NEWTHREADS_H

/* Takes pthread_create over, also for objects that have been loaded since. Under the sampler's lock. */
void cprof__newthreads_watch(void);

/* Gives it back. Under the sampler's lock. */
void cprof__newthreads_unwatch(void);

/* ---- state.c ---- */

/* The calling thread begins. Returns whether it is sampled now. */
int cprof__newthread_begins(void);

/* It ends: what is left of its time was spent under START, the function that it was made for. */
void cprof__newthread_ends(void *(*start)(void *));

#endif
