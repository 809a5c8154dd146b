/* SPDX-License-Identifier: MIT
 *
 * See stacks.h. A stack is a header word (depth, skip, era) and its frames, in chunks that never move; its
 * number is the header's place. The index is an open-addressing array of {hash, number} words: readers load
 * it with acquire, the one writer (under the lock) publishes a word after the stack is whole. An index that
 * is outgrown stays allocated, since a reader may still be in it; all old ones together are smaller than the
 * newest.
 */
#include "core/stacks.h"

#include "base/alloc.h"
#include "base/lock.h"
#include "core/code.h"
#include "core/vmcode.h"
#include "sigsafe/trail.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define CHUNK_SHIFT 16
#define CHUNK_WORDS (1u << CHUNK_SHIFT)
#define CHUNKS_MAX (CPROF__STACKS_BYTES_MAX / 8 / CHUNK_WORDS)
#define INDEX_SLOTS_MIN 1024u

struct index {
    struct index *outgrown;
    uint32_t mask;
    _Atomic uint64_t slots[]; /* hash << 32 | number; 0: free */
};

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_STACKS);
static _Atomic(struct index *) current;        /* written under the lock, published with release */
static _Atomic(uint64_t *) chunks[CHUNKS_MAX]; /* the same */
static uint32_t next_word = 1;                 /* under the lock; number 0 means none */
static uint32_t stack_count;                   /* under the lock */
static _Atomic uint32_t full_stack;            /* number of the stack that stands for those without room */

/* A sum over the frames, each by its place from the root: a stack that shares its outer frames with another
 * shares that part of the sum, and no term waits for another. */
static uint64_t sum_of(const uint64_t *frames, uint32_t depth)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < depth; i++)
        sum += cprof__trail_term(frames[i], depth - 1 - i);
    return sum;
}

static uint32_t hash_of(uint64_t header, uint64_t sum)
{
    uint64_t hash = cprof__trail_term(sum ^ header << 32 ^ header >> 32, 0);
    return (uint32_t)(hash ^ hash >> 32);
}

static const uint64_t *words_of(uint32_t number)
{
    return atomic_load_explicit(&chunks[number >> CHUNK_SHIFT], memory_order_acquire) +
           (number & (CHUNK_WORDS - 1));
}

static uint32_t find(const struct index *index, uint32_t hash, uint64_t header, const uint64_t *frames)
{
    size_t size = (size_t)(header & 0xffff) * sizeof *frames;
    for (uint32_t i = hash & index->mask;; i = (i + 1) & index->mask) {
        uint64_t slot = atomic_load_explicit(&index->slots[i], memory_order_acquire);
        if (!slot)
            return 0;
        if (slot >> 32 != hash)
            continue;
        const uint64_t *words = words_of((uint32_t)slot);
        if (words[0] == header && memcmp(words + 1, frames, size) == 0)
            return (uint32_t)slot;
    }
}

static void place(struct index *index, uint64_t slot)
{
    uint32_t i = (uint32_t)(slot >> 32) & index->mask;
    while (atomic_load_explicit(&index->slots[i], memory_order_relaxed))
        i = (i + 1) & index->mask;
    atomic_store_explicit(&index->slots[i], slot, memory_order_release);
}

static struct index *index_with_room(void)
{
    struct index *index = atomic_load_explicit(&current, memory_order_relaxed);
    if (index && stack_count < (index->mask + 1) / 2)
        return index;
    uint32_t slots = index ? (index->mask + 1) * 2 : INDEX_SLOTS_MIN;
    struct index *grown = cprof__calloc(1, sizeof *grown + slots * sizeof grown->slots[0]);
    if (!grown)
        return NULL;
    grown->mask = slots - 1;
    grown->outgrown = index;
    for (uint32_t i = 0; index && i <= index->mask; i++) {
        uint64_t slot = atomic_load_explicit(&index->slots[i], memory_order_relaxed);
        if (slot)
            place(grown, slot);
    }
    atomic_store_explicit(&current, grown, memory_order_release);
    return grown;
}

/* The place for WORDS words in a row: *NUMBER and their address. NULL: no memory, or (*FULL) no room. */
static uint64_t *reserve(uint32_t words, uint32_t *number, int *full)
{
    uint32_t at = next_word;
    if ((at & (CHUNK_WORDS - 1)) + words > CHUNK_WORDS)
        at = (at | (CHUNK_WORDS - 1)) + 1;
    uint32_t chunk = at >> CHUNK_SHIFT;
    *full = chunk >= CHUNKS_MAX;
    if (*full)
        return NULL;
    uint64_t *base = atomic_load_explicit(&chunks[chunk], memory_order_relaxed);
    if (!base) {
        base = cprof__malloc(CHUNK_WORDS * sizeof *base);
        if (!base)
            return NULL;
        atomic_store_explicit(&chunks[chunk], base, memory_order_release);
    }
    *number = at;
    next_word = at + words;
    return base + (at & (CHUNK_WORDS - 1));
}

static uint32_t add(uint32_t hash, uint64_t header, const uint64_t *frames)
{
    struct index *index = index_with_room();
    if (!index)
        return 0;
    uint32_t depth = header & 0xffff, number;
    int full;
    uint64_t *words = reserve(depth + 1, &number, &full);
    if (!words)
        return full ? atomic_load(&full_stack) : 0;
    words[0] = header;
    memcpy(words + 1, frames, depth * sizeof *frames);
    place(index, (uint64_t)hash << 32 | number);
    stack_count++;
    return number;
}

/* The stack for those without room is made with the first one, while there is room. */
static bool prepare_full_stack(void)
{
    if (atomic_load_explicit(&full_stack, memory_order_relaxed))
        return true;
    uint64_t frame = cprof__vmcode_special("[stack table full]");
    if (!frame)
        return false;
    cprof__lock_take(&lock);
    if (!atomic_load(&full_stack)) {
        uint64_t header = 1;
        atomic_store(&full_stack, add(hash_of(header, sum_of(&frame, 1)), header, &frame));
    }
    cprof__lock_give(&lock);
    return atomic_load(&full_stack) != 0;
}

uint32_t cprof__stacks_intern(const uint64_t *frames, uint32_t depth, uint32_t skip)
{
    return cprof__stacks_intern_sum(frames, depth, skip, sum_of(frames, depth));
}

uint32_t cprof__stacks_intern_sum(const uint64_t *frames, uint32_t depth, uint32_t skip, uint64_t sum)
{
    if (skip > 0xffff)
        skip = 0xffff;
    uint64_t header = depth | (uint64_t)skip << 16 | (uint64_t)cprof__code_era() << 32;
    uint32_t hash = hash_of(header, sum);
    const struct index *index = atomic_load_explicit(&current, memory_order_acquire);
    uint32_t number = index ? find(index, hash, header, frames) : 0;
    if (__builtin_expect(number != 0, 1))
        return number;
    if (!prepare_full_stack())
        return 0;
    cprof__lock_take(&lock);
    number = find(atomic_load_explicit(&current, memory_order_relaxed), hash, header, frames);
    if (!number)
        number = add(hash, header, frames);
    cprof__lock_give(&lock);
    return number;
}

cprof__stack cprof__stacks_get(uint32_t number)
{
    const uint64_t *words = words_of(number);
    return (cprof__stack){words + 1, words[0] & 0xffff, words[0] >> 16 & 0xffff, (uint32_t)(words[0] >> 32)};
}
