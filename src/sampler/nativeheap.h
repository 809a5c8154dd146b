/* SPDX-License-Identifier: MIT
 *
 * malloc and its like, taken over in the slots of the objects that import them (hooks.h), above whatever allocator the
 * program has.
 */
#ifndef CPROF_SAMPLER_NATIVEHEAP_H
#define CPROF_SAMPLER_NATIVEHEAP_H

#include <stdatomic.h>
#include <stdbool.h>

/* Takes them over, also for objects that have been loaded since. Under the sampler's lock.
 * Returns: 0, CPROF_ESYSTEM. */
int cprof__nativeheap_apply(void);

/* Gives them back. Under the sampler's lock. */
void cprof__nativeheap_undo(void);

/* Threads: any. */
extern _Atomic bool cprof__nativeheap_on;
bool cprof__nativeheap_is_on(void);

#endif
