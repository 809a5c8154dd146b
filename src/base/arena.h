/* SPDX-License-Identifier: MIT
 *
 * Memory that is given back all at once. Blocks never move.
 * Threads: one at a time an arena. Signals: unsafe.
 */
#ifndef CPROF_BASE_ARENA_H
#define CPROF_BASE_ARENA_H

#include <stddef.h>

typedef struct cprof__arena {
    struct cprof__arena_block *blocks;
    size_t used, size; /* of the newest block, in bytes */
} cprof__arena;

/* An arena of zeros is ready for use. */
void cprof__arena_fini(cprof__arena *arena);

/* SIZE bytes, aligned for any type, not zeroed; NULL where memory ran out. */
void *cprof__arena_alloc(cprof__arena *arena, size_t size);

/* A copy of LENGTH bytes of TEXT with a 0 after them. */
char *cprof__arena_copy(cprof__arena *arena, const char *text, size_t length);

#endif
