/* SPDX-License-Identifier: MIT
 *
 * See arena.h.
 */
#include "base/arena.h"

#include "base/alloc.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_BYTES_MIN 1024u
#define BLOCK_BYTES_MAX 65536u

struct cprof__arena_block {
    struct cprof__arena_block *next;
    max_align_t data[];
};

void cprof__arena_fini(cprof__arena *arena)
{
    for (struct cprof__arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        cprof__free(block);
    }
    *arena = (cprof__arena){NULL, 0, 0};
}

void *cprof__arena_alloc(cprof__arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (arena->size - arena->used < size) {
        size_t grown = arena->size ? arena->size * 2 : BLOCK_BYTES_MIN;
        if (grown > BLOCK_BYTES_MAX)
            grown = BLOCK_BYTES_MAX;
        if (grown < size)
            grown = size;
        struct cprof__arena_block *block = cprof__malloc(sizeof *block + grown);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->used = 0;
        arena->size = grown;
    }
    void *memory = (char *)arena->blocks->data + arena->used;
    arena->used += size;
    return memory;
}

char *cprof__arena_copy(cprof__arena *arena, const char *text, size_t length)
{
    char *copy = cprof__arena_alloc(arena, length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}
