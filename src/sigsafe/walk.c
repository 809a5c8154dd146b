/* SPDX-License-Identifier: MIT
 *
 * See walk.h. The common frame costs one look into the cache and one or two loads from the stack; all the
 * rest is kept out of the loop, in far_step.
 */
#define _GNU_SOURCE
#include "sigsafe/walk.h"

#include "sigsafe/codemap.h"
#include "sigsafe/load.h"

#include <string.h>
#include <ucontext.h>

/* The cache: one word a pc, direct-mapped by the pc's low bits. The word holds the rest of the pc (addresses
 * of user code have 47 bits), the generation of the map, and the rule with a shorter offset; so it can be
 * checked and used without tearing, whoever writes it. The generation's few bits come round: core/code.c
 * empties the cache then. */
#define INDEX_BITS 13
#define TAG_BITS (47 - INDEX_BITS)
#define GENERATION_SHIFT (64 - TAG_BITS - 4)
#define RULE_BITS GENERATION_SHIFT /* 26: kind 4, fp 7, transient 1, offset 14 */
#define OFFSET_CUT (32 - RULE_BITS)

static _Atomic uint64_t cache[1u << INDEX_BITS];

/* What far_step knows of a walk. */
typedef struct walk {
    const cprof__code_map *map;
    cprof__regs at;
    uint64_t low, high; /* the thread's stack */
    cprof__load load;
} walk;

/* A KEY is the address whose rule is looked up, plus one: for a return address, which belongs to the
 * instruction before it, that is the return address itself. */
static inline uint64_t tag_of(uint64_t key, uint64_t generation)
{
    return key >> INDEX_BITS << (64 - TAG_BITS) | generation << GENERATION_SHIFT;
}

static inline cprof__rule cached_rule(uint64_t key, uint64_t generation)
{
    uint64_t word = atomic_load_explicit(&cache[key & ((1u << INDEX_BITS) - 1)], memory_order_relaxed);
    if ((word ^ tag_of(key, generation)) >> RULE_BITS)
        return CPROF__RULE_NONE;
    /* Shifted so that the offset's sign comes to where rules have it, and back. */
    int32_t rule = (int32_t)((uint32_t)word << OFFSET_CUT) >> OFFSET_CUT;
    return (cprof__rule)rule;
}

/* The first function of a coroutine was never called: it returns to the very start of another one (in glibc to
 * __start_context, which has no row that says so). Where what lies before a return address is no code, the walk is
 * at its end, and shows KEY and not the address before it: offset 1. */
static cprof__rule rule_at(const cprof__rows *rows, uint64_t offset)
{
    cprof__rule rule = cprof__rows_rule(rows, offset);
    if (cprof__rule_kind(rule) == CPROF__RULE_FRAME) {
        const cprof__row_function *function = cprof__rows_function(rows, offset + 1);
        if (function && function->start == offset + 1)
            rule = cprof__rule_make(CPROF__RULE_END, 1, 0);
    }
    return rule;
}

static __attribute__((noinline)) cprof__rule found_rule(const cprof__code_map *map, uint64_t key,
                                                        uint64_t generation)
{
    cprof__code_object object;
    if (!cprof__code_map_find(map, key - 1, &object))
        return CPROF__RULE_NONE;
    const cprof__rows *rows = atomic_load_explicit(&object.file->rows, memory_order_acquire);
    if (!rows)
        return CPROF__RULE_NONE;
    cprof__rule rule = rule_at(rows, key - 1 - object.base);
    if (object.transient)
        rule |= CPROF__RULE_TRANSIENT;
    int32_t cut = (int32_t)(rule << OFFSET_CUT) >> OFFSET_CUT;
    if (cut == (int32_t)rule && key >> 47 == 0)
        atomic_store_explicit(&cache[key & ((1u << INDEX_BITS) - 1)],
                              tag_of(key, generation) | (rule & ((1u << RULE_BITS) - 1)),
                              memory_order_relaxed);
    return rule;
}

void cprof__walk_forget(void)
{
    for (size_t i = 0; i < sizeof cache / sizeof *cache; i++)
        atomic_store_explicit(&cache[i], 0, memory_order_relaxed);
}

