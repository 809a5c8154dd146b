/* SPDX-License-Identifier: MIT
 *
 * What lives in a profile: a table from keys to {stack, labels, values}, in shards with a lock each. Keys
 * near one another share a shard, since a thread's allocator hands out neighbouring addresses: two threads
 * then rarely meet in one. An entry takes 16 bytes of a table that is at most 3/4 full, so 43 at most; with
 * values of its own 8 more a column. Takes CPROF__RANK_SHARD. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_ENTRIES_H
#define CPROF_CORE_ENTRIES_H

#include "base/lock.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPROF__SHARDS 64

typedef struct cprof__entries {
    unsigned columns;
    struct cprof__entries_shard {
        alignas(64) cprof__lock lock;
        uint64_t *words; /* slots of STRIDE words: key (0: free), stack | labels << 32, values */
        uint32_t mask;   /* slots - 1, where there are words */
        uint32_t stride; /* 2, or 2 + columns once an entry has had values other than 1, 0 … */
        _Atomic uint32_t count;
    } shards[CPROF__SHARDS];
} cprof__entries;

typedef struct cprof__entry {
    uint64_t key;
    uint32_t stack, labels;
    const int64_t *values; /* NULL: 1 in the first column, 0 in the others */
} cprof__entry;

void cprof__entries_init(cprof__entries *entries, unsigned columns);

/* Returns 0, CPROF_EEXIST where the key has an entry, CPROF_ENOMEM; nothing recorded for cprof_last_error. */
int cprof__entries_add(cprof__entries *entries, const cprof__entry *entry);

/* Returns whether there was one. */
bool cprof__entries_remove(cprof__entries *entries, uint64_t key);

/* The same, and what it was: *ENTRY with values in VALUES, which has room for the columns. */
bool cprof__entries_take(cprof__entries *entries, uint64_t key, cprof__entry *entry, int64_t *values);

/* Gives the entry of KEY, where it has the stack BEFORE, another stack and other labels. */
void cprof__entries_change(cprof__entries *entries, uint64_t key, uint32_t before, uint32_t stack,
                           uint32_t labels);

/* Removes all with keys in [LOW, HIGH). */
void cprof__entries_remove_range(cprof__entries *entries, uint64_t low, uint64_t high);

int64_t cprof__entries_count(const cprof__entries *entries);

/* Calls VISIT for every entry, a shard at a time under its lock, until it returns other than 0, and returns
 * that. Each entry is seen whole; one added or removed meanwhile may be seen or not. */
int cprof__entries_each(cprof__entries *entries, int (*visit)(void *context, const cprof__entry *entry),
                        void *context);

#endif
