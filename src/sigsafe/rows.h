/* SPDX-License-Identifier: MIT
 *
 * The unwind rows of one file: for every stretch of its code, how the caller's frame is found from there.
 * Made by core/ehframe.c on a normal thread, immutable and never freed, so that a handler can read them
 * without a lock.
 *
 * On x86_64 the return address is always the word below the CFA, and of the registers that callers keep only
 * rbp can matter to a walk. That leaves so little to say that a rule is 32 bits.
 */
#ifndef CPROF_SIGSAFE_ROWS_H
#define CPROF_SIGSAFE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

/* How the CFA (the stack pointer before the call) is found. OFFSET is the rule's. */
enum cprof__rule_kind {
    CPROF__RULE_NONE,     /* nothing is known of the pc; never in a table */
    CPROF__RULE_SP,       /* sp + offset */
    CPROF__RULE_FP,       /* fp + offset */
    CPROF__RULE_FP_DEREF, /* the word at fp + offset: GCC realigned the stack. fp itself is saved at [fp] */
    CPROF__RULE_SP_DEREF, /* the word at sp + offset, plus 8: hand-written code that realigned the stack */
    CPROF__RULE_PLT,      /* sp + 8, or sp + 16 where pc & 15 >= offset: the entry has pushed its number */
    CPROF__RULE_SIGNAL,   /* sp points at a ucontext_t: the frame that a signal interrupted is there */
    CPROF__RULE_FRAME,    /* no row: fp may head a chain of frames */
    CPROF__RULE_END,      /* the outermost frame; with offset 1 its pc is the one behind what was looked up */
    CPROF__RULE_UNSUPPORTED /* a row says more than a rule can hold */
};

/* kind: bits 0 to 3; where fp is saved, in words below the CFA, 0: nowhere: bits 4 to 10; bit 11: the
 * walker's own, 0 in a table; offset, signed: the rest. */
typedef uint32_t cprof__rule;

#define CPROF__RULE_OFFSET_BITS 20
#define CPROF__RULE_FP_WORDS_MAX 127
#define CPROF__RULE_TRANSIENT (1u << 11) /* the code may be unloaded */

static inline enum cprof__rule_kind cprof__rule_kind(cprof__rule rule)
{
    return (enum cprof__rule_kind)(rule & 15);
}

static inline uint64_t cprof__rule_fp_words(cprof__rule rule)
{
    return rule >> 4 & CPROF__RULE_FP_WORDS_MAX;
}

/* In words: every offset that a rule can hold is a multiple of 8, but for the PLT's, which is a plain number.
 */
static inline int64_t cprof__rule_offset(cprof__rule rule)
{
    return (int32_t)rule >> 12;
}

/* OFFSET in words. CPROF__RULE_UNSUPPORTED where it does not fit. */
static inline cprof__rule cprof__rule_make(enum cprof__rule_kind kind, int64_t offset, uint64_t fp_words)
{
    int64_t limit = INT64_C(1) << (CPROF__RULE_OFFSET_BITS - 1);
    if (offset < -limit || offset >= limit || fp_words > CPROF__RULE_FP_WORDS_MAX)
        return CPROF__RULE_UNSUPPORTED;
    return (uint32_t)offset << 12 | (uint32_t)fp_words << 4 | (uint32_t)kind;
}

/* Offsets count from the lowest address of the file. */
typedef struct cprof__row {
    uint32_t start; /* up to the next row's */
    cprof__rule rule;
} cprof__row;

typedef struct cprof__row_function {
    uint32_t start, limit;
} cprof__row_function;

typedef struct cprof__rows {
    const cprof__row *rows; /* sorted; what lies between functions has rows too (CPROF__RULE_FRAME) */
    const cprof__row_function *functions; /* sorted; they do not overlap */
    uint32_t row_count, function_count;
} cprof__rows;

/* The rule at OFFSET; CPROF__RULE_FRAME where there is none. Signals: safe. */
cprof__rule cprof__rows_rule(const cprof__rows *rows, uint64_t offset);

/* The function (a stretch with unwind rows of its own) around OFFSET, or NULL. Signals: safe. */
const cprof__row_function *cprof__rows_function(const cprof__rows *rows, uint64_t offset);

#endif
