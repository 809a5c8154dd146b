/* SPDX-License-Identifier: MIT
 *
 * Files, lines and inlined functions from DWARF, through elfutils' libdw.
 * Threads: one at a time a handle. Signals: unsafe.
 */
#ifndef CPROF_CORE_DWARFLINES_H
#define CPROF_CORE_DWARFLINES_H

#include "core/elffile.h"

#include <elfutils/libdw.h>

/* A stretch of code and the unit that describes it. */
typedef struct cprof__dwarf_range {
    uint64_t start, limit;
    Dwarf_Off unit;
} cprof__dwarf_range;

typedef struct cprof__dwarf {
    Dwarf *dwarf;
    cprof__dwarf_range *ranges; /* of all units; made when the file's own index does not know an address */
    size_t range_count;
    bool ranged;
} cprof__dwarf;

#define CPROF__DWARF_FRAMES_MAX 64

/* A logical frame. The texts are the handle's; NULL and 0 where unknown. */
typedef struct cprof__dwarf_frame {
    const char *function, *file;
    int64_t line, start_line;
} cprof__dwarf_frame;

/* Whether FILE holds DWARF of its own. */
bool cprof__dwarf_present(const cprof__elf *file);

/* Opens the DWARF of FILE, which must stay open. Returns: whether it has any. */
bool cprof__dwarf_open(const cprof__elf *file, cprof__dwarf *out);
void cprof__dwarf_close(cprof__dwarf *handle);

/* The frames at ADDRESS of the file, innermost first. Where only the line is known, there is one frame
 * without a function. Returns: how many, 0 where DWARF does not know the address, or CPROF_ENOMEM. */
int cprof__dwarf_frames(cprof__dwarf *handle, uint64_t address,
                        cprof__dwarf_frame frames[CPROF__DWARF_FRAMES_MAX]);

#endif
