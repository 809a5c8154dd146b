/* SPDX-License-Identifier: MIT
 *
 * See map.h. Linear probing, at most 3/4 full.
 */
#include "base/map.h"

#include "base/alloc.h"

#define SLOTS_MIN 16u

static uint32_t fold(uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32);
}

void cprof__map_fini(cprof__map *map)
{
    cprof__free(map->slots);
    *map = (cprof__map){NULL, 0, 0};
}

int64_t cprof__map_find(const cprof__map *map, uint64_t hash,
                        bool (*equal)(const void *context, uint32_t number), const void *context)
{
    if (!map->slots)
        return -1;
    uint32_t folded = fold(hash);
    for (uint32_t i = folded & map->mask; map->slots[i].value; i = (i + 1) & map->mask)
        if (map->slots[i].hash == folded && equal(context, map->slots[i].value - 1))
            return map->slots[i].value - 1;
    return -1;
}

static void place(struct cprof__map_slot *slots, uint32_t mask, struct cprof__map_slot slot)
{
    uint32_t i = slot.hash & mask;
    while (slots[i].value)
        i = (i + 1) & mask;
    slots[i] = slot;
}

static bool grow(cprof__map *map)
{
    uint32_t size = map->slots ? (map->mask + 1) * 2 : SLOTS_MIN;
    struct cprof__map_slot *slots = cprof__calloc(size, sizeof *slots);
    if (!slots)
        return false;
    for (uint32_t i = 0; map->slots && i <= map->mask; i++)
        if (map->slots[i].value)
            place(slots, size - 1, map->slots[i]);
    cprof__free(map->slots);
    map->slots = slots;
    map->mask = size - 1;
    return true;
}

bool cprof__map_add(cprof__map *map, uint64_t hash, uint32_t number)
{
    if ((!map->slots || map->count >= (map->mask + 1) / 4 * 3) && !grow(map))
        return false;
    place(map->slots, map->mask, (struct cprof__map_slot){fold(hash), number + 1});
    map->count++;
    return true;
}
