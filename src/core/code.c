/* SPDX-License-Identifier: MIT
 *
 * See code.h. The list of mappings only grows, under CPROF__RANK_CODE; the walker's map holds those that are
 * mapped now. The loader is asked before the lock is taken (see objects.h), so two threads may come with
 * different answers: the loader's counters tell which is newer.
 */
#define _GNU_SOURCE
#include "core/code.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/lock.h"
#include "base/thread.h"
#include "core/ehframe.h"
#include "core/objects.h"
#include "cprof.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

typedef struct known {
    cprof__mapping mapping; /* first: a mapping given out is its known */
    _Atomic uint32_t era_limit;
    bool live, seen; /* mapped now, as far as we know; seen in the list at hand */
} known;

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_CODE);
static cprof__arena arena; /* files, mappings and their strings */
static known **mappings;   /* in order of appearance */
static uint32_t mapping_count, mapping_room;
static cprof__file **files;
static uint32_t file_count, file_room;

static cprof__code_map map;      /* written under the lock */
static _Atomic uint64_t changes; /* the loader's counters when the map was made; written under the lock */
static _Atomic uint32_t era;     /* written under the lock */

const cprof__code_map *cprof__code_current(void)
{
    return &map;
}

uint64_t cprof__code_version(void)
{
    return atomic_load_explicit(&changes, memory_order_acquire);
}

uint32_t cprof__code_era(void)
{
    return atomic_load_explicit(&era, memory_order_acquire);
}

/* ---- Files and mappings; all under the lock ---- */

/* Makes room in *ARRAY for one more pointer. */
static bool reserve(void ***array, uint32_t count, uint32_t *room)
{
    if (count < *room)
        return true;
    uint32_t grown = *room ? *room * 2 : 64;
    void **moved = cprof__realloc(*array, grown * sizeof *moved);
    if (!moved)
        return false;
    *array = moved;
    *room = grown;
    return true;
}

static const char *build_id_text(const cprof__file_identity *identity)
{
    char *text = cprof__arena_alloc(&arena, identity->build_id_size * 2 + 1);
    if (!text)
        return NULL;
    text[0] = 0;
    for (uint32_t i = 0; i < identity->build_id_size; i++)
        snprintf(text + i * 2, 3, "%02x", identity->build_id[i]);
    return text;
}

/* The file that SEGMENT belongs to. Two copies of a file are one file, under the path that was seen first. */
static cprof__file *intern_file(const cprof__segment *segment)
{
    for (uint32_t i = 0; i < file_count; i++)
        if (memcmp(&files[i]->identity, &segment->identity, sizeof segment->identity) == 0)
            return files[i];
    static char path[PATH_MAX]; /* a small thread's stack may have no room for it */
    cprof__objects_path(segment->name, segment->start, path);
    if (!reserve((void ***)&files, file_count, &file_room))
        return NULL;
    cprof__file *file = cprof__arena_alloc(&arena, sizeof *file);
    const char *kept = cprof__arena_copy(&arena, path, strlen(path));
    const char *build_id = build_id_text(&segment->identity);
    if (!file || !kept || !build_id)
        return NULL;
    atomic_init(&file->code.rows, NULL);
    file->identity = segment->identity;
    file->number = file_count;
    file->path = kept;
    file->build_id = build_id;
    return files[file_count++] = file;
}

static bool in_force(const known *k)
{
    return atomic_load_explicit(&k->era_limit, memory_order_relaxed) == UINT32_MAX;
}

static known *new_mapping(const cprof__segment *segment, cprof__file *file)
{
    known *k = reserve((void ***)&mappings, mapping_count, &mapping_room)
                   ? cprof__arena_alloc(&arena, sizeof *k)
                   : NULL;
    if (!k)
        return NULL;
    k->mapping = (cprof__mapping){.start = segment->start,
                                  .limit = segment->limit,
                                  .file_offset = segment->file_offset,
                                  .bias = segment->bias,
                                  .path = file->path,
                                  .build_id = file->build_id,
                                  .era_first = UINT32_MAX,
                                  .number = mapping_count,
                                  .file = file};
    atomic_init(&k->era_limit, UINT32_MAX);
    k->live = k->seen = false;
    return mappings[mapping_count++] = k;
}

