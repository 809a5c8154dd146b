/* SPDX-License-Identifier: MIT
 *
 * The profiles that are there without anybody's having defined them. They have no entries of their own: who gathers
 * them, further up, says what is in them now.
 */
#ifndef CPROF_CORE_BUILTIN_H
#define CPROF_CORE_BUILTIN_H

#include "cprof.h"

typedef struct cprof__builtin {
    const char *name;
    cprof_value_type types[CPROF_SAMPLE_TYPES_MAX];
    size_t columns;
    /* As cprof_profile_snapshot and cprof_profile_count. The snapshot of what is turned off fails with CPROF_EOFF,
     * and a text that says how to turn it on. */
    int (*snapshot)(const struct cprof__builtin *builtin, cprof_snapshot **out);
    int64_t (*count)(const struct cprof__builtin *builtin);
} cprof__builtin;

/* All of them; ended by NULL. Defined by sampler/builtins.c. */
extern const cprof__builtin *const cprof__builtins[];

#endif
