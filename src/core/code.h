/* SPDX-License-Identifier: MIT
 *
 * The native code of the process: which files are mapped where, their unwind rows (parsed from .eh_frame on a
 * normal thread, once a file) and the starts of their functions. Published as an immutable map that the
 * walker reads without a lock; a new one replaces it when the loader's counters (dl_iterate_phdr's adds and
 * subs) have moved.
 *
 * A mapping that was unloaded stays known, so that stacks recorded in it keep their names. When another file
 * comes to lie over it, cprof__code_era() goes up; a stack is kept with the era it was taken in, and resolved
 * there.
 */
#ifndef CPROF_CORE_CODE_H
#define CPROF_CORE_CODE_H

#include "sigsafe/trail.h"
#include "sigsafe/walk.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cprof__file cprof__file; /* core/objects.h */

/* A mapped file (its executable part). Lives for ever; the fields do not change. */
typedef struct cprof__mapping {
    uint64_t start, limit; /* addresses [start, limit) */
    uint64_t file_offset;  /* of START */
    uint64_t bias;         /* address minus ELF virtual address */
    const char *path;      /* absolute where the system tells; "[vdso]" */
    const char *build_id;  /* hex digits, "" where there is none */
    uint32_t era_first;    /* the era it appeared in */
    uint32_t number;       /* unique, from 0, in order of appearance */
    cprof__file *file;     /* what is mapped: the same for every place where the same contents lie */
} cprof__mapping;

/* Looks whether objects came or went since the last call, and publishes the map anew if so. Cheap (a
 * microsecond) when nothing changed. *CHANGED (may be NULL) gets whether it did. Returns: 0 or CPROF_ENOMEM
 * (the old map stays). */
int cprof__code_refresh(bool *changed);

/* Moves whenever the map is published anew. Signals: safe. */
uint64_t cprof__code_version(void);

/* The map, empty before the first refresh. Valid for ever. Signals: safe. */
const cprof__code_map *cprof__code_current(void);

/* See above. Signals: safe. */
uint32_t cprof__code_era(void);

/* Walks the calling thread's stack from REGS (CPROF__REGS_HERE in a caller that is still on the stack). Loads
 * what rows are missing on the way, and looks for new objects where a pc is unknown. At most MAX pcs as
 * cprof__walk writes them. *END gets why it ended (may be NULL). Returns: how many; at least 1. Threads: any.
 * Signals: unsafe. */
size_t cprof__code_capture(const cprof__regs *regs, uint64_t *pcs, size_t max, cprof__walk_end *end);

/* The same into TRAIL, the calling thread's own. Returns: how many, or 0 where only cprof__code_capture can
 * tell: rows are missing, or the stack is none for a trail. */
size_t cprof__code_capture_again(const cprof__regs *regs, cprof__trail *trail, size_t max);

/* The start of the function that PC lies in, 0 where unknown: from unwind rows, which stripped files have
 * too. Lock-free. Signals: safe. */
uint64_t cprof__code_function_start(uint64_t pc);

/* The mapping at ADDRESS as it was in ERA, or NULL. Takes CPROF__RANK_CODE. */
const cprof__mapping *cprof__code_mapping(uint64_t address, uint32_t era);

/* Loads the rows of every object that is mapped now, so that a walk in a signal handler meets no unknown one.
 * Returns: 0 or CPROF_ENOMEM. */
int cprof__code_load_all(void);

/* The first era in which MAPPING no longer holds; UINT32_MAX while nothing has come to lie over it. */
uint32_t cprof__code_era_limit(const cprof__mapping *mapping);

/* The function around ADDRESS in MAPPING, which may have been unloaded. Returns: whether its file has rows
 * for it. */
bool cprof__code_function_in(const cprof__mapping *mapping, uint64_t address, uint64_t *start,
                             uint64_t *limit);

/* Drops all that the walker remembers of single pcs (for tests and after a change of the map). */
void cprof__code_forget(void);

#endif