/* The mapping of SEGMENT, which may have been here before. A new one is not in force until publish says its
 * era. */
static known *intern_mapping(const cprof__segment *segment)
{
    cprof__file *file = intern_file(segment);
    if (!file)
        return NULL;
    for (uint32_t i = mapping_count; i-- > 0;) {
        const cprof__mapping *m = &mappings[i]->mapping;
        if (m->file == file && m->start == segment->start && m->limit == segment->limit &&
            in_force(mappings[i]))
            return mappings[i];
    }
    return new_mapping(segment, file);
}

/* Ends what K, which is here now, has come to lie over. Returns whether there was any. */
static bool bury(const known *k, uint32_t next_era)
{
    bool any = false;
    for (uint32_t i = 0; i < mapping_count; i++) {
        known *other = mappings[i];
        if (other == k || other->live || !in_force(other) || other->mapping.era_first == UINT32_MAX ||
            other->mapping.start >= k->mapping.limit || k->mapping.start >= other->mapping.limit)
            continue;
        atomic_store_explicit(&other->era_limit, next_era, memory_order_release);
        any = true;
    }
    return any;
}

/* Marks what is mapped now, and gives new mappings their era. Returns whether something has gone. */
static bool settle(known *const *now, uint32_t count)
{
    uint32_t current = atomic_load_explicit(&era, memory_order_relaxed), next = current;
    bool gone = false;
    for (uint32_t i = 0; i < mapping_count; i++)
        mappings[i]->seen = false;
    for (uint32_t i = 0; i < count; i++)
        now[i]->seen = true;
    for (uint32_t i = 0; i < mapping_count; i++) {
        gone |= mappings[i]->live && !mappings[i]->seen;
        mappings[i]->live = mappings[i]->seen;
    }
    for (uint32_t i = 0; i < count; i++)
        if (now[i]->mapping.era_first == UINT32_MAX && bury(now[i], current + 1))
            next = current + 1;
    for (uint32_t i = 0; i < count; i++)
        if (now[i]->mapping.era_first == UINT32_MAX)
            now[i]->mapping.era_first = next;
    /* Before the map: who finds a pc in the new map must not take it for one of the old era. */
    atomic_store_explicit(&era, next, memory_order_release);
    return gone;
}

/* ---- Publishing ---- */

static cprof__code_block *block_for(uint32_t count)
{
    cprof__code_block *block = atomic_load_explicit(&map.block, memory_order_relaxed);
    if (block && count <= block->room)
        return block;
    uint32_t room = block ? block->room * 2 : 64;
    while (room < count)
        room *= 2;
    block = cprof__calloc(1, sizeof *block + room * sizeof *block->slots);
    if (block)
        block->room = room;
    return block;
}

/* Makes what the loader told the state of things. NOW and OBJECTS are room for a pointer and an object a
 * segment. */
static int publish(const cprof__segments *segments, known **now, cprof__code_object *objects)
{
    uint32_t count = (uint32_t)segments->count;
    for (uint32_t i = 0; i < count; i++) {
        now[i] = intern_mapping(&segments->list[i]);
        if (!now[i])
            return CPROF_ENOMEM;
        const cprof__mapping *m = &now[i]->mapping;
        objects[i] = (cprof__code_object){m->start, m->limit, m->bias + m->file->identity.base,
                                          &m->file->code, segments->list[i].transient};
    }
    cprof__code_block *block = block_for(count);
    if (!block)
        return CPROF_ENOMEM;
    bool gone = settle(now, count);
    cprof__code_map_set(&map, block, objects, count);
    if (gone) {
        /* After the map, so that nothing of the old one is remembered under the new generation. */
        uint32_t generation = atomic_load_explicit(&map.generation, memory_order_relaxed) + 1;
        if (generation == CPROF__CODE_GENERATIONS) {
            generation = 0;
            cprof__code_forget();
        }
        atomic_store_explicit(&map.generation, generation, memory_order_release);
    }
    atomic_store_explicit(&changes, segments->changes, memory_order_release);
    return CPROF_OK;
}

