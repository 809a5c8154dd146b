/* SPDX-License-Identifier: MIT
 *
 * See vmcode.h. A function's block starts at a hash of its key, the same in every process. Blocks that would
 * overlap (never seen: 2^52 addresses) move on to a hash of the hash. Functions are kept sorted by start.
 */
#include "core/vmcode.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/map.h"
#include "cprof_vm.h"

#include <stdatomic.h>

#define FUNCTIONS_MAX (1u << 18)
#define LINES_UNKNOWN (1 << 22) /* room for a function whose last line is not known, as a main chunk's */

struct cprof_vm_function {
    uint64_t start, size; /* of the block, in addresses */
    cprof_vm_function_key key;
    _Atomic(const char *) name; /* "": not known yet; set under the lock, valid for ever */
    _Atomic int rank;           /* of the name; set under the lock, after the name */
};

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_FUNCTIONS);
static cprof__arena arena; /* these under the lock */
static cprof__map by_key;  /* to places in BY_NUMBER */
static cprof_vm_function **by_number, **by_start;
static uint32_t count, room;

static uint64_t hash_key(const cprof_vm_function_key *key)
{
    uint64_t hash = cprof__hash_bytes(UINT64_C(0x6370726f66), key->source, key->source_length);
    hash = cprof__hash_word(hash, (uint64_t)key->line_first);
    hash = cprof__hash_word(hash, (uint64_t)key->line_last);
    hash = cprof__hash_word(hash, key->distinguisher);
    return key->identity ? cprof__hash_bytes(hash, key->identity, strlen(key->identity)) : hash;
}

static bool equal(const void *context, uint32_t number)
{
    const cprof_vm_function_key *a = context, *b = &by_number[number]->key;
    return a->line_first == b->line_first && a->line_last == b->line_last &&
           a->distinguisher == b->distinguisher && a->source_length == b->source_length &&
           memcmp(a->source, b->source, a->source_length) == 0 && !a->identity == !b->identity &&
           (!a->identity || strcmp(a->identity, b->identity) == 0);
}

