/* SPDX-License-Identifier: MIT
 *
 * The stacks of the process, each kept once. Looking one up takes no lock; adding one does. Stacks are never
 * forgotten; past CPROF__STACKS_BYTES_MAX new ones become the one frame "[stack table full]". Threads: any.
 * Signals: unsafe.
 */
#ifndef CPROF_CORE_STACKS_H
#define CPROF_CORE_STACKS_H

#include <stdint.h>

#define CPROF__STACKS_BYTES_MAX (UINT64_C(512) << 20)
#define CPROF__STACK_DEPTH_MAX 1024

typedef struct cprof__stack {
    const uint64_t *frames; /* leaf first; lookup addresses, native or in the VM range */
    uint32_t depth;
    uint32_t skip; /* logical frames to leave out when it is shown */
    uint32_t era;  /* of core/code.h, in which the frames mean what they mean */
} cprof__stack;

/* The number of the stack, never 0, or 0 where memory ran out. DEPTH is at most CPROF__STACK_DEPTH_MAX + 1;
 * SKIP above 65,535 counts as that. */
uint32_t cprof__stacks_intern(const uint64_t *frames, uint32_t depth, uint32_t skip);

/* The same where SUM, of cprof__trail_term over the frames, is known already. */
uint32_t cprof__stacks_intern_sum(const uint64_t *frames, uint32_t depth, uint32_t skip, uint64_t sum);

/* The stack with NUMBER, which intern returned. */
cprof__stack cprof__stacks_get(uint32_t number);

#endif