int cprof__code_refresh(bool *changed)
{
    if (changed)
        *changed = false;
    if (cprof__objects_changes() == atomic_load_explicit(&changes, memory_order_acquire))
        return CPROF_OK;
    cprof__segments segments = {0};
    int error = cprof__objects_list(&segments);
    known **now = cprof__calloc(segments.count + 1, sizeof(known *));
    cprof__code_object *objects = cprof__calloc(segments.count + 1, sizeof *objects);
    if (!now || !objects)
        error = CPROF_ENOMEM;
    if (!error) {
        cprof__lock_take(&lock);
        if (segments.changes > atomic_load_explicit(&changes, memory_order_relaxed)) {
            error = publish(&segments, now, objects);
            if (changed)
                *changed = !error;
        }
        cprof__lock_give(&lock);
    }
    cprof__free(now);
    cprof__free(objects);
    cprof__segments_fini(&segments);
    return error;
}

/* ---- Rows ---- */

static cprof__file *find_file(const cprof__file_identity *identity)
{
    cprof__file *found = NULL;
    cprof__lock_take(&lock);
    for (uint32_t i = 0; i < file_count && !found; i++)
        if (memcmp(&files[i]->identity, identity, sizeof *identity) == 0)
            found = files[i];
    cprof__lock_give(&lock);
    return found;
}

/* Loads the rows of the object around ADDRESS. Two threads may both parse; the first one's rows stay. */
static int load_rows(uint64_t address)
{
    cprof__rows *rows = NULL;
    cprof__file_identity identity;
    int error = cprof__objects_rows(address, &rows, &identity);
    if (error || !rows)
        return error;
    cprof__file *file = find_file(&identity);
    const cprof__rows *none = NULL;
    if (!file || !atomic_compare_exchange_strong_explicit(&file->code.rows, &none, rows, memory_order_release,
                                                          memory_order_relaxed))
        cprof__rows_free(rows);
    return CPROF_OK;
}

/* Makes PC known, if that can be. Returns whether a walk can now go on from it. */
static bool learn(uint64_t pc)
{
    cprof__code_object object;
    if (!cprof__code_map_find(&map, pc, &object) &&
        (cprof__code_refresh(NULL) || !cprof__code_map_find(&map, pc, &object)))
        return false;
    if (!atomic_load_explicit(&object.file->rows, memory_order_acquire) && load_rows(pc))
        return false;
    return atomic_load_explicit(&object.file->rows, memory_order_acquire);
}

int cprof__code_load_all(void)
{
    cprof__segments segments = {0};
    int error = cprof__code_refresh(NULL);
    if (!error)
        error = cprof__objects_list(&segments);
    for (size_t i = 0; i < segments.count && !error; i++) {
        cprof__code_object object;
        if (cprof__code_map_find(&map, segments.list[i].start, &object) &&
            !atomic_load_explicit(&object.file->rows, memory_order_acquire))
            error = load_rows(segments.list[i].start);
    }
    cprof__segments_fini(&segments);
    return error;
}

/* More objects than a stack can need; a bound for the case that the map is changed all the time. */
#define LEARN_MAX 1000

size_t cprof__code_capture(const cprof__regs *regs, uint64_t *pcs, size_t max, cprof__walk_end *end)
{
    const cprof__thread *thread = cprof__thread_self();
    const cprof__walk_memory memory = {thread ? thread->stack_low : 0, thread ? thread->stack_high : 0,
                                       false};
    cprof__walk_end why = CPROF__WALK_UNKNOWN;
    size_t count = 0;
    bool transient, current = false; /* whether the map was made anew in between */
    for (int i = 0; i < LEARN_MAX; i++) {
        cprof__regs at = *regs;
        count = cprof__walk(&map, &at, &memory, pcs, max, &why, &transient);
        if (transient && !current && cprof__code_refresh(&current) == CPROF_OK && current)
            continue;
        if (why != CPROF__WALK_UNKNOWN || !learn(pcs[count - 1]))
            break;
    }
    if (end)
        *end = why;
    return count;
}

