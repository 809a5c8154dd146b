/* SPDX-License-Identifier: MIT
 *
 * All profiles of the process, sorted by name. The public calls are in cprof.h.
 * Takes CPROF__RANK_REGISTRY. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_REGISTRY_H
#define CPROF_CORE_REGISTRY_H

#include <stdint.h>

/* Removes the entries with keys in [LOW, HIGH) from every profile. */
void cprof__registry_remove_range(uint64_t low, uint64_t high);

#endif
