/* SPDX-License-Identifier: MIT
 *
 * Which code lies where: the executable mappings of the process, sorted, each with its file's unwind rows.
 * One writer (core/code.c, under its lock) and any number of readers that never wait: a reader that meets a
 * change in progress takes it for an unknown address, for in a signal handler it may have interrupted the
 * writer itself.
 *
 * The array is changed in place under a sequence number, so loading and unloading for ever takes no memory.
 */
#ifndef CPROF_SIGSAFE_CODEMAP_H
#define CPROF_SIGSAFE_CODEMAP_H

#include "sigsafe/rows.h"

#include <stdatomic.h>
#include <stddef.h>

/* What the walker needs of a file. Never freed; shared by all places where the file is or was mapped. */
typedef struct cprof__code_file {
    _Atomic(const cprof__rows *) rows; /* NULL until they are loaded; stored with release */
} cprof__code_file;

/* An executable mapping [start, limit); BASE is where the file's lowest address lies. TRANSIENT: it may be
 * unloaded, and what is then loaded in its place would be taken for it until the map is made anew. */
typedef struct cprof__code_object {
    uint64_t start, limit, base;
    cprof__code_file *file;
    bool transient;
} cprof__code_object;

/* An array of objects. A map that outgrows one gets another of at least twice the size; the old ones stay
 * readable. */
typedef struct cprof__code_block {
    uint32_t room;
    _Atomic uint32_t count;
    struct cprof__code_slot {
        _Atomic uint64_t start, limit, base;
        _Atomic(cprof__code_file *) file;
        _Atomic bool transient;
    } slots[];
} cprof__code_block;

/* A map of zeros is an empty map. */
typedef struct cprof__code_map {
    _Atomic uint32_t sequence;   /* odd while the array changes */
    _Atomic uint32_t generation; /* moves when code has gone: what is remembered of single pcs is then void */
    _Atomic(cprof__code_block *) block;
} cprof__code_map;

/* How many generations there are before the first comes again. */
#define CPROF__CODE_GENERATIONS 16u

/* The object around PC. Returns: whether one is known. Signals: safe. */
bool cprof__code_map_find(const cprof__code_map *map, uint64_t pc, cprof__code_object *object);

/* Makes COUNT OBJECTS, sorted by start, the contents of MAP, in BLOCK, which is the current one or a new one
 * with room for them. One writer at a time. */
void cprof__code_map_set(cprof__code_map *map, cprof__code_block *block, const cprof__code_object *objects,
                         uint32_t count);

#endif