size_t cprof__code_capture_again(const cprof__regs *regs, cprof__trail *trail, size_t max)
{
    const cprof__thread *thread = cprof__thread_self();
    size_t count =
        thread ? cprof__trail_walk(trail, &map, regs, thread->stack_low, thread->stack_high, max) : 0;
    bool changed = false;
    if (count && trail->transient && cprof__code_refresh(&changed) == CPROF_OK && changed)
        count = trail->count = 0;
    return count;
}

/* ---- Looking up ---- */

/* As the cache in walk.c, but for 25 bits of how far the pc lies behind its function's start. */
#define INDEX_BITS 12
#define TAG_BITS (47 - INDEX_BITS)
#define DELTA_BITS (64 - 4 - TAG_BITS)
#define DELTA_NONE ((UINT64_C(1) << DELTA_BITS) - 1) /* the pc lies in no function */
static _Atomic uint64_t starts[1u << INDEX_BITS];

static uint64_t find_start(uint64_t pc, _Atomic uint64_t *slot, uint64_t tag)
{
    cprof__code_object object;
    const cprof__rows *rows = NULL;
    if (cprof__code_map_find(&map, pc, &object))
        rows = atomic_load_explicit(&object.file->rows, memory_order_acquire);
    if (!rows)
        return 0;
    const cprof__row_function *function = cprof__rows_function(rows, pc - object.base);
    uint64_t start = function ? object.base + function->start : 0;
    uint64_t delta = start ? pc - start : DELTA_NONE;
    if ((delta < DELTA_NONE || !start) && pc >> 47 == 0)
        atomic_store_explicit(slot, tag | delta, memory_order_relaxed);
    return start;
}

uint64_t cprof__code_function_start(uint64_t pc)
{
    uint64_t generation = atomic_load_explicit(&map.generation, memory_order_acquire);
    _Atomic uint64_t *slot = &starts[pc & ((1u << INDEX_BITS) - 1)];
    uint64_t tag = pc >> INDEX_BITS << (64 - TAG_BITS) | generation << DELTA_BITS;
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed), delta = word & DELTA_NONE;
    if (!word || (word ^ tag) >> DELTA_BITS)
        return find_start(pc, slot, tag);
    return delta == DELTA_NONE ? 0 : pc - delta;
}

void cprof__code_forget(void)
{
    cprof__walk_forget();
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        atomic_store_explicit(&starts[i], 0, memory_order_relaxed);
}

const cprof__mapping *cprof__code_mapping(uint64_t address, uint32_t in_era)
{
    const cprof__mapping *found = NULL;
    cprof__lock_take(&lock);
    for (uint32_t i = mapping_count; i-- > 0 && !found;) {
        const cprof__mapping *m = &mappings[i]->mapping;
        if (address >= m->start && address < m->limit && in_era >= m->era_first &&
            in_era < atomic_load_explicit(&mappings[i]->era_limit, memory_order_relaxed))
            found = m;
    }
    cprof__lock_give(&lock);
    return found;
}

uint32_t cprof__code_era_limit(const cprof__mapping *mapping)
{
    return atomic_load_explicit(&((const known *)mapping)->era_limit, memory_order_acquire);
}

bool cprof__code_function_in(const cprof__mapping *mapping, uint64_t address, uint64_t *start,
                             uint64_t *limit)
{
    uint64_t base = mapping->bias + mapping->file->identity.base;
    const cprof__rows *rows = atomic_load_explicit(&mapping->file->code.rows, memory_order_acquire);
    const cprof__row_function *function = rows ? cprof__rows_function(rows, address - base) : NULL;
    if (!function)
        return false;
    *start = base + function->start;
    *limit = base + function->limit;
    return true;
}
