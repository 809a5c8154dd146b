/* SPDX-License-Identifier: MIT
 *
 * What a profile is made of; the public calls are in cprof.h and cprof_vm.h.
 */
#ifndef CPROF_CORE_PROFILE_H
#define CPROF_CORE_PROFILE_H

#include "core/builtin.h"
#include "core/entries.h"
#include "core/events.h"
#include "cprof.h"

enum cprof__profile_kind {
    CPROF__PROFILE_UNDECIDED, /* neither add nor record was called yet */
    CPROF__PROFILE_ENTRIES,
    CPROF__PROFILE_EVENTS
};

/* Never freed: C code holds pointers to it for ever. */
struct cprof_profile {
    const char *name;
    cprof_value_type types[CPROF_SAMPLE_TYPES_MAX];
    unsigned columns;
    const cprof__builtin *builtin; /* NULL: the program's own */
    _Atomic int kind;              /* set once, by the first add or record */
    cprof__entries entries;
    _Atomic(cprof__events *) events; /* made by the first record */
};

/* A new profile that is in no registry. Returns NULL where memory ran out. */
cprof_profile *cprof__profile_make(const char *name, const cprof_value_type *types, size_t count);

/* Frees one that never got into a registry. */
void cprof__profile_discard(cprof_profile *profile);

/* Adds up what PROFILE holds now. Returns 0 or CPROF_ENOMEM (recorded); the caller owns *SUMS either way. */
int cprof__profile_sum(cprof_profile *profile, cprof__sums *sums);

#endif
