/* SPDX-License-Identifier: MIT
 *
 * Walking again. Programs add entries from the same places again and again, and stacks that differ at the
 * leaf share their outer frames. A thread's trail is its last walk, with the words of the stack that led from
 * each frame to the next; where those are still the same, from some frame outward, so is the walk. To see
 * that takes two loads a frame that do not wait for one another, where a walk takes a chain of them.
 *
 * Frames lie leaf first at the end of their arrays, so that outer ones stay where they are when others come
 * before them.
 *
 * Threads: each its own. Signals: safe.
 */
#ifndef CPROF_SIGSAFE_TRAIL_H
#define CPROF_SIGSAFE_TRAIL_H

#include "sigsafe/walk.h"

#include <stdbool.h>

#define CPROF__TRAIL_MAX 256

typedef struct cprof__trail_frame {
    uint64_t key;    /* its pc, plus one where the pc is no return address */
    uint64_t sp, fp; /* as they were in it */
    /* Where it saved fp, and what is there, as far as that matters further out; else the same of its return
     * address, so that a comparison needs no branch. */
    uint64_t fp_place, fp_word;
    bool fp_matters; /* whether the walk from here on depends on fp */
} cprof__trail_frame;

/* A trail of zeros is ready for use. */
typedef struct cprof__trail {
    uint32_t sequence; /* of the code map: its generation comes round, and a thread may sleep for long */
    uint32_t count;    /* 0: nothing is known */
    uint32_t fresh;    /* of the frames, how many at the leaf the last walk found anew */
    bool transient;    /* as cprof__walk's */
    cprof__walk_end end;
    size_t max;
    uint64_t pcs[CPROF__TRAIL_MAX + 1];  /* the last COUNT of the first MAX; one more is the caller's */
    uint64_t sums[CPROF__TRAIL_MAX + 1]; /* of cprof__trail_term, from each frame outward */
    cprof__trail_frame frames[CPROF__TRAIL_MAX];
    cprof__trail_frame walked[CPROF__TRAIL_MAX]; /* those found anew, until they have their place */
} cprof__trail;

/* What PC adds to the hash of a stack where OUTSIDE frames lie further out. */
static inline uint64_t cprof__trail_term(uint64_t pc, uint64_t outside)
{
    uint64_t place = (outside + 1) * UINT64_C(0x9e3779b97f4a7c15);
    unsigned __int128 product = (unsigned __int128)(pc ^ UINT64_C(0xa0761d6478bd642f)) * (place | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The frames of the last walk, leaf first. */
static inline uint64_t *cprof__trail_pcs(cprof__trail *trail)
{
    return trail->pcs + CPROF__TRAIL_MAX - trail->count;
}

/* The sum of cprof__trail_term over them. */
static inline uint64_t cprof__trail_sum(const cprof__trail *trail)
{
    return trail->sums[CPROF__TRAIL_MAX - trail->count];
}

/* As cprof__walk, for a stack in [STACK_LOW, STACK_HIGH), into TRAIL. Returns: how many frames there are
 * (TRAIL->fresh of them new; 0: all is as it was the last time), or 0 where the walk is one that no trail can
 * hold: too deep, or over frames or memory that only cprof__walk masters. */
size_t cprof__trail_walk(cprof__trail *trail, const cprof__code_map *map, const cprof__regs *regs,
                         uint64_t stack_low, uint64_t stack_high, size_t max);

#endif
