/* SPDX-License-Identifier: MIT
 *
 * See walk.h. The common frame costs one look into the cache and one or two loads from the stack; all the
 * rest is kept out of the loop, in far_step.
 */
#define _GNU_SOURCE
#include "sigsafe/walk.h"

#include "sigsafe/codemap.h"
#include "sigsafe/load.h"
#include "sigsafe/step.h"

#include <string.h>
#include <ucontext.h>

_Atomic uint64_t cprof__step_cache[1u << CPROF__STEP_INDEX_BITS];

/* What far_step knows of a walk. */
typedef struct walk {
    const cprof__code_map *map;
    cprof__regs at;
    uint64_t low, high; /* the thread's stack */
    cprof__load load;
} walk;

/* The first function of a coroutine was never called: it returns to the very start of another one (in glibc
 * to __start_context, which has no row that says so). Where what lies before a return address is no code, the
 * walk is at its end, and shows KEY and not the address before it: offset 1. */
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

cprof__rule cprof__step_found_rule(const cprof__code_map *map, uint64_t key, uint64_t generation)
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
    int32_t cut = (int32_t)(rule << CPROF__STEP_OFFSET_CUT) >> CPROF__STEP_OFFSET_CUT;
    if (cut == (int32_t)rule && key >> 47 == 0)
        atomic_store_explicit(&cprof__step_cache[key & ((1u << CPROF__STEP_INDEX_BITS) - 1)],
                              cprof__step_tag(key, generation) | (rule & ((1u << CPROF__STEP_RULE_BITS) - 1)),
                              memory_order_relaxed);
    return rule;
}

void cprof__walk_forget(void)
{
    for (size_t i = 0; i < sizeof cprof__step_cache / sizeof *cprof__step_cache; i++)
        atomic_store_explicit(&cprof__step_cache[i], 0, memory_order_relaxed);
}

/* Below the frame that the walk is at, even the thread's own stack may not be there yet. */
static bool any_word(walk *w, uint64_t address, uint64_t *word)
{
    if (address & 7)
        return false;
    if (w->at.sp >= w->low && address >= w->at.sp && address < w->high) {
        *word = cprof__stack_word(address);
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

size_t cprof__walk(const cprof__code_map *map, cprof__regs *regs, const cprof__walk_memory *memory,
                   uint64_t *pcs, size_t max, cprof__walk_end *end, bool *transient)
{
    uint64_t stack_low = memory->stack_low, stack_high = memory->stack_high;
    uint64_t generation = atomic_load_explicit(&map->generation, memory_order_acquire);
    uint64_t key = regs->pc + 1, high = 0;
    cprof__regs at = *regs, to;
    size_t count = 0;
    cprof__rule seen = 0;
    walk far;
    far.load.guarded = memory->guarded;
    far.load.base = 0;
    if (at.sp >= stack_low && at.sp < stack_high)
        high = stack_high;
    for (;;) {
        pcs[count++] = key - 1;
        cprof__rule rule = cprof__step_rule(map, key, generation);
        seen |= rule;
        if (__builtin_expect(cprof__step_near(rule, &at, high, &to), 1)) {
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
