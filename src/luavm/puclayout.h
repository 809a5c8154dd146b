/* SPDX-License-Identifier: MIT
 *
 * What the sampler has to know of the insides of a PUC Lua to look at it from a signal handler: where a few fields of
 * lua_State lie, and which native functions are the interpreter and the collector, also in a stripped program. All of
 * it is learnt from a state made for the purpose, by comparing what its API tells with what lies in memory; where
 * anything does not agree, nothing is known, and samples stay without Lua frames.
 */
#ifndef CPROF_LUAVM_PUCLAYOUT_H
#define CPROF_LUAVM_PUCLAYOUT_H

#include "luavm/variant.h"

#include <stdint.h>

#define CPROF__PUC_COLLECTORS_MAX 8

typedef struct cprof__puc_layout {
    bool known;
    /* Of a lua_State, in bytes: its global_State; the innermost protected call, whose record lies on the native stack
     * while it runs; the current CallInfo; the instructions left until the count hook (an int). */
    uint32_t global_at, error_jmp_at, ci_at, hook_count_at;
    uint64_t interpreter;                               /* where the function that runs Lua code starts */
    uint64_t collectors[CPROF__PUC_COLLECTORS_MAX + 1]; /* where those start that collect, ended by 0 */
} cprof__puc_layout;

/* Learns it, once for the process; may raise nothing. */
const cprof__puc_layout *cprof__puc_layout_learn(void);

/* What is known so far: never NULL. Signals: safe. */
const cprof__puc_layout *cprof__puc_layout_known(void);

#endif
