/* SPDX-License-Identifier: MIT
 *
 * Label sets as numbers: 0 is the empty set. The public calls are in cprof.h, and cprof_vm.h for the numbers.
 * Threads: any. Signals: _number and _get are safe (they take no lock), joining is not.
 */
#ifndef CPROF_CORE_LABELS_H
#define CPROF_CORE_LABELS_H

#include "cprof.h"

#include <stdint.h>

#define CPROF__LABEL_SETS_MAX 65536u

uint32_t cprof__labels_number(const cprof_labels *set);
const cprof_labels *cprof__labels_get(uint32_t number);

/* No set's number: memory ran out. */
#define CPROF__LABELS_FAILED UINT32_MAX

/* For cprof__labels_join: neither is 0, and they differ. */
uint32_t cprof__labels_join_pair(uint32_t inner, uint32_t outer);

/* The set with the labels of both; where both have a key, the label of INNER. Takes CPROF__RANK_LABELS, and may
 * allocate, where the two were not joined lately. Returns CPROF__LABELS_FAILED where memory ran out. */
static inline uint32_t cprof__labels_join(uint32_t inner, uint32_t outer)
{
    if (!outer || inner == outer)
        return inner;
    return inner ? cprof__labels_join_pair(inner, outer) : outer;
}

#endif
