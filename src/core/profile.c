/* SPDX-License-Identifier: MIT
 *
 * See profile.h.
 */
#include "core/profile.h"

#include "base/alloc.h"
#include "base/error.h"
#include "core/capture.h"
#include "core/labels.h"
#include "core/vm.h"

#include <string.h>

cprof_profile *cprof__profile_make(const char *name, const cprof_value_type *types, size_t count)
{
    cprof_profile *profile = cprof__aligned_alloc(alignof(cprof_profile), sizeof *profile);
    if (!profile)
        return NULL;
    memset(profile, 0, sizeof *profile);
    profile->name = cprof__strdup(name);
    profile->columns = (unsigned)count;
    bool good = profile->name != NULL;
    for (size_t i = 0; i < count && good; i++) {
        profile->types[i].type = cprof__strdup(types[i].type);
        profile->types[i].unit = cprof__strdup(types[i].unit);
        good = profile->types[i].type && profile->types[i].unit;
    }
    if (!good) {
        cprof__profile_discard(profile);
        return NULL;
    }
    cprof__entries_init(&profile->entries, profile->columns);
    return profile;
}

void cprof__profile_discard(cprof_profile *profile)
{
    for (unsigned i = 0; i < profile->columns; i++) {
        cprof__free((char *)profile->types[i].type);
        cprof__free((char *)profile->types[i].unit);
    }
    cprof__free((char *)profile->name);
    cprof__free(profile);
}

const char *cprof_profile_name(const cprof_profile *profile)
{
    return profile->name;
}

size_t cprof_profile_sample_types(const cprof_profile *profile, const cprof_value_type **types)
{
    *types = profile->types;
    return profile->columns;
}

int64_t cprof_profile_count(const cprof_profile *profile)
{
    if (profile->builtin)
        return profile->builtin->count(profile->builtin);
    const cprof__events *events = atomic_load(&profile->events);
    return cprof__entries_count(&profile->entries) + (events ? cprof__events_count(events) : 0);
}

static int check(const cprof_profile *profile, const cprof_entry_options *options)
{
    if (!profile)
        return cprof__fail(CPROF_EINVAL, "profile: NULL");
    if (profile->builtin)
        return cprof__fail(CPROF_EINVAL, "profile '%s' is built in: nothing can be added to it",
                           profile->name);
    if (options->struct_size < sizeof *options)
        return cprof__fail(CPROF_EINVAL, "options: struct_size is %zu", options->struct_size);
    if (options->skip < 0)
        return cprof__fail(CPROF_EINVAL, "skip: %d is negative", options->skip);
    if (options->value_count > profile->columns)
        return cprof__fail(CPROF_EINVAL, "values: %zu given, but profile '%s' has %u", options->value_count,
                           profile->name, profile->columns);
    if (options->value_count && !options->values)
        return cprof__fail(CPROF_EINVAL, "values: NULL");
    return 0;
}

/* The first add or record decides what PROFILE holds. */
static int decide(cprof_profile *profile, enum cprof__profile_kind kind)
{
    int now = atomic_load_explicit(&profile->kind, memory_order_relaxed);
    if (now == CPROF__PROFILE_UNDECIDED && atomic_compare_exchange_strong(&profile->kind, &now, kind))
        now = kind;
    if (now == (int)kind)
        return 0;
    return cprof__fail(CPROF_EINVAL, "profile '%s' holds %s", profile->name,
                       now == CPROF__PROFILE_ENTRIES ? "entries: record is for profiles of events"
                                                     : "events: add is for profiles of entries");
}

/* OPTIONS' values, filled up to all columns in FILLED; NULL where they are 1, 0 …. */
static const int64_t *fill_values(const cprof_entry_options *options, int64_t filled[CPROF_SAMPLE_TYPES_MAX])
{
    if (!options->value_count)
        return NULL;
    for (size_t i = 0; i < CPROF_SAMPLE_TYPES_MAX; i++)
        filled[i] = i < options->value_count ? options->values[i] : 0;
    return filled;
}