/* The words of other functions' frames, of which sanitizers know nothing good; where fp was garbage, not even
 * aligned. */
__attribute__((no_sanitize("address", "thread", "alignment"))) static inline uint64_t
stack_word(uint64_t address)
{
    return *(const volatile uint64_t *)(uintptr_t)address;
}

/* Below the frame that the walk is at, even the thread's own stack may not be there yet. */
static bool any_word(walk *w, uint64_t address, uint64_t *word)
{
    if (address & 7)
        return false;
    if (w->at.sp >= w->low && address >= w->at.sp && address < w->high) {
        *word = stack_word(address);
        return true;
    }
    return cprof__load_word(&w->load, address, word);
}

static bool known_code(const walk *w, uint64_t pc)
{
    cprof__code_object object;
    return cprof__code_map_find(w->map, pc, &object);
}

/* The words of a ucontext_t at sp, as the kernel lays it down and glibc declares it. */
static bool leave_signal(walk *w)
{
    uint64_t gregs = w->at.sp + offsetof(ucontext_t, uc_mcontext.gregs);
    cprof__regs to;
    if (!any_word(w, gregs + REG_RIP * 8, &to.pc) || !any_word(w, gregs + REG_RSP * 8, &to.sp) ||
        !any_word(w, gregs + REG_RBP * 8, &to.fp))
        return false;
    w->at = to;
    return true;
}

static bool far_cfa(walk *w, cprof__rule rule, uint64_t *cfa)
{
    uint64_t offset = (uint64_t)cprof__rule_offset(rule), word;
    switch (cprof__rule_kind(rule)) {
    case CPROF__RULE_SP:
        *cfa = w->at.sp + offset * 8;
        return true;
    case CPROF__RULE_FP:
        *cfa = w->at.fp + offset * 8;
        return true;
    case CPROF__RULE_FP_DEREF:
        return any_word(w, w->at.fp + offset * 8, cfa);
    case CPROF__RULE_SP_DEREF:
        if (!any_word(w, w->at.sp + offset * 8, &word))
            return false;
        *cfa = word + 8;
        return true;
    case CPROF__RULE_PLT:
        *cfa = w->at.sp + ((w->at.pc & 15) >= offset ? 16 : 8);
        return true;
    case CPROF__RULE_FRAME:
        *cfa = w->at.fp + 16;
        return true;
    default:
        return false;
    }
}

/* How far outward one frame may lie where no bound is known. */
#define FAR_FRAME_MAX (UINT64_C(64) << 20)

/* Where the rule says that fp is saved; 0: nowhere. */
static uint64_t far_fp_place(const walk *w, cprof__rule rule, uint64_t cfa)
{
    if (cprof__rule_kind(rule) == CPROF__RULE_FRAME)
        return w->at.fp;
    if (!cprof__rule_fp_words(rule))
        return 0;
    return cprof__rule_kind(rule) == CPROF__RULE_FP_DEREF ? w->at.fp : cfa - cprof__rule_fp_words(rule) * 8;
}

/* One step by any rule, over any memory. Returns: CPROF__WALK_FULL where the walk can go on, with *KEY the
 * next. */
static __attribute__((noinline)) cprof__walk_end far_step(walk *w, cprof__rule rule, uint64_t *key)
{
    enum cprof__rule_kind kind = cprof__rule_kind(rule);
    cprof__regs to = w->at;
    if (kind == CPROF__RULE_END)
        return CPROF__WALK_ROOT;
    if (kind == CPROF__RULE_NONE)
        return CPROF__WALK_UNKNOWN;
    if (kind == CPROF__RULE_SIGNAL) {
        bool left = leave_signal(w);
        *key = w->at.pc + 1; /* the instruction that was interrupted, not the one before it */
        return left ? CPROF__WALK_FULL : CPROF__WALK_BROKEN;
    }
    if (!far_cfa(w, rule, &to.sp) || to.sp <= w->at.sp || to.sp - w->at.sp > FAR_FRAME_MAX)
        return CPROF__WALK_BROKEN;
    uint64_t fp_place = far_fp_place(w, rule, to.sp);
    if (!any_word(w, to.sp - 8, &to.pc) || (fp_place && !any_word(w, fp_place, &to.fp)))
        return CPROF__WALK_BROKEN;
    if (!to.pc)
        return CPROF__WALK_ROOT;
    /* Without a row, whether fp heads a frame is a guess, and this is the check of it. */
    if (kind == CPROF__RULE_FRAME && !known_code(w, to.pc - 1))
        return CPROF__WALK_BROKEN;
    w->at = to;
    *key = to.pc;
    return CPROF__WALK_FULL;
}

