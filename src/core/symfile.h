/* SPDX-License-Identifier: MIT
 *
 * What is known of the names in one file: its symbols, read once and kept, and its DWARF, opened when it is
 * asked for. Threads: one at a time (core/symbols.c's lock). Signals: unsafe.
 */
#ifndef CPROF_CORE_SYMFILE_H
#define CPROF_CORE_SYMFILE_H

#include "core/dwarflines.h"
#include "core/elfsyms.h"

typedef struct cprof__symfile {
    cprof__elf_symbols symbols;
    bool has_dwarf;
    bool dwarf_apart; /* in a separate file */
    cprof__elf debug; /* what DWARF is read from while it is open */
    cprof__dwarf dwarf;
} cprof__symfile;

/* The one of MAPPING's file. Returns: 0 or CPROF_ENOMEM. */
int cprof__symfile_get(const cprof__mapping *mapping, cprof__symfile **out);

/* As cprof__dwarf_frames; 0 where FILE (of MAPPING) has no DWARF. */
int cprof__symfile_frames(cprof__symfile *file, const cprof__mapping *mapping, uint64_t address,
                          cprof__dwarf_frame frames[CPROF__DWARF_FRAMES_MAX]);

/* Closes all DWARF. */
void cprof__symfile_rest(void);

#endif
