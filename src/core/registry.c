/* SPDX-License-Identifier: MIT
 *
 * All profiles of the process, sorted by name; the calls that define and find them (cprof.h), and the end of
 * a VM's state, whose entries leave them all (cprof_vm.h).
 * Threads: any. Signals: unsafe.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "core/builtin.h"
#include "core/instance.h"
#include "core/profile.h"
#include "core/vm.h"

#include <string.h>

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_REGISTRY);
static cprof_profile **list; /* these under the lock */
static size_t count, room;

/* Names that the HTTP endpoint and Go's tools give a meaning of their own. */
static const char *const built_in[] = {"allocs", "block",   "cmdline", "coroutines",   "goroutine", "heap",
                                       "mutex",  "profile", "symbol",  "threadcreate", "threads",   "trace"};

static int check_name(const char *name)
{
    if (!name || !*name)
        return cprof__fail(CPROF_EINVAL, "name: empty");
    for (size_t i = 0; i < sizeof built_in / sizeof built_in[0]; i++)
        if (strcmp(name, built_in[i]) == 0)
            return cprof__fail(CPROF_EINVAL, "name: '%s' is built in", name);
    return 0;
}

static int check_types(const cprof_value_type *types, size_t size)
{
    if (size < 1 || size > CPROF_SAMPLE_TYPES_MAX)
        return cprof__fail(CPROF_EINVAL, "sample_types: %zu given, 1 to %d are allowed", size,
                           CPROF_SAMPLE_TYPES_MAX);
    for (size_t i = 0; i < size; i++) {
        if (!types[i].type || !*types[i].type || !types[i].unit || !*types[i].unit)
            return cprof__fail(CPROF_EINVAL, "sample_types: number %zu lacks a type or a unit", i + 1);
        for (size_t j = 0; j < i; j++)
            if (strcmp(types[i].type, types[j].type) == 0)
                return cprof__fail(CPROF_EINVAL, "sample_types: '%s' is given twice", types[i].type);
    }
    return 0;
}

/* The place of NAME in the list, or where it would go. Under the lock. */
static size_t place_of(const char *name)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(list[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool taken(size_t place, const char *name)
{
    return place < count && strcmp(list[place]->name, name) == 0;
}

/* Under the lock. */
static int insert_at(size_t place, cprof_profile *profile)
{
    if (count == room) {
        size_t grown = room ? room * 2 : 8;
        cprof_profile **longer = cprof__realloc(list, grown * sizeof *longer);
        if (!longer)
            return cprof__fail_memory();
        list = longer;
        room = grown;
    }
    memmove(list + place + 1, list + place, (count - place) * sizeof *list);
    list[place] = profile;
    count++;
    return 0;
}

/* Under the lock: puts the built-in profiles into the list, where they are not in it yet. Without memory some are
 * missing until the next time. */
static void insert_builtins(void)
{
    static bool all; /* under the lock */
    for (size_t i = 0; !all && cprof__builtins[i]; i++) {
        const cprof__builtin *builtin = cprof__builtins[i];
        size_t place = place_of(builtin->name);
        if (taken(place, builtin->name))
            continue;
        cprof_profile *profile = cprof__profile_make(builtin->name, builtin->types, builtin->columns);
        if (!profile)
            return;
        profile->builtin = builtin;
        if (insert_at(place, profile) != 0) {
            cprof__profile_discard(profile);
            return;
        }
    }
    all = true;
}

/* Takes the lock; the list is then complete. */
static void take(void)
{
    cprof__lock_take(&lock);
    insert_builtins();
}

/* Under the lock. */
static int insert(const char *name, const cprof_value_type *types, size_t size, cprof_profile **out)
{
    size_t place = place_of(name);
    if (taken(place, name))
        return cprof__fail(CPROF_EEXIST, "name: a profile '%s' exists already", name);
    cprof_profile *profile = cprof__profile_make(name, types, size);
    if (!profile)
        return cprof__fail_memory();
    int code = insert_at(place, profile);
    if (code)
        cprof__profile_discard(profile);
    else
        *out = profile;
    return code;
}

int cprof_profile_new(const char *name, const cprof_profile_options *options, cprof_profile **out)
{
    if (!out)
        return cprof__fail(CPROF_EINVAL, "out: NULL");
    if (options && options->struct_size < sizeof *options)
        return cprof__fail(CPROF_EINVAL, "options: struct_size is %zu", options->struct_size);
    int code = check_name(name);
    cprof_value_type count_type = {name, "count"};
    const cprof_value_type *types = options && options->sample_types ? options->sample_types : &count_type;
    size_t size = types == &count_type ? 1 : options->sample_type_count;
    if (!code)
        code = check_types(types, size);
    if (!code)
        code = cprof__instance_claim();
    if (code)
        return code;
    take();
    code = insert(name, types, size, out);
    cprof__lock_give(&lock);
    return code;
}

cprof_profile *cprof_lookup(const char *name)
{
    if (!name)
        return NULL;
    take();
    size_t place = place_of(name);
    cprof_profile *profile = taken(place, name) ? list[place] : NULL;
    cprof__lock_give(&lock);
    return profile;
}

int cprof_profiles(cprof_profile ***profiles, size_t *size)
{
    if (!profiles || !size)
        return cprof__fail(CPROF_EINVAL, "profiles: NULL");
    take();
    cprof_profile **copy = cprof__malloc(count * sizeof *copy);
    if (copy && count)
        memcpy(copy, list, count * sizeof *copy);
    size_t copied = count;
    cprof__lock_give(&lock);
    if (!copy)
        return cprof__fail_memory();
    *profiles = copy;
    *size = copied;
    return 0;
}

/* ---- States that end ---- */

void cprof_vm_detach(cprof_vm_state *state)
{
    if (!state)
        return;
    uint64_t low = cprof__vm_key(state, 0), high = low + (UINT64_C(1) << CPROF__VM_KEY_COUNT_BITS);
    cprof__vm_forget(state);
    take();
    for (size_t i = 0; i < count; i++)
        cprof__entries_remove_range(&list[i]->entries, low, high);
    cprof__lock_give(&lock);
}
