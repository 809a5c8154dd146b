/* SPDX-License-Identifier: MIT
 *
 * An open-addressing index from hashes to 32-bit numbers; the caller keeps the things themselves in an array
 * of its own and compares them. cprof__hash_* hash words and bytes. Threads: one at a time a map. Signals:
 * unsafe.
 */
#ifndef CPROF_BASE_MAP_H
#define CPROF_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct cprof__map {
    struct cprof__map_slot {
        uint32_t hash;
        uint32_t value; /* number + 1; 0: free */
    } * slots;
    uint32_t count, mask; /* mask: slots - 1, where there are slots */
} cprof__map;

/* A map of zeros is ready for use. */
void cprof__map_fini(cprof__map *map);

/* The number stored under HASH for which EQUAL(context, number) holds, or -1. */
int64_t cprof__map_find(const cprof__map *map, uint64_t hash,
                        bool (*equal)(const void *context, uint32_t number), const void *context);

/* Stores NUMBER under HASH (which need not be new). Returns false where memory ran out; then nothing changed.
 */
bool cprof__map_add(cprof__map *map, uint64_t hash, uint32_t number);

static inline uint64_t cprof__hash_word(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* Good in all bits; equal in every process. */
static inline uint64_t cprof__hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const unsigned char *p = bytes;
    hash = cprof__hash_word(hash, length);
    for (; length >= 8; p += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        hash = cprof__hash_word(hash, word);
    }
    uint64_t tail = 0;
    memcpy(&tail, p, length);
    return cprof__hash_word(hash, tail);
}

#endif
