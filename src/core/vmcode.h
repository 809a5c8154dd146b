/* SPDX-License-Identifier: MIT
 *
 * The functions of virtual machines and their addresses (cprof_vm.h), and the frames that are cprof's own
 * remarks, such as "[truncated]": functions of nobody, in the same range. Takes CPROF__RANK_FUNCTIONS.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_VMCODE_H
#define CPROF_CORE_VMCODE_H

#include "core/symbols.h"

/* The address of the remark NAME (in brackets), or 0 where memory ran out. */
uint64_t cprof__vmcode_special(const char *name);

static inline bool cprof__vmcode_is(uint64_t address)
{
    return address >> 52 == 1;
}

/* The line at ADDRESS, whose strings live for ever. *START gets its function's. Returns false where no
 * function owns it. */
bool cprof__vmcode_find(uint64_t address, cprof__line *line, uint64_t *start);

#endif
