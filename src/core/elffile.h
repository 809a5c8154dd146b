/* SPDX-License-Identifier: MIT
 *
 * Opens the ELF files behind mappings, and the separate files that hold their symbols and debug information:
 * by build id under /usr/lib/debug, or by .gnu_debuglink. Nothing is fetched from a network. Threads: one at
 * a time a handle. Signals: unsafe.
 */
#ifndef CPROF_CORE_ELFFILE_H
#define CPROF_CORE_ELFFILE_H

#include "core/code.h"

#include <libelf.h>

/* An open ELF file; of zeros: none. */
typedef struct cprof__elf {
    Elf *elf;
    int fd; /* -1: it lies in memory */
} cprof__elf;

/* Opens what MAPPING maps; a file that was replaced since is not opened. Returns: whether it is open. */
bool cprof__elf_open(const cprof__mapping *mapping, cprof__elf *out);

/* Opens the separate file with the debug information of MAIN, which is MAPPING's. Returns: whether there is
 * one. */
bool cprof__elf_open_debug(const cprof__mapping *mapping, const cprof__elf *main, cprof__elf *out);

void cprof__elf_close(cprof__elf *file);

/* The first section of TYPE and NAME (NULL: any), or NULL. */
Elf_Scn *cprof__elf_section(const cprof__elf *file, unsigned type, const char *name);

/* Copies SIZE bytes that the file has at ADDRESS (its own). Returns: whether it has them. */
bool cprof__elf_bytes(const cprof__elf *file, uint64_t address, void *bytes, size_t size);

#endif
