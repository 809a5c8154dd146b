/* SPDX-License-Identifier: MIT
 *
 * What happened in a profile: values added up for each distinct {stack, labels}, in shards with a lock each.
 * cprof__events also serves, unshared, to add up the entries of a profile for a snapshot.
 * Threads: one at a time a table; the sharded face takes CPROF__RANK_SHARD. Signals: unsafe.
 */
#ifndef CPROF_CORE_EVENTS_H
#define CPROF_CORE_EVENTS_H

#include "base/map.h"
#include "core/entries.h"

/* One table of sums. A table of zeros is ready for use, once COLUMNS is set. */
typedef struct cprof__sums {
    unsigned columns;
    cprof__map map;
    struct cprof__sums_row {
        uint32_t stack, labels;
        int64_t values[4];
    } * rows;
    uint32_t count, room;
} cprof__sums;

void cprof__sums_fini(cprof__sums *sums);

/* Adds VALUES (NULL: 1, 0 …) to the row of STACK and LABELS. Returns false where memory ran out; nothing
 * changed. */
bool cprof__sums_add(cprof__sums *sums, uint32_t stack, uint32_t labels, const int64_t *values);

typedef struct cprof__events {
    struct cprof__events_shard {
        alignas(64) cprof__lock lock;
        cprof__sums sums;
        _Atomic int64_t recorded;
    } shards[CPROF__SHARDS];
} cprof__events;

void cprof__events_init(cprof__events *events, unsigned columns);

/* Returns 0 or CPROF_ENOMEM. */
int cprof__events_add(cprof__events *events, uint32_t stack, uint32_t labels, const int64_t *values);

/* The same for values that are moved from one stack to another, in two calls: it is no event of its own. */
int cprof__events_move(cprof__events *events, uint32_t stack, uint32_t labels, const int64_t *values);

/* Forgets all. */
void cprof__events_clear(cprof__events *events);

/* How many were added. */
int64_t cprof__events_count(const cprof__events *events);

/* Adds all rows to SUMS. Returns 0 or CPROF_ENOMEM. */
int cprof__events_sum(cprof__events *events, cprof__sums *sums);

#endif
