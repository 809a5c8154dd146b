/* SPDX-License-Identifier: MIT
 *
 * See entries.h. Linear probing; removal shifts later slots back, so there are no tombstones; a table that
 * has become 1/8 full is halved.
 */
#include "core/entries.h"

#include "base/alloc.h"
#include "cprof.h"

#include <stdatomic.h>
#include <string.h>

#define SLOTS_MIN 8u
#define REGION_SHIFT 14 /* keys in one 16 KiB region share a shard */

typedef struct cprof__entries_shard shard;

static shard *shard_of(cprof__entries *entries, uint64_t key)
{
    return &entries->shards[(key >> REGION_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 58];
}

static uint32_t slot_of(uint64_t key, uint32_t mask)
{
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & mask;
}

static uint64_t *slot_at(const shard *s, uint32_t i)
{
    return s->words + (size_t)i * s->stride;
}

void cprof__entries_init(cprof__entries *entries, unsigned columns)
{
    entries->columns = columns;
    for (int i = 0; i < CPROF__SHARDS; i++) {
        shard *s = &entries->shards[i];
        cprof__lock_init(&s->lock, CPROF__RANK_SHARD);
        s->words = NULL;
        s->mask = 0;
        s->stride = 2;
        atomic_init(&s->count, 0);
    }
}

/* The slot of KEY, or the free one where it would go. The table has a free slot. */
static uint32_t find(const shard *s, uint64_t key)
{
    uint32_t i = slot_of(key, s->mask);
    while (*slot_at(s, i) && *slot_at(s, i) != key)
        i = (i + 1) & s->mask;
    return i;
}

/* Moves all into a table of SLOTS slots of STRIDE words. Slots that gain values get 1, 0 …. */
static bool resize(shard *s, uint32_t slots, uint32_t stride)
{
    /* Whole cache lines: what another thread's shard has beside it would slow both. */
    size_t bytes = ((size_t)slots * stride * sizeof(uint64_t) + 63) & ~(size_t)63;
    uint64_t *words = cprof__aligned_alloc(64, bytes);
    if (!words)
        return false;
    memset(words, 0, bytes);
    shard old = {.words = s->words, .mask = s->mask, .stride = s->stride};
    s->words = words;
    s->mask = slots - 1;
    s->stride = stride;
    for (uint32_t i = 0; old.words && i <= old.mask; i++) {
        const uint64_t *from = slot_at(&old, i);
        if (!*from)
            continue;
        uint64_t *to = slot_at(s, find(s, *from));
        memcpy(to, from, old.stride * sizeof *to);
        if (stride > old.stride)
            to[2] = 1;
    }
    cprof__free(old.words);
    return true;
}

static bool make_room(shard *s, uint32_t stride)
{
    uint32_t slots = s->words ? s->mask + 1 : 0;
    bool full = s->count >= slots / 4 * 3;
    if (!full && s->stride >= stride)
        return true;
    if (stride < s->stride)
        stride = s->stride;
    return resize(s, full ? (slots ? slots * 2 : SLOTS_MIN) : slots, stride);
}

static bool plain(const cprof__entry *entry, unsigned columns)
{
    if (!entry->values)
        return true;
    for (unsigned i = 1; i < columns; i++)
        if (entry->values[i] != 0)
            return false;
    return entry->values[0] == 1;
}

int cprof__entries_add(cprof__entries *entries, const cprof__entry *entry)
{
    unsigned columns = entries->columns;
    shard *s = shard_of(entries, entry->key);
    int code = 0;
    cprof__lock_take(&s->lock);
    if (s->words && *slot_at(s, find(s, entry->key))) {
        code = CPROF_EEXIST;
    } else if (!make_room(s, plain(entry, columns) ? 2 : 2 + columns)) {
        code = CPROF_ENOMEM;
    } else {
        uint64_t *slot = slot_at(s, find(s, entry->key));
        slot[0] = entry->key;
        slot[1] = entry->stack | (uint64_t)entry->labels << 32;
        if (s->stride > 2) {
            memset(slot + 2, 0, columns * sizeof *slot);
            slot[2] = 1;
            if (entry->values)
                memcpy(slot + 2, entry->values, columns * sizeof *slot);
        }
        atomic_store_explicit(&s->count, s->count + 1, memory_order_relaxed);
    }
    cprof__lock_give(&s->lock);
    return code;
}

/* Frees slot HOLE: later slots of the same run move back over it, as long as that does not put one before its
 * own place. */
static void close_hole(shard *s, uint32_t hole)
{
    for (uint32_t i = (hole + 1) & s->mask; *slot_at(s, i); i = (i + 1) & s->mask) {
        uint32_t home = slot_of(*slot_at(s, i), s->mask);
        if (((i - home) & s->mask) >= ((i - hole) & s->mask)) {
            memcpy(slot_at(s, hole), slot_at(s, i), s->stride * sizeof *s->words);
            hole = i;
        }
    }
    *slot_at(s, hole) = 0;
    atomic_store_explicit(&s->count, s->count - 1, memory_order_relaxed);
}

static void shrink(shard *s)
{
    uint32_t slots = s->words ? s->mask + 1 : 0;
    while (slots > SLOTS_MIN && s->count < slots / 8)
        slots /= 2;
    if (s->words && slots <= s->mask)
        (void)resize(s, slots, s->stride); /* where memory is short the larger table serves as well */
}

/* What SLOT holds, its values copied to VALUES. */
static cprof__entry read_slot(const shard *s, const uint64_t *slot, unsigned columns, int64_t *values)
{
    memset(values, 0, columns * sizeof *values);
    values[0] = 1;
    if (s->stride > 2)
        memcpy(values, slot + 2, columns * sizeof *values);
    return (cprof__entry){slot[0], (uint32_t)slot[1], (uint32_t)(slot[1] >> 32), values};
}

bool cprof__entries_remove(cprof__entries *entries, uint64_t key)
{
    return cprof__entries_take(entries, key, NULL, NULL);
}

bool cprof__entries_take(cprof__entries *entries, uint64_t key, cprof__entry *entry, int64_t *values)
{
    shard *s = shard_of(entries, key);
    cprof__lock_take(&s->lock);
    uint32_t i = s->words ? find(s, key) : 0;
    bool found = s->words && *slot_at(s, i) == key;
    if (found) {
        if (entry)
            *entry = read_slot(s, slot_at(s, i), entries->columns, values);
        close_hole(s, i);
        if (s->mask >= SLOTS_MIN * 8 && s->count < (s->mask + 1) / 8)
            shrink(s);
    }
    cprof__lock_give(&s->lock);
    return found;
}

void cprof__entries_change(cprof__entries *entries, uint64_t key, uint32_t before, uint32_t stack,
                           uint32_t labels)
{
    shard *s = shard_of(entries, key);
    cprof__lock_take(&s->lock);
    uint64_t *slot = s->words ? slot_at(s, find(s, key)) : NULL;
    if (slot && slot[0] == key && (uint32_t)slot[1] == before)
        slot[1] = stack | (uint64_t)labels << 32;
    cprof__lock_give(&s->lock);
}

static void remove_range(shard *s, uint64_t low, uint64_t high)
{
    for (uint32_t i = 0; s->words && i <= s->mask;) {
        uint64_t key = *slot_at(s, i);
        if (key && key >= low && key < high)
            close_hole(s, i); /* another may now be here */
        else
            i++;
    }
    shrink(s);
}

void cprof__entries_remove_range(cprof__entries *entries, uint64_t low, uint64_t high)
{
    for (int i = 0; i < CPROF__SHARDS; i++) {
        shard *s = &entries->shards[i];
        cprof__lock_take(&s->lock);
        remove_range(s, low, high);
        cprof__lock_give(&s->lock);
    }
}

int64_t cprof__entries_count(const cprof__entries *entries)
{
    int64_t count = 0;
    for (int i = 0; i < CPROF__SHARDS; i++)
        count += atomic_load_explicit(&entries->shards[i].count, memory_order_relaxed);
    return count;
}

int cprof__entries_each(cprof__entries *entries, int (*visit)(void *context, const cprof__entry *entry),
                        void *context)
{
    int code = 0;
    for (int i = 0; i < CPROF__SHARDS && code == 0; i++) {
        shard *s = &entries->shards[i];
        cprof__lock_take(&s->lock);
        for (uint32_t j = 0; s->words && j <= s->mask && code == 0; j++) {
            const uint64_t *slot = slot_at(s, j);
            cprof__entry entry = {slot[0], (uint32_t)slot[1], (uint32_t)(slot[1] >> 32),
                                  s->stride > 2 ? (const int64_t *)slot + 2 : NULL};
            if (slot[0])
                code = visit(context, &entry);
        }
        cprof__lock_give(&s->lock);
    }
    return code;
}
