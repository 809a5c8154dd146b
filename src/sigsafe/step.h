/* SPDX-License-Identifier: MIT
 *
 * One frame of a walk, for walk.c and trail.c: the rule for a pc, from a cache that takes no lock, and the
 * step outward by the two rules that nearly all code has. Signals: safe.
 */
#ifndef CPROF_SIGSAFE_STEP_H
#define CPROF_SIGSAFE_STEP_H

#include "sigsafe/codemap.h"
#include "sigsafe/walk.h"

/* The cache: one word a pc, direct-mapped by the pc's low bits. The word holds the rest of the pc (addresses
 * of user code have 47 bits), the generation of the map, and the rule with a shorter offset; so it can be
 * checked and used without tearing, whoever writes it. The generation's few bits come round: core/code.c
 * empties the cache then. */
#define CPROF__STEP_INDEX_BITS 13
#define CPROF__STEP_TAG_BITS (47 - CPROF__STEP_INDEX_BITS)
#define CPROF__STEP_GENERATION_SHIFT (64 - CPROF__STEP_TAG_BITS - 4)
#define CPROF__STEP_RULE_BITS CPROF__STEP_GENERATION_SHIFT /* 26: kind 4, fp 7, transient 1, offset 14 */
#define CPROF__STEP_OFFSET_CUT (32 - CPROF__STEP_RULE_BITS)

extern _Atomic uint64_t cprof__step_cache[1u << CPROF__STEP_INDEX_BITS];

/* A KEY is the address whose rule is looked up, plus one: for a return address, which belongs to the
 * instruction before it, that is the return address itself. */
static inline uint64_t cprof__step_tag(uint64_t key, uint64_t generation)
{
    return key >> CPROF__STEP_INDEX_BITS << (64 - CPROF__STEP_TAG_BITS) | generation
                                                                              << CPROF__STEP_GENERATION_SHIFT;
}

static inline cprof__rule cprof__step_cached(uint64_t key, uint64_t generation)
{
    uint64_t word = atomic_load_explicit(&cprof__step_cache[key & ((1u << CPROF__STEP_INDEX_BITS) - 1)],
                                         memory_order_relaxed);
    if ((word ^ cprof__step_tag(key, generation)) >> CPROF__STEP_RULE_BITS)
        return CPROF__RULE_NONE;
    /* Shifted so that the offset's sign comes to where rules have it, and back. */
    int32_t rule = (int32_t)((uint32_t)word << CPROF__STEP_OFFSET_CUT) >> CPROF__STEP_OFFSET_CUT;
    return (cprof__rule)rule;
}

/* The rule from the map, which is remembered; CPROF__RULE_NONE where none is known. */
cprof__rule cprof__step_found_rule(const cprof__code_map *map, uint64_t key, uint64_t generation);

static inline cprof__rule cprof__step_rule(const cprof__code_map *map, uint64_t key, uint64_t generation)
{
    cprof__rule rule = cprof__step_cached(key, generation);
    return __builtin_expect(rule != CPROF__RULE_NONE, 1) ? rule
                                                         : cprof__step_found_rule(map, key, generation);
}

/* The words of other functions' frames, of which sanitizers know nothing good; where fp was garbage, not even
 * aligned. */
__attribute__((no_sanitize("address", "thread", "alignment"))) static inline uint64_t
cprof__stack_word(uint64_t address)
{
    return *(const volatile uint64_t *)(uintptr_t)address;
}

/* One step by the two rules that nearly all code has, on the thread's own stack. HIGH is 0 where sp is not on
 * it. Returns: whether the step could be made so; then *TO has it. A return address of 0 is left to far_step.
 */
static inline bool cprof__step_near(cprof__rule rule, const cprof__regs *from, uint64_t high, cprof__regs *to)
{
    enum cprof__rule_kind kind = cprof__rule_kind(rule);
    if (kind != CPROF__RULE_SP && kind != CPROF__RULE_FP)
        return false;
    /* Which of both, and whether fp is saved, changes from frame to frame: chosen without a branch. */
    uint64_t cfa = (kind == CPROF__RULE_SP ? from->sp : from->fp) + (uint64_t)cprof__rule_offset(rule) * 8;
    uint64_t fp_bytes = cprof__rule_fp_words(rule) * 8;
    if (cfa < from->sp + 8 || cfa > high || cfa - from->sp < fp_bytes)
        return false;
    uint64_t saved = cprof__stack_word(cfa - (fp_bytes ? fp_bytes : 8));
    to->pc = cprof__stack_word(cfa - 8);
    to->sp = cfa;
    to->fp = fp_bytes ? saved : from->fp;
    return to->pc != 0;
}

#endif
