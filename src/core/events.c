/* SPDX-License-Identifier: MIT
 *
 * See events.h.
 */
#include "core/events.h"

#include "base/alloc.h"
#include "cprof.h"

#include <stdatomic.h>

struct wanted {
    const struct cprof__sums_row *rows;
    uint32_t stack, labels;
};

static bool equal(const void *context, uint32_t number)
{
    const struct wanted *wanted = context;
    return wanted->rows[number].stack == wanted->stack && wanted->rows[number].labels == wanted->labels;
}

void cprof__sums_fini(cprof__sums *sums)
{
    cprof__map_fini(&sums->map);
    cprof__free(sums->rows);
    sums->rows = NULL;
    sums->count = sums->room = 0;
}

static struct cprof__sums_row *add_row(cprof__sums *sums, uint64_t hash, uint32_t stack, uint32_t labels)
{
    if (sums->count == sums->room) {
        uint32_t room = sums->room ? sums->room * 2 : 8;
        struct cprof__sums_row *rows = cprof__realloc(sums->rows, room * sizeof *rows);
        if (!rows)
            return NULL;
        sums->rows = rows;
        sums->room = room;
    }
    if (!cprof__map_add(&sums->map, hash, sums->count))
        return NULL;
    struct cprof__sums_row *row = &sums->rows[sums->count++];
    *row = (struct cprof__sums_row){stack, labels, {0}};
    return row;
}

/* Sums that pass 2^63 wrap, as Go's do; signed overflow is kept out of it. */
static void accumulate(int64_t *sum, int64_t value)
{
    *sum = (int64_t)((uint64_t)*sum + (uint64_t)value);
}

bool cprof__sums_add(cprof__sums *sums, uint32_t stack, uint32_t labels, const int64_t *values)
{
    uint64_t hash = cprof__hash_word(0, (uint64_t)labels << 32 | stack);
    struct wanted wanted = {sums->rows, stack, labels};
    int64_t number = cprof__map_find(&sums->map, hash, equal, &wanted);
    struct cprof__sums_row *row = number >= 0 ? &sums->rows[number] : add_row(sums, hash, stack, labels);
    if (!row)
        return false;
    if (!values)
        accumulate(&row->values[0], 1);
    for (unsigned i = 0; values && i < sums->columns; i++)
        accumulate(&row->values[i], values[i]);
    return true;
}

void cprof__events_init(cprof__events *events, unsigned columns)
{
    for (int i = 0; i < CPROF__SHARDS; i++) {
        cprof__lock_init(&events->shards[i].lock, CPROF__RANK_SHARD);
        events->shards[i].sums = (cprof__sums){.columns = columns};
        atomic_init(&events->shards[i].recorded, 0);
    }
}

static int add(cprof__events *events, uint32_t stack, uint32_t labels, const int64_t *values, int count)
{
    uint64_t hash = cprof__hash_word(stack, labels);
    struct cprof__events_shard *shard = &events->shards[hash >> 58];
    cprof__lock_take(&shard->lock);
    bool added = cprof__sums_add(&shard->sums, stack, labels, values);
    if (added)
        atomic_store_explicit(&shard->recorded, shard->recorded + count, memory_order_relaxed);
    cprof__lock_give(&shard->lock);
    return added ? 0 : CPROF_ENOMEM;
}

int cprof__events_add(cprof__events *events, uint32_t stack, uint32_t labels, const int64_t *values)
{
    return add(events, stack, labels, values, 1);
}

int cprof__events_move(cprof__events *events, uint32_t stack, uint32_t labels, const int64_t *values)
{
    return add(events, stack, labels, values, 0);
}

void cprof__events_clear(cprof__events *events)
{
    for (int i = 0; i < CPROF__SHARDS; i++) {
        struct cprof__events_shard *shard = &events->shards[i];
        cprof__lock_take(&shard->lock);
        cprof__sums_fini(&shard->sums);
        atomic_store_explicit(&shard->recorded, 0, memory_order_relaxed);
        cprof__lock_give(&shard->lock);
    }
}

int64_t cprof__events_count(const cprof__events *events)
{
    int64_t count = 0;
    for (int i = 0; i < CPROF__SHARDS; i++)
        count += atomic_load_explicit(&events->shards[i].recorded, memory_order_relaxed);
    return count;
}

int cprof__events_sum(cprof__events *events, cprof__sums *sums)
{
    bool good = true;
    for (int i = 0; i < CPROF__SHARDS && good; i++) {
        struct cprof__events_shard *shard = &events->shards[i];
        cprof__lock_take(&shard->lock);
        for (uint32_t j = 0; j < shard->sums.count && good; j++) {
            const struct cprof__sums_row *row = &shard->sums.rows[j];
            good = cprof__sums_add(sums, row->stack, row->labels, row->values);
        }
        cprof__lock_give(&shard->lock);
    }
    return good ? 0 : CPROF_ENOMEM;
}