static int add(cprof_profile *profile, uint64_t key, const cprof_entry_options *options,
               const cprof__regs *regs, cprof_vm_state *state, void *running)
{
    int code = check(profile, options);
    if (code)
        return code;
    if (!key)
        return cprof__fail(CPROF_EINVAL, "key: NULL");
    code = decide(profile, CPROF__PROFILE_ENTRIES);
    if (code)
        return code;
    int64_t values[CPROF_SAMPLE_TYPES_MAX];
    cprof__entry entry = {key, 0, cprof__labels_number(options->labels), fill_values(options, values)};
    entry.stack = cprof__capture(regs, state, running, options->skip, &entry.labels);
    if (!entry.stack)
        return cprof__fail_memory();
    code = cprof__entries_add(&profile->entries, &entry);
    if (code == CPROF_EEXIST)
        return cprof__fail(code, "key: has an entry in profile '%s' already", profile->name);
    return code ? cprof__fail_memory() : 0;
}

static cprof__events *get_events(cprof_profile *profile)
{
    cprof__events *events = atomic_load_explicit(&profile->events, memory_order_acquire);
    if (events)
        return events;
    cprof__events *made = cprof__aligned_alloc(alignof(cprof__events), sizeof *made);
    if (!made)
        return NULL;
    cprof__events_init(made, profile->columns);
    if (atomic_compare_exchange_strong(&profile->events, &events, made))
        return made;
    cprof__free(made);
    return events;
}

static int record(cprof_profile *profile, const cprof_entry_options *options, const cprof__regs *regs,
                  cprof_vm_state *state, void *running)
{
    int code = check(profile, options);
    if (!code)
        code = decide(profile, CPROF__PROFILE_EVENTS);
    if (code)
        return code;
    int64_t values[CPROF_SAMPLE_TYPES_MAX];
    cprof__events *events = get_events(profile);
    uint32_t labels = cprof__labels_number(options->labels);
    uint32_t stack = events ? cprof__capture(regs, state, running, options->skip, &labels) : 0;
    if (!stack || cprof__events_add(events, stack, labels, fill_values(options, values)) != 0)
        return cprof__fail_memory();
    return 0;
}

static const cprof_entry_options defaults = CPROF_ENTRY_OPTIONS_INIT;

/* Each public function takes the registers of itself: it is frame 0 of the stack. */

int cprof_profile_add(cprof_profile *profile, const void *key, int skip)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    options.skip = skip;
    return add(profile, (uint64_t)(uintptr_t)key, &options, &regs, NULL, NULL);
}

int cprof_profile_add_entry(cprof_profile *profile, const void *key, const cprof_entry_options *options)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    return add(profile, (uint64_t)(uintptr_t)key, options ? options : &defaults, &regs, NULL, NULL);
}

int cprof_vm_add(cprof_vm_state *state, void *running, cprof_profile *profile, uint64_t key,
                 const cprof_entry_options *options)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    cprof_vm_adopt(state);
    return add(profile, cprof__vm_key(state, key), options ? options : &defaults, &regs, state, running);
}

int cprof_profile_record(cprof_profile *profile, const cprof_entry_options *options)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    return record(profile, options ? options : &defaults, &regs, NULL, NULL);
}

int cprof_vm_record(cprof_vm_state *state, void *running, cprof_profile *profile,
                    const cprof_entry_options *options)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    cprof_vm_adopt(state);
    return record(profile, options ? options : &defaults, &regs, state, running);
}

static int remove_key(cprof_profile *profile, uint64_t key)
{
    if (!profile)
        return cprof__fail(CPROF_EINVAL, "profile: NULL");
    if (key && cprof__entries_remove(&profile->entries, key))
        return 0;
    return cprof__fail(CPROF_ENOENT, "key: has no entry in profile '%s'", profile->name);
}

int cprof_profile_remove(cprof_profile *profile, const void *key)
{
    return remove_key(profile, (uint64_t)(uintptr_t)key);
}

int cprof_vm_remove(cprof_vm_state *state, cprof_profile *profile, uint64_t key)
{
    return remove_key(profile, cprof__vm_key(state, key));
}

static int sum_entry(void *context, const cprof__entry *entry)
{
    return cprof__sums_add(context, entry->stack, entry->labels, entry->values) ? 0 : CPROF_ENOMEM;
}

int cprof__profile_sum(cprof_profile *profile, cprof__sums *sums)
{
    *sums = (cprof__sums){.columns = profile->columns};
    int code = cprof__entries_each(&profile->entries, sum_entry, sums);
    cprof__events *events = atomic_load_explicit(&profile->events, memory_order_acquire);
    if (!code && events)
        code = cprof__events_sum(events, sums);
    return code ? cprof__fail_memory() : 0;
}
