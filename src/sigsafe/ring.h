/* SPDX-License-Identifier: MIT
 *
 * A ring of records between one writer, which may be a signal handler, and one reader. A record is a number of
 * words in a row; its first word says how many. Nobody waits: a writer that finds no room says so.
 * Threads: one writer, one reader. Signals: safe.
 */
#ifndef CPROF_SIGSAFE_RING_H
#define CPROF_SIGSAFE_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Kinds of records, in bits 32 and up of their first word; bits 0 to 31 are the words. */
enum cprof__record_kind {
    CPROF__RECORD_GAP, /* the rest of the ring's end, where the next record did not fit */
    CPROF__RECORD_SAMPLE,
    CPROF__RECORD_VM
};

/* A ring with WORDS NULL has no room. SIZE is a power of two. */
typedef struct cprof__ring {
    uint64_t *words;
    uint64_t size;
    _Atomic uint64_t head; /* words ever written; the writer's, stored with release */
    _Atomic uint64_t tail; /* words ever read; the reader's, stored with release */
} cprof__ring;

static inline uint64_t cprof__record_head(enum cprof__record_kind kind, uint64_t words)
{
    return (uint64_t)kind << 32 | words;
}

/* Room for WORDS words in a row, or NULL. Nothing is written until cprof__ring_commit; what was reserved and not
 * committed is forgotten. */
static inline uint64_t *cprof__ring_reserve(cprof__ring *ring, uint64_t words)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint64_t at = head & (ring->size - 1), gap = at + words > ring->size ? ring->size - at : 0;
    if (!ring->words || ring->size - (head - tail) < gap + words)
        return NULL;
    if (gap) {
        ring->words[at] = cprof__record_head(CPROF__RECORD_GAP, gap);
        atomic_store_explicit(&ring->head, head + gap, memory_order_release);
        at = 0;
    }
    return &ring->words[at];
}

/* Gives the reader the first WORDS of what was reserved last. */
static inline void cprof__ring_commit(cprof__ring *ring, uint64_t words)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head + words, memory_order_release);
}

/* The oldest record that is no gap, or NULL. */
static inline uint64_t *cprof__ring_peek(cprof__ring *ring)
{
    for (;;) {
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        if (tail == atomic_load_explicit(&ring->head, memory_order_acquire))
            return NULL;
        uint64_t *record = &ring->words[tail & (ring->size - 1)];
        if (record[0] >> 32 != CPROF__RECORD_GAP)
            return record;
        atomic_store_explicit(&ring->tail, tail + (uint32_t)record[0], memory_order_release);
    }
}

/* Drops the record that was peeked at. */
static inline void cprof__ring_drop(cprof__ring *ring, const uint64_t *record)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + (uint32_t)record[0], memory_order_release);
}

#endif
