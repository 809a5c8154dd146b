/* SPDX-License-Identifier: MIT
 *
 * From native addresses to names: function, file and line with inlined frames, from sorted symbol tables
 * (libelf) and DWARF (elfutils libdw), read when a profile is written and cached for each address for the
 * process's life. Takes CPROF__RANK_SYMBOLS (and CODE inside it). Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_SYMBOLS_H
#define CPROF_CORE_SYMBOLS_H

#include "core/code.h"

/* One logical frame at an address. Strings live for ever and are never NULL; numbers are 0 where unknown. */
typedef struct cprof__line {
    const char *function; /* "" where unknown */
    const char *file;
    int64_t line, start_line;
} cprof__line;

/* What is known of one address. Lives for ever. */
typedef struct cprof__symbol {
    const cprof__line *lines; /* innermost (inlined) first; at least one */
    uint32_t line_count;
    bool named; /* a symbol, DWARF or name_native gave the function's name; else it is like "lua5.4+0x4d20" */
    const cprof__mapping *mapping; /* NULL where the address is in none */
    uint64_t function_start;       /* of the outermost line's function; 0 where unknown */
    uint64_t call_target; /* start of the function that a direct call at this address calls (through its PLT
                             entry), 0 where it is no direct call; addresses lie inside the call */
} cprof__symbol;

/* How many addresses are kept, some 64 MiB; others are shown as "[symbol table full]". Programs have some
 * thousands on their stacks, but /debug/pprof/symbol answers for any address. */
#define CPROF__SYMBOLS_MAX (1u << 18)

/* The symbol of ADDRESS (inside the call, as cprof__walk writes it) in ERA. Returns: 0 and *OUT, or
 * CPROF_ENOMEM. The first sight of a file reads its tables; the first sight of an address reads its DWARF. */
int cprof__symbols_find(uint64_t address, uint32_t era, const cprof__symbol **out);

/* The frame that a tail call hid between OUTER, a call site, and INNER, the next frame inside it: the
 * function that OUTER calls, where that is known and named and is not INNER's own (hot and cold parts of one
 * function count as one). Returns: the start of that function to give to cprof__symbols_find, or 0: nothing
 * is hidden. */
uint64_t cprof__symbols_tail_called(const cprof__symbol *outer, const cprof__symbol *inner);

/* Whether names, files and lines, and inlined frames are known for MAPPING as a whole (pprof's has_* flags).
 */
typedef struct cprof__mapping_has {
    bool functions, filenames, line_numbers, inline_frames;
} cprof__mapping_has;
cprof__mapping_has cprof__symbols_mapping_has(const cprof__mapping *mapping);

/* Closes the debug information that was opened to find symbols, which is much memory; what was found stays.
 * To be called when a profile has been written, and when a snapshot whose frames were asked for is freed. */
void cprof__symbols_rest(void);

/* Shows NAME for the function that starts at ENTRY where its file has no symbol for it; the first name stays.
 */
int cprof__symbols_name_native(uint64_t entry, const char *name);

#endif
