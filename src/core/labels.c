/* SPDX-License-Identifier: MIT
 *
 * See labels.h. Sets are interned under the lock and live for ever; a number finds its set through chunks of
 * pointers that never move. What two sets give together is remembered in a direct-mapped table of words, so
 * that joining takes no lock where it was done before; a word that another pair displaced is found again
 * without allocating, since the joined set is interned already.
 */
#include "core/labels.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/map.h"
#include "cprof_vm.h"
#include "sigsafe/current.h"

#include <stdatomic.h>
#include <stdlib.h>

#define CHUNK_SHIFT 8
#define CHUNK_SETS (1u << CHUNK_SHIFT)

/* Lists of at most this many labels are put together on the stack. */
#define LOCAL_MAX 16

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

/* Room for SIZE labels: LOCAL, which holds LOCAL_MAX, or memory for release; NULL where there is none. */
static cprof_label *borrow(cprof_label *local, size_t size)
{
    return size <= LOCAL_MAX ? local : cprof__malloc(size * sizeof *local);
}

static void release(cprof_label *list, const cprof_label *local)
{
    if (list != local)
        cprof__free(list);
}

/* Sorts LIST and interns it. */
static int sort_and_intern(cprof_label *list, size_t size, const cprof_labels **out)
{
    qsort(list, size, sizeof *list, by_key);
    for (size_t i = 1; i < size; i++)
        if (strcmp(list[i - 1].key, list[i].key) == 0)
            return cprof__fail(CPROF_EINVAL, "label '%s' is given twice", list[i].key);
    const cprof_labels *set = intern_sorted(list, size);
    if (!set)
        return cprof__fail_memory();
    *out = set;
    return 0;
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
    cprof_label local[LOCAL_MAX], *sorted = borrow(local, size);
    if (!sorted)
        return cprof__fail_memory();
    memcpy(sorted, labels, size * sizeof *sorted);
    int code = sort_and_intern(sorted, size, out);
    release(sorted, local);
    return code;
}

const cprof_label *cprof_labels_list(const cprof_labels *set, size_t *size)
{
    *size = set ? set->count : 0;
    return set ? set->list : NULL;
}

/* ---- Joining ---- */

/* What was joined before: a word holds INNER, OUTER and what they give, NUMBER_BITS each; 0: free. Written and
 * read without a lock, whole words at a time. */
#define NUMBER_BITS 17
#define JOINED_SLOTS 4096
_Static_assert(CPROF__LABEL_SETS_MAX < 1u << NUMBER_BITS, "numbers of sets fit into the words of pairs");

static _Atomic uint64_t joined[JOINED_SLOTS];

/* Writes the labels of both sets, which are sorted by key, to LIST. Returns: how many. */
static size_t merge(const cprof_labels *inner, const cprof_labels *outer, cprof_label *list)
{
    size_t size = 0, i = 0, j = 0;
    while (i < inner->count || j < outer->count) {
        int order = i == inner->count   ? 1
                    : j == outer->count ? -1
                                        : strcmp(inner->list[i].key, outer->list[j].key);
        list[size++] = order <= 0 ? inner->list[i] : outer->list[j];
        i += order <= 0;
        j += order >= 0;
    }
    return size;
}

static uint32_t join(const cprof_labels *inner, const cprof_labels *outer)
{
    cprof_label local[LOCAL_MAX], *list = borrow(local, (size_t)inner->count + outer->count);
    if (!list)
        return CPROF__LABELS_FAILED;
    const cprof_labels *set = intern_sorted(list, merge(inner, outer, list));
    release(list, local);
    return set ? set->number : CPROF__LABELS_FAILED;
}

uint32_t cprof__labels_join_pair(uint32_t inner, uint32_t outer)
{
    uint64_t pair = (uint64_t)outer << NUMBER_BITS | inner;
    _Atomic uint64_t *slot = &joined[cprof__hash_word(0, pair) % JOINED_SLOTS];
    /* Acquire and release: whoever finds a set's number here may read the set. */
    uint64_t word = atomic_load_explicit(slot, memory_order_acquire);
    if ((word & ((UINT64_C(1) << 2 * NUMBER_BITS) - 1)) == pair)
        return (uint32_t)(word >> 2 * NUMBER_BITS);
    uint32_t number = join(cprof__labels_get(inner), cprof__labels_get(outer));
    if (number != CPROF__LABELS_FAILED)
        atomic_store_explicit(slot, (uint64_t)number << 2 * NUMBER_BITS | pair, memory_order_release);
    return number;
}

int cprof_labels_join(const cprof_labels *inner, const cprof_labels *outer, const cprof_labels **out)
{
    if (!out)
        return cprof__fail(CPROF_EINVAL, "out: NULL");
    uint32_t number = cprof__labels_join(cprof__labels_number(inner), cprof__labels_number(outer));
    if (number == CPROF__LABELS_FAILED)
        return cprof__fail_memory();
    *out = cprof__labels_get(number);
    return 0;
}

/* ---- The labels of the calling thread ---- */

int cprof_set_labels(const cprof_labels *set, const cprof_labels **old)
{
    uint32_t before = cprof__current.labels;
    __atomic_store_n(&cprof__current.labels, cprof__labels_number(set), __ATOMIC_RELAXED);
    if (old)
        *old = cprof__labels_get(before);
    return 0;
}

int cprof_with_labels(const cprof_labels *set, void (*function)(void *context), void *context)
{
    if (!function)
        return cprof__fail(CPROF_EINVAL, "function: NULL");
    uint32_t before = cprof__current.labels, within = cprof__labels_join(cprof__labels_number(set), before);
    bool failed = within == CPROF__LABELS_FAILED;
    __atomic_store_n(&cprof__current.labels, failed ? before : within, __ATOMIC_RELAXED);
    function(context);
    __atomic_store_n(&cprof__current.labels, before, __ATOMIC_RELAXED);
    return failed ? cprof__fail_memory() : 0;
}

/* ---- For virtual machines ---- */

uint32_t cprof_vm_labels_number(const cprof_labels *set)
{
    return cprof__labels_number(set);
}

const cprof_labels *cprof_vm_labels_get(uint32_t number)
{
    if (number > CPROF__LABEL_SETS_MAX)
        return NULL;
    return atomic_load_explicit(&chunks[number >> CHUNK_SHIFT], memory_order_acquire)
               ? cprof__labels_get(number)
               : NULL;
}
