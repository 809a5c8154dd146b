/* SPDX-License-Identifier: MIT
 *
 * See labels.h. Sets are interned under the lock and live for ever; a number finds its set through chunks of
 * pointers that never move.
 */
#include "core/labels.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/map.h"

#include <stdatomic.h>
#include <stdlib.h>

#define CHUNK_SHIFT 8
#define CHUNK_SETS (1u << CHUNK_SHIFT)

struct cprof_labels {
    uint32_t number;
    uint32_t count;
    cprof_label list[];
};

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_LABELS);
static cprof__arena arena;  /* these under the lock */
static cprof__map by_value; /* to numbers */
static uint32_t count;
static _Atomic(cprof_labels **) chunks[CPROF__LABEL_SETS_MAX / CHUNK_SETS + 1]; /* written under the lock */

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const cprof_label *)a)->key, ((const cprof_label *)b)->key);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return text ? cprof__hash_bytes(hash, text, strlen(text)) : cprof__hash_word(hash, 1);
}

static uint64_t hash_list(const cprof_label *list, size_t size)
{
    uint64_t hash = size;
    for (size_t i = 0; i < size; i++) {
        hash = hash_text(hash, list[i].key);
        hash = hash_text(hash, list[i].str);
        hash = cprof__hash_word(hash, list[i].str ? 0 : (uint64_t)list[i].num);
        hash = hash_text(hash, list[i].str ? "" : or_empty(list[i].unit));
    }
    return hash;
}

static bool same_label(const cprof_label *a, const cprof_label *b)
{
    if (strcmp(a->key, b->key) != 0 || !a->str != !b->str)
        return false;
    return a->str ? strcmp(a->str, b->str) == 0
                  : a->num == b->num && strcmp(or_empty(a->unit), or_empty(b->unit)) == 0;
}

struct wanted {
    const cprof_label *list;
    size_t count;
};

static bool equal(const void *context, uint32_t number)
{
    const struct wanted *wanted = context;
    const cprof_labels *set = cprof__labels_get(number);
    if (set->count != wanted->count)
        return false;
    for (size_t i = 0; i < wanted->count; i++)
        if (!same_label(&set->list[i], &wanted->list[i]))
            return false;
    return true;
}

uint32_t cprof__labels_number(const cprof_labels *set)
{
    return set ? set->number : 0;
}

const cprof_labels *cprof__labels_get(uint32_t number)
{
    if (number == 0)
        return NULL;
    return atomic_load_explicit(&chunks[number >> CHUNK_SHIFT],
                                memory_order_acquire)[number & (CHUNK_SETS - 1)];
}

/* A copy of LIST with NUMBER, or NULL where memory ran out. Under the lock. */
static cprof_labels *copy_set(const cprof_label *list, size_t size, uint32_t number)
{
    cprof_labels *set = cprof__arena_alloc(&arena, sizeof *set + size * sizeof *list);
    if (!set)
        return NULL;
    set->number = number;
    set->count = (uint32_t)size;
    for (size_t i = 0; i < size; i++) {
        cprof_label *copy = &set->list[i];
        *copy = list[i];
        copy->key = cprof__arena_copy(&arena, list[i].key, strlen(list[i].key));
        copy->str = list[i].str ? cprof__arena_copy(&arena, list[i].str, strlen(list[i].str)) : NULL;
        copy->unit = list[i].unit && !list[i].str
                         ? cprof__arena_copy(&arena, list[i].unit, strlen(list[i].unit))
                         : NULL;
        if (!copy->key || (list[i].str && !copy->str) || (list[i].unit && !list[i].str && !copy->unit))
            return NULL;
    }
    return set;
}

static const cprof_labels *add(const cprof_label *list, size_t size, uint64_t hash)
{
    uint32_t number = count + 1;
    cprof_labels **chunk = atomic_load_explicit(&chunks[number >> CHUNK_SHIFT], memory_order_relaxed);
    if (!chunk) {
        chunk = cprof__calloc(CHUNK_SETS, sizeof(cprof_labels *));
        if (!chunk)
            return NULL;
        atomic_store_explicit(&chunks[number >> CHUNK_SHIFT], chunk, memory_order_release);
    }
    cprof_labels *set = copy_set(list, size, number);
    if (!set)
        return NULL;
    chunk[number & (CHUNK_SETS - 1)] = set;
    if (!cprof__map_add(&by_value, hash, number))
        return NULL;
    count = number;
    return set;
}

static const cprof_labels *intern_sorted(const cprof_label *list, size_t size)
{
    static const cprof_label full = {"cprof", "label sets full", 0, NULL};
    cprof__lock_take(&lock);
    if (count >= CPROF__LABEL_SETS_MAX - 1) {
        struct wanted wanted = {list, size};
        if (cprof__map_find(&by_value, hash_list(list, size), equal, &wanted) < 0) {
            list = &full;
            size = 1;
        }
    }
    struct wanted wanted = {list, size};
    uint64_t hash = hash_list(list, size);
    int64_t number = cprof__map_find(&by_value, hash, equal, &wanted);
    const cprof_labels *set = number >= 0 ? cprof__labels_get((uint32_t)number) : add(list, size, hash);
    cprof__lock_give(&lock);
    return set;
}

int cprof_labels_intern(const cprof_label *labels, size_t size, const cprof_labels **out)
{
    if (!out || (size && !labels))
        return cprof__fail(CPROF_EINVAL, "labels: NULL");
    if (size == 0) {
        *out = NULL;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        if (!labels[i].key || !*labels[i].key)
            return cprof__fail(CPROF_EINVAL, "label %zu has no key", i + 1);
    cprof_label *sorted = cprof__malloc(size * sizeof *sorted);
    if (!sorted)
        return cprof__fail_memory();
    memcpy(sorted, labels, size * sizeof *sorted);
    qsort(sorted, size, sizeof *sorted, by_key);
    for (size_t i = 1; i < size; i++)
        if (strcmp(sorted[i - 1].key, sorted[i].key) == 0) {
            int code = cprof__fail(CPROF_EINVAL, "label '%s' is given twice", sorted[i].key);
            cprof__free(sorted);
            return code;
        }
    const cprof_labels *set = intern_sorted(sorted, size);
    cprof__free(sorted);
    if (!set)
        return cprof__fail_memory();
    *out = set;
    return 0;
}

const cprof_label *cprof_labels_list(const cprof_labels *set, size_t *size)
{
    *size = set ? set->count : 0;
    return set ? set->list : NULL;
}