/* One step by the two rules that nearly all code has, on the thread's own stack. HIGH is 0 where sp is not on
 * it. Returns: whether the step could be made so; then *TO has it. A return address of 0 is left to far_step.
 */
static inline bool near_step(cprof__rule rule, const cprof__regs *from, uint64_t high, cprof__regs *to)
{
    uint64_t cfa;
    if (cprof__rule_kind(rule) == CPROF__RULE_SP)
        cfa = from->sp + (uint64_t)cprof__rule_offset(rule) * 8;
    else if (cprof__rule_kind(rule) == CPROF__RULE_FP)
        cfa = from->fp + (uint64_t)cprof__rule_offset(rule) * 8;
    else
        return false;
    uint64_t fp_bytes = cprof__rule_fp_words(rule) * 8;
    if (cfa < from->sp + 8 || cfa > high || cfa - from->sp < fp_bytes)
        return false;
    to->pc = stack_word(cfa - 8);
    to->sp = cfa;
    to->fp = fp_bytes ? stack_word(cfa - fp_bytes) : from->fp;
    return to->pc != 0;
}

size_t cprof__walk(const cprof__code_map *map, cprof__regs *regs, uint64_t stack_low, uint64_t stack_high,
                   uint64_t *pcs, size_t max, cprof__walk_end *end, bool *transient)
{
    uint64_t generation = atomic_load_explicit(&map->generation, memory_order_acquire);
    uint64_t key = regs->pc + 1, high = 0;
    cprof__regs at = *regs, to;
    size_t count = 0;
    cprof__rule seen = 0;
    walk far;
    far.load.base = 0;
    if (at.sp >= stack_low && at.sp < stack_high)
        high = stack_high;
    for (;;) {
        pcs[count++] = key - 1;
        cprof__rule rule = cached_rule(key, generation);
        if (__builtin_expect(rule == CPROF__RULE_NONE, 0))
            rule = found_rule(map, key, generation);
        seen |= rule;
        if (__builtin_expect(near_step(rule, &at, high, &to), 1)) {
            key = to.pc;
        } else {
            far.map = map, far.low = stack_low, far.high = stack_high;
            far.at = at;
            cprof__walk_end why = far_step(&far, rule, &key);
            if (why != CPROF__WALK_FULL) {
                if (cprof__rule_kind(rule) == CPROF__RULE_END)
                    pcs[count - 1] += (uint64_t)cprof__rule_offset(rule);
                *end = why;
                break;
            }
            to = far.at;
            high = to.sp >= stack_low && to.sp < stack_high ? stack_high : 0;
        }
        if (count == max) {
            *end = CPROF__WALK_FULL;
            break;
        }
        at = to;
    }
    *regs = at;
    *transient = seen & CPROF__RULE_TRANSIENT;
    return count;
}

/* ---- Walking again ---- */

/* The first frame from I on whose words in the stack have changed; COUNT where none has. */
static uint32_t changed_from(const cprof__trail_frame *frames, uint32_t i, uint32_t count)
{
    for (; i + 1 < count; i++) {
        const cprof__trail_frame *next = &frames[i + 1];
        if (stack_word(next->sp - 8) != next->key ||
            (frames[i].fp_place && stack_word(frames[i].fp_place) != next->fp))
            return i;
    }
    return count;
}

/* Whether the walk that is at KEY and AT may go on as frame OLD of the trail did. */
static inline bool joins(const cprof__trail_frame *old, uint64_t key, const cprof__regs *at)
{
    return old->sp == at->sp && old->key == key && (!old->fp_matters || old->fp == at->fp);
}

