/* SPDX-License-Identifier: MIT
 *
 * See trail.h.
 */
#include "sigsafe/trail.h"

#include "sigsafe/step.h"

#include <string.h>

#define LIMIT CPROF__TRAIL_MAX

/* What has changed of the words that lead from FRAME to the next; 0: nothing. */
static inline uint64_t changes_of(const cprof__trail_frame *frame)
{
    return (cprof__stack_word(frame[1].sp - 8) ^ frame[1].key) |
           (cprof__stack_word(frame->fp_place) ^ frame->fp_word);
}

/* The first frame from I on that the stack's words lead elsewhere from than they did; LIMIT where there is
 * none. They are compared all together first, without a branch for each. */
static uint32_t changed_from(const cprof__trail_frame *frames, uint32_t i)
{
    uint64_t changes = 0;
    for (uint32_t j = i; j + 1 < LIMIT; j++)
        changes |= changes_of(&frames[j]);
    if (!changes)
        return LIMIT;
    while (i + 1 < LIMIT && !changes_of(&frames[i]))
        i++;
    return i + 1 < LIMIT ? i : LIMIT;
}

/* Whether the walk that is at KEY and AT may go on as FRAME did. */
static inline bool joins(const cprof__trail_frame *frame, uint64_t key, const cprof__regs *at)
{
    return frame->sp == at->sp && frame->key == key && (!frame->fp_matters || frame->fp == at->fp);
}

/* Settles for the COUNT frames walked, which lead to one where fp matters or not, whether it matters in each.
 * Until then fp_matters says whether a frame's own rule needs fp, and fp_place where it is saved in any case. */
static void settle_fp(cprof__trail_frame *frames, uint32_t count, bool matters_outside)
{
    for (uint32_t i = count; i-- > 0;) {
        bool needed = frames[i].fp_matters, saved = frames[i].fp_place != 0;
        if (!matters_outside)
            frames[i].fp_place = 0;
        frames[i].fp_matters = needed || (matters_outside && !saved);
        matters_outside = frames[i].fp_matters;
    }
}

/* Puts the COUNT frames walked before frame OUTER, which is known (LIMIT: there is none). LAST_OFFSET is
 * added to the outermost one's pc. */
static size_t place(cprof__trail *trail, uint32_t count, uint32_t outer, uint64_t last_offset)
{
    settle_fp(trail->walked, count, outer < LIMIT && trail->frames[outer].fp_matters);
    uint32_t first = outer - count;
    memcpy(&trail->frames[first], trail->walked, count * sizeof *trail->frames);
    for (uint32_t i = outer; i-- > first;) {
        cprof__trail_frame *frame = &trail->frames[i];
        if (i + 1 < LIMIT) {
            frame->fp_word = frame->fp_place ? frame[1].fp : frame[1].key;
            frame->fp_place = frame->fp_place ? frame->fp_place : frame[1].sp - 8;
        }
        trail->pcs[i] = trail->frames[i].key - 1 + (i == outer - 1 ? last_offset : 0);
        trail->sums[i] = trail->sums[i + 1] + cprof__trail_term(trail->pcs[i], LIMIT - 1 - i);
    }
    trail->fresh = count;
    trail->count = LIMIT - first;
    return trail->count;
}

/* A trail for a walk of its own: nothing of the last one is left. */
static size_t begin_anew(cprof__trail *trail, uint32_t count, uint64_t last_offset, cprof__walk_end end)
{
    trail->sums[LIMIT] = 0;
    trail->end = end;
    return place(trail, count, LIMIT, last_offset);
}

static size_t give_up(cprof__trail *trail)
{
    trail->count = 0;
    return 0;
}

size_t cprof__trail_walk(cprof__trail *trail, const cprof__code_map *map, const cprof__regs *regs,
                         uint64_t stack_low, uint64_t stack_high, size_t max)
{
    uint32_t generation = atomic_load_explicit(&map->generation, memory_order_acquire);
    uint32_t sequence = atomic_load_explicit(&map->sequence, memory_order_acquire);
    if (trail->sequence != sequence || trail->max != max)
        trail->count = 0;
    trail->sequence = sequence;
    trail->max = max;
    uint32_t old = LIMIT - trail->count, count = 0;
    cprof__regs at = *regs, next;
    uint64_t key = at.pc + 1;
    cprof__rule seen = 0;
    while (at.sp >= stack_low && at.sp < stack_high && count < LIMIT) {
        while (old < LIMIT && trail->frames[old].sp < at.sp)
            old++;
        if (old < LIMIT && joins(&trail->frames[old], key, &at)) {
            uint32_t changed = changed_from(trail->frames, old), total = count + LIMIT - old;
            if (changed == LIMIT && count == 0 && total == trail->count) {
                trail->fresh = 0;
                return trail->count;
            }
            if (changed == LIMIT && trail->end == CPROF__WALK_ROOT && total <= max && count <= old) {
                trail->transient |= (seen & CPROF__RULE_TRANSIENT) != 0;
                return place(trail, count, old, 0);
            }
            old = changed + 1;
        }
        cprof__rule rule = cprof__step_rule(map, key, generation);
        seen |= rule;
        cprof__trail_frame *frame = &trail->walked[count++];
        *frame = (cprof__trail_frame){key, at.sp, at.fp, 0, 0, cprof__rule_kind(rule) == CPROF__RULE_FP};
        if (cprof__rule_kind(rule) == CPROF__RULE_END) {
            trail->transient = seen & CPROF__RULE_TRANSIENT;
            return begin_anew(trail, count, (uint64_t)cprof__rule_offset(rule), CPROF__WALK_ROOT);
        }
        if (!cprof__step_near(rule, &at, stack_high, &next))
            return give_up(trail);
        if (cprof__rule_fp_words(rule))
            frame->fp_place = next.sp - cprof__rule_fp_words(rule) * 8;
        if (count == max) {
            trail->transient = seen & CPROF__RULE_TRANSIENT;
            return begin_anew(trail, count, 0, CPROF__WALK_FULL);
        }
        at = next;
        key = next.pc;
    }
    return give_up(trail);
}
