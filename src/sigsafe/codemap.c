/* SPDX-License-Identifier: MIT
 *
 * See codemap.h. A sequence lock whose data are atomic words: the reads are acquires, so none of them can
 * move behind the second look at the sequence; the writes are releases, so none can be seen before the odd
 * number.
 */
#include "sigsafe/codemap.h"

#define READ(PLACE) atomic_load_explicit(&(PLACE), memory_order_acquire)
#define WRITE(PLACE, VALUE) atomic_store_explicit(&(PLACE), (VALUE), memory_order_release)

/* The last object of BLOCK that starts at or below PC. Its fields are only worth something where the sequence
 * has stood still. */
static bool search(cprof__code_block *block, uint64_t pc, cprof__code_object *object)
{
    uint32_t low = 0, high = READ(block->count);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (READ(block->slots[middle].start) <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return false;
    struct cprof__code_slot *slot = &block->slots[low - 1];
    object->start = READ(slot->start);
    object->limit = READ(slot->limit);
    object->base = READ(slot->base);
    object->file = READ(slot->file);
    object->transient = READ(slot->transient);
    return pc >= object->start && pc < object->limit;
}

bool cprof__code_map_find(const cprof__code_map *map, uint64_t pc, cprof__code_object *object)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        uint32_t sequence = READ(map->sequence);
        cprof__code_block *block = READ(map->block);
        bool found = block && search(block, pc, object);
        if (!(sequence & 1) && READ(map->sequence) == sequence)
            return found;
    }
    return false;
}

void cprof__code_map_set(cprof__code_map *map, cprof__code_block *block, const cprof__code_object *objects,
                         uint32_t count)
{
    uint32_t sequence = atomic_load_explicit(&map->sequence, memory_order_relaxed);
    WRITE(map->sequence, sequence + 1);
    for (uint32_t i = 0; i < count; i++) {
        WRITE(block->slots[i].start, objects[i].start);
        WRITE(block->slots[i].limit, objects[i].limit);
        WRITE(block->slots[i].base, objects[i].base);
        WRITE(block->slots[i].file, objects[i].file);
        WRITE(block->slots[i].transient, objects[i].transient);
    }
    WRITE(block->count, count);
    WRITE(map->block, block);
    WRITE(map->sequence, sequence + 2);
}
