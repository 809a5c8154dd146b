/* SPDX-License-Identifier: MIT
 *
 * Names that VMs gave to native functions whose files have no symbol for them. Under a lock of their own,
 * CPROF__RANK_NAMES, for they are given in the middle of an add, which must not wait for DWARF to be read.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_NATIVENAMES_H
#define CPROF_CORE_NATIVENAMES_H

#include "core/code.h"

/* Names the function that starts at ENTRY in MAPPING; the first name stays. Returns: 0 or CPROF_ENOMEM
 * (nothing is recorded). */
int cprof__nativenames_add(const cprof__mapping *mapping, uint64_t entry, const char *name);

/* Its name, which lives for ever, or NULL. */
const char *cprof__nativenames_find(const cprof__mapping *mapping, uint64_t entry);

/* How many there are: where that is unchanged, so is what find returns. */
uint32_t cprof__nativenames_count(void);

#endif
