/* SPDX-License-Identifier: MIT
 *
 * Label sets as numbers: 0 is the empty set. The public calls are in cprof.h.
 * Threads: any. Signals: safe (these two take no lock).
 */
#ifndef CPROF_CORE_LABELS_H
#define CPROF_CORE_LABELS_H

#include "cprof.h"

#include <stdint.h>

#define CPROF__LABEL_SETS_MAX 65536u

uint32_t cprof__labels_number(const cprof_labels *set);
const cprof_labels *cprof__labels_get(uint32_t number);

#endif
