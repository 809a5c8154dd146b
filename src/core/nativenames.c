/* SPDX-License-Identifier: MIT
 *
 * See nativenames.h.
 */
#include "core/nativenames.h"

#include "base/alloc.h"
#include "base/lock.h"
#include "base/strings.h"
#include "cprof.h"

#include <stdatomic.h>

typedef struct native {
    const cprof__mapping *mapping;
    uint64_t entry;
    const char *name;
} native;

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_NAMES);
static native *list; /* these under the lock */
static uint32_t room;
static cprof__map by_entry;
static cprof__strings strings;
static _Atomic uint32_t count; /* written under the lock */

static bool equal(const void *context, uint32_t number)
{
    const native *wanted = context;
    return list[number].entry == wanted->entry && list[number].mapping == wanted->mapping;
}

/* Under the lock, as what follows. */
static const char *find(const cprof__mapping *mapping, uint64_t entry)
{
    native wanted = {mapping, entry, NULL};
    int64_t number = cprof__map_find(&by_entry, cprof__hash_word(0, entry), equal, &wanted);
    return number < 0 ? NULL : list[number].name;
}

static bool add(const cprof__mapping *mapping, uint64_t entry, const char *name)
{
    if (count == room) {
        uint32_t grown = room ? room * 2 : 64;
        native *longer = cprof__realloc(list, grown * sizeof *longer);
        if (!longer)
            return false;
        list = longer;
        room = grown;
    }
    int64_t string = cprof__strings_intern(&strings, name, strlen(name));
    if (string < 0)
        return false;
    list[count] = (native){mapping, entry, strings.list[string].text};
    if (!cprof__map_add(&by_entry, cprof__hash_word(0, entry), count))
        return false;
    atomic_store_explicit(&count, count + 1, memory_order_release);
    return true;
}

int cprof__nativenames_add(const cprof__mapping *mapping, uint64_t entry, const char *name)
{
    cprof__lock_take(&lock);
    bool good = find(mapping, entry) || add(mapping, entry, name);
    cprof__lock_give(&lock);
    return good ? CPROF_OK : CPROF_ENOMEM;
}

const char *cprof__nativenames_find(const cprof__mapping *mapping, uint64_t entry)
{
    cprof__lock_take(&lock);
    const char *name = find(mapping, entry);
    cprof__lock_give(&lock);
    return name;
}

uint32_t cprof__nativenames_count(void)
{
    return atomic_load_explicit(&count, memory_order_acquire);
}