/* The first place in BY_START whose block ends after ADDRESS. */
static uint32_t place_of(uint64_t address)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (by_start[middle]->start + by_start[middle]->size <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Chooses the block of FUNCTION and returns its place in BY_START. */
static uint32_t settle(cprof_vm_function *function, uint64_t hash)
{
    int64_t first = function->key.line_first, last = function->key.line_last;
    int64_t lines =
        first > 0 && last >= first && last - first < LINES_UNKNOWN ? last - first + 1 : LINES_UNKNOWN;
    function->size = (uint64_t)(lines + 1) * CPROF_VM_LINE_STRIDE;
    for (;; hash = cprof__hash_word(hash, 1)) {
        uint64_t span = CPROF_VM_ADDRESS_MAX - CPROF_VM_ADDRESS_MIN - function->size;
        function->start = CPROF_VM_ADDRESS_MIN + hash % span / CPROF_VM_LINE_STRIDE * CPROF_VM_LINE_STRIDE;
        uint32_t place = place_of(function->start);
        if (place == count || by_start[place]->start >= function->start + function->size)
            return place;
    }
}

static bool make_room(void)
{
    if (count < room)
        return true;
    uint32_t grown = room ? room * 2 : 256;
    cprof_vm_function **list = cprof__realloc(by_number, grown * sizeof *list);
    if (list)
        by_number = list;
    cprof_vm_function **sorted = list ? cprof__realloc(by_start, grown * sizeof *sorted) : NULL;
    if (!sorted)
        return false;
    by_start = sorted;
    room = grown;
    return true;
}

static const cprof_vm_function *add(const cprof_vm_function_key *key, uint64_t hash, const char *name)
{
    if (!make_room())
        return NULL;
    cprof_vm_function *function = cprof__arena_alloc(&arena, sizeof *function);
    char *source = cprof__arena_copy(&arena, key->source, key->source_length);
    char *identity = key->identity ? cprof__arena_copy(&arena, key->identity, strlen(key->identity)) : NULL;
    const char *shown = name && *name ? cprof__arena_copy(&arena, name, strlen(name)) : "";
    if (!function || !source || !shown || (key->identity && !identity))
        return NULL;
    if (!cprof__map_add(&by_key, hash, count))
        return NULL;
    function->key = *key;
    function->key.source = source;
    function->key.identity = identity;
    atomic_init(&function->name, shown);
    atomic_init(&function->rank, *shown ? CPROF_VM_NAME_OWN : CPROF_VM_NAME_NONE);
    uint32_t place = settle(function, hash);
    memmove(by_start + place + 1, by_start + place, (count - place) * sizeof *by_start);
    by_start[place] = function;
    by_number[count++] = function;
    return function;
}

int cprof_vm_function_intern(const cprof_vm_function_key *key, const char *name,
                             const cprof_vm_function **out)
{
    static const cprof_vm_function_key full = {"", 0, -1, -1, 0, "[function table full]"};
    cprof__lock_take(&lock);
    uint64_t hash = hash_key(key);
    int64_t number = cprof__map_find(&by_key, hash, equal, key);
    if (number < 0 && count >= FUNCTIONS_MAX) {
        key = &full;
        name = full.identity;
        hash = hash_key(key);
        number = cprof__map_find(&by_key, hash, equal, key);
    }
    const cprof_vm_function *function = number >= 0 ? by_number[number] : add(key, hash, name);
    cprof__lock_give(&lock);
    if (!function)
        return cprof__fail_memory();
    if (number >= 0 && name && *name)
        cprof_vm_function_set_name(function, name, CPROF_VM_NAME_OWN);
    *out = function;
    return 0;
}

enum cprof_vm_name_rank cprof_vm_function_named(const cprof_vm_function *function)
{
    return (enum cprof_vm_name_rank)atomic_load_explicit(&function->rank, memory_order_acquire);
}

void cprof_vm_function_set_name(const cprof_vm_function *function, const char *name,
                                enum cprof_vm_name_rank rank)
{
    if (!*name || cprof_vm_function_named(function) >= rank)
        return;
    cprof__lock_take(&lock);
    cprof_vm_function *writable = by_start[place_of(function->start)];
    if (cprof_vm_function_named(function) < rank) {
        const char *copy = cprof__arena_copy(&arena, name, strlen(name));
        if (copy) {
            atomic_store_explicit(&writable->name, copy, memory_order_release);
            atomic_store_explicit(&writable->rank, (int)rank, memory_order_release);
        }
    }
    cprof__lock_give(&lock);
}

uint64_t cprof_vm_function_address(const cprof_vm_function *function, int64_t line)
{
    int64_t first = function->key.line_first > 0 ? function->key.line_first : 0;
    if (line <= 0 || line < first)
        return function->start;
    uint64_t offset = (uint64_t)(line - first + 1) * CPROF_VM_LINE_STRIDE;
    return offset < function->size ? function->start + offset : function->start;
}

void cprof_vm_name_native(uint64_t entry, const char *name)
{
    (void)cprof__symbols_name_native(entry, name); /* without memory it keeps the name it has */
}

uint64_t cprof__vmcode_special(const char *name)
{
    cprof_vm_function_key key = {"", 0, -1, -1, 0, name};
    const cprof_vm_function *function = NULL;
    return cprof_vm_function_intern(&key, name, &function) == 0 && function ? function->start : 0;
}

bool cprof__vmcode_find(uint64_t address, cprof__line *line, uint64_t *start)
{
    cprof__lock_take(&lock);
    uint32_t place = place_of(address);
    cprof_vm_function *function = place < count && by_start[place]->start <= address ? by_start[place] : NULL;
    cprof__lock_give(&lock);
    if (!function)
        return false;
    int64_t first = function->key.line_first > 0 ? function->key.line_first : 0;
    uint64_t slot = (address - function->start) / CPROF_VM_LINE_STRIDE;
    const char *name = atomic_load_explicit(&function->name, memory_order_acquire);
    line->function = *name ? name : "?";
    line->file = function->key.source;
    line->line = slot ? first + (int64_t)slot - 1 : 0;
    line->start_line = first;
    *start = function->start;
    return true;
}