/* Settles for the frames before COUNT of a list whose other frames are settled whether fp matters there.
 * Until then fp_matters says whether a frame's own rule needs it, and fp_place where it is saved in any case. */
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

/* Appends the frames of the trail from OLD on to the COUNT new ones. Returns: how many there are then. */
static uint32_t join(cprof__trail *trail, uint32_t old, uint32_t count, uint64_t *pcs)
{
    const cprof__trail_frame *from = trail->lists[trail->current];
    cprof__trail_frame *to = trail->lists[!trail->current];
    settle_fp(to, count, from[old].fp_matters);
    for (uint32_t i = old; i < trail->count; i++) {
        pcs[count] = from[i].key - 1;
        to[count++] = from[i];
    }
    return count;
}

/* Where the walk met what no trail can hold, it is made anew without one. */
static size_t walk_without(const cprof__code_map *map, const cprof__regs *regs, uint64_t low, uint64_t high,
                           cprof__trail *trail, uint64_t *pcs, size_t max, cprof__walk_end *end)
{
    cprof__regs at = *regs;
    trail->count = 0;
    return cprof__walk(map, &at, low, high, pcs, max, end, &trail->transient);
}

size_t cprof__walk_again(const cprof__code_map *map, const cprof__regs *regs, uint64_t stack_low,
                         uint64_t stack_high, cprof__trail *trail, uint64_t *pcs, size_t max,
                         cprof__walk_end *end, bool *same)
{
    uint32_t generation = atomic_load_explicit(&map->generation, memory_order_acquire);
    uint32_t sequence = atomic_load_explicit(&map->sequence, memory_order_acquire);
    const cprof__trail_frame *from = trail->lists[trail->current];
    cprof__trail_frame *to = trail->lists[!trail->current];
    uint32_t count = 0, old = 0, known = trail->count;
    cprof__regs at = *regs, next;
    uint64_t key = at.pc + 1;
    cprof__rule seen = 0;
    *same = false;
    /* Not the generation, which comes round: a thread may have slept for long. */
    if (trail->sequence != sequence || trail->max != max)
        known = 0;
    for (; at.sp >= stack_low && at.sp < stack_high && count < max && count < CPROF__TRAIL_MAX; at = next) {
        while (old < known && from[old].sp < at.sp)
            old++;
        if (old < known && joins(&from[old], key, &at)) {
            uint32_t changed = changed_from(from, old, known);
            if (changed == known && old == 0 && count == 0) {
                *same = true;
                *end = trail->end;
                return known;
            }
            uint32_t total = count + known - old;
            if (changed == known && trail->end == CPROF__WALK_ROOT && total <= max &&
                total <= CPROF__TRAIL_MAX) {
                trail->count = join(trail, old, count, pcs);
                trail->current = !trail->current;
                trail->transient |= (seen & CPROF__RULE_TRANSIENT) != 0;
                *end = CPROF__WALK_ROOT;
                return trail->count;
            }
            old = changed + 1;
        }
        cprof__rule rule = cached_rule(key, generation);
        if (rule == CPROF__RULE_NONE)
            rule = found_rule(map, key, generation);
        seen |= rule;
        pcs[count] = key - 1;
        to[count] = (cprof__trail_frame){key, at.sp, at.fp, 0, cprof__rule_kind(rule) == CPROF__RULE_FP};
        bool last = (rule & ~CPROF__RULE_TRANSIENT) == CPROF__RULE_END;
        if (!last && !near_step(rule, &at, stack_high, &next))
            break;
        if (!last && cprof__rule_fp_words(rule))
            to[count].fp_place = next.sp - cprof__rule_fp_words(rule) * 8;
        count++;
        if (last || count == max) {
            settle_fp(to, count, false);
            trail->sequence = sequence;
            trail->transient = seen & CPROF__RULE_TRANSIENT;
            trail->max = max;
            trail->count = count;
            trail->current = !trail->current;
            trail->end = *end = last ? CPROF__WALK_ROOT : CPROF__WALK_FULL;
            return count;
        }
        key = next.pc;
    }
    return walk_without(map, regs, stack_low, stack_high, trail, pcs, max, end);
}
