/* SPDX-License-Identifier: MIT
 *
 * The functions that a file names: its .symtab, or the dynamic symbols where it is stripped, sorted by
 * address. Threads: one at a time a table. Signals: unsafe.
 */
#ifndef CPROF_CORE_ELFSYMS_H
#define CPROF_CORE_ELFSYMS_H

#include "base/arena.h"
#include "core/elffile.h"

typedef struct cprof__elf_symbol {
    uint64_t start,
        limit; /* addresses of the file; of a symbol without a size, LIMIT is the next one's start */
    const char *name;
    bool sized;
} cprof__elf_symbol;

/* A table of zeros is empty. */
typedef struct cprof__elf_symbols {
    cprof__elf_symbol *list;
    size_t count;
    cprof__arena names;
} cprof__elf_symbols;

/* Reads those of FILE, or of DEBUG (may be NULL) where only that has a .symtab. In a program (PROGRAM) that
 * is stripped of its .symtab, `_start` and `main` are found by the code at the entry point. Returns: 0 or
 * CPROF_ENOMEM. */
int cprof__elfsyms_read(const cprof__elf *file, const cprof__elf *debug, bool program,
                        cprof__elf_symbols *out);
void cprof__elfsyms_fini(cprof__elf_symbols *symbols);

/* The symbol around ADDRESS, or NULL. */
const cprof__elf_symbol *cprof__elfsyms_find(const cprof__elf_symbols *symbols, uint64_t address);

#endif
