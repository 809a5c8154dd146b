/* SPDX-License-Identifier: MIT
 *
 * See vm.h. A state belongs to the thread that attached it or last used it; only that thread reads it. Which
 * states a thread owns changes under the lock. The owner needs no lock to go through the states that it owns,
 * since only itself detaches them, but the list is shared, so it takes the lock to walk along it; the walk of
 * a VM happens outside it, for a VM may call us back (a finalizer that adds an entry).
 */
#include "core/vm.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "core/instance.h"

#include <stdatomic.h>

#define STATE_NUMBERS_MAX (UINT64_C(1) << (63 - CPROF__VM_KEY_COUNT_BITS))

struct cprof_vm_state {
    const cprof__vm_kind *kind;
    void *state;
    uint64_t number;   /* unique in the process */
    uint64_t next_key; /* the owner's */
    _Atomic(cprof__thread *)
        owner; /* written under the lock; compared, never followed: its thread may have ended */
    _Atomic uint32_t owner_serial; /* of the owner, whose record another thread's may have replaced */
    cprof__vm_kept heap;           /* the owner's */
    struct cprof_vm_state *next;   /* under the lock */
};

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_VM);
static cprof_vm_state *states; /* these under the lock */
static uint64_t numbers;

/* The kinds of VM, in order of appearance: added to under the lock, published with release. */
static _Atomic(const cprof__vm_kind *) kinds[CPROF__VM_KINDS_MAX];

const cprof__vm_kind *cprof__vm_kind_at(uint32_t number)
{
    return number < CPROF__VM_KINDS_MAX ? atomic_load_explicit(&kinds[number], memory_order_acquire) : NULL;
}

const cprof__vm_kind *cprof__vm_kind_of_api(uint64_t start)
{
    const cprof__vm_kind *kind = NULL;
    for (uint32_t i = 0; (kind = cprof__vm_kind_at(i)) && !cprof__entry_set_has(&kind->api, start); i++) {}
    return kind;
}

static void add_api(cprof__entry_set *set, uint64_t start)
{
    uint32_t i = (uint32_t)(start >> 4) & set->mask;
    while (set->slots[i] && set->slots[i] != start)
        i = (i + 1) & set->mask;
    set->slots[i] = start;
}

static int fill_api(cprof__entry_set *set, const cprof_vm *vm)
{
    uint32_t slots = 16;
    while (slots < (vm->entry_point_count + 1) * 2)
        slots *= 2;
    set->slots = cprof__calloc(slots, sizeof *set->slots);
    if (!set->slots)
        return cprof__fail_memory();
    set->mask = slots - 1;
    for (size_t i = 0; i < vm->entry_point_count; i++)
        add_api(set, (uint64_t)(uintptr_t)vm->entry_points[i]);
    set->interpreter = (uint64_t)(uintptr_t)vm->interpreter;
    set->own_low = vm->code_low;
    set->own_high = vm->code_high;
    add_api(set, set->interpreter);
    return 0;
}

/* The kind of VM, made where it is new. Under the lock. */
static int find_kind(const cprof_vm *vm, const cprof__vm_kind **out)
{
    uint32_t i = 0;
    while (i < CPROF__VM_KINDS_MAX && kinds[i] && kinds[i]->vm != vm)
        i++;
    if (i == CPROF__VM_KINDS_MAX)
        return cprof__fail(CPROF_EINVAL, "vm: more than %u kinds of VM", CPROF__VM_KINDS_MAX);
    *out = kinds[i];
    if (*out)
        return 0;
    cprof__vm_kind *kind = cprof__calloc(1, sizeof *kind);
    if (!kind)
        return cprof__fail_memory();
    kind->vm = vm;
    int code = fill_api(&kind->api, vm);
    if (code) {
        cprof__free(kind);
        return code;
    }
    atomic_store_explicit(&kinds[i], kind, memory_order_release);
    *out = kind;
    return 0;
}

const cprof__vm_kind *cprof__vm_kind_of(const cprof_vm_state *state)
{
    return state->kind;
}

void *cprof__vm_state_of(const cprof_vm_state *state)
{
    return state->state;
}

/* Whether an attached state has NUMBER: they come round. Under the lock. */
static bool in_use(uint64_t number)
{
    const cprof_vm_state *state = states;
    while (state && state->number != number)
        state = state->next;
    return state != NULL;
}

int cprof_vm_attach(const cprof_vm *vm, void *state, cprof_vm_state **out)
{
    if (!vm || vm->struct_size < sizeof *vm || !vm->walk || !state || !out)
        return cprof__fail(CPROF_EINVAL, "vm: NULL, or made for another version of cprof");
    int code = cprof__instance_claim();
    if (code)
        return code;
    cprof_vm_state *attached = cprof__calloc(1, sizeof *attached);
    if (!attached)
        return cprof__fail_memory();
    cprof__lock_take(&lock);
    code = find_kind(vm, &attached->kind);
    if (code) {
        cprof__lock_give(&lock);
        cprof__free(attached);
        return code;
    }
    attached->state = state;
    do
        attached->number = numbers++ % STATE_NUMBERS_MAX;
    while (in_use(attached->number));
    attached->next = states;
    states = attached;
    cprof__lock_give(&lock);
    cprof_vm_adopt(attached);
    *out = attached;
    return 0;
}

static bool owned_by(const cprof_vm_state *state, const cprof__thread *thread)
{
    return atomic_load_explicit(&state->owner, memory_order_relaxed) == thread &&
           atomic_load_explicit(&state->owner_serial, memory_order_relaxed) == thread->serial;
}

void cprof_vm_adopt(cprof_vm_state *state)
{
    cprof__thread *thread = cprof__thread_self();
    if (!thread || owned_by(state, thread))
        return;
    /* The old owner's count stays: its record may be gone with its thread, and a count too high only costs
     * time. */
    cprof__lock_take(&lock);
    atomic_store_explicit(&state->owner, thread, memory_order_relaxed);
    atomic_store_explicit(&state->owner_serial, thread->serial, memory_order_relaxed);
    thread->vm_states++;
    cprof__lock_give(&lock);
}

void cprof__vm_forget(cprof_vm_state *state)
{
    cprof__lock_take(&lock);
    cprof_vm_state **link = &states;
    while (*link && *link != state)
        link = &(*link)->next;
    if (*link)
        *link = state->next;
    cprof__lock_give(&lock);
    cprof__thread *thread = cprof__thread_self();
    if (thread && owned_by(state, thread))
        thread->vm_states--;
    if (state->heap.data)
        state->heap.free(state->heap.data);
    cprof__free(state);
}

cprof__vm_kept *cprof__vm_heap_of(cprof_vm_state *state)
{
    return &state->heap;
}

uint64_t cprof_vm_next_key(cprof_vm_state *state)
{
    return ++state->next_key;
}

uint64_t cprof__vm_key(const cprof_vm_state *state, uint64_t key)
{
    return CPROF__VM_KEY_BIT | state->number << CPROF__VM_KEY_COUNT_BITS | key;
}

/* The first state of THREAD after AFTER (NULL: of all), or NULL. */
static cprof_vm_state *next_owned(const cprof__thread *thread, const cprof_vm_state *after)
{
    cprof__lock_take(&lock);
    cprof_vm_state *state = after ? after->next : states;
    while (state && !owned_by(state, thread))
        state = state->next;
    cprof__lock_give(&lock);
    return state;
}

cprof_vm_state *cprof__vm_find(const cprof__thread *thread, const void *state)
{
    cprof_vm_state *found = next_owned(thread, NULL);
    while (found && found->state != state)
        found = next_owned(thread, found);
    return found;
}

/* Among the states of THREAD but for EXCEPT, the one whose innermost frame is the next one outward in NATIVE
 * from FROM: it runs there. *AT gets the place. NULL where none runs there. */
static cprof_vm_state *find_running(cprof__thread *thread, const cprof_vm_state *except,
                                    const cprof_vm_native *native, size_t from, size_t *at)
{
    cprof_vm_state *best = NULL;
    cprof_vm_native rest = {native->pcs + from, native->starts + from, native->count - from};
    int owned = 0;
    *at = native->count;
    for (cprof_vm_state *state = next_owned(thread, NULL); state; state = next_owned(thread, state)) {
        owned++;
        size_t api = 0;
        while (api < rest.count && !cprof__entry_set_has(&state->kind->api, rest.starts[api]))
            api++;
        if (state == except || api == rest.count)
            continue;
        cprof_vm_frame innermost;
        int truncated = 0;
        if (state->kind->vm->walk(state->state, NULL, &rest, &innermost, 1, &truncated) == 0)
            continue;
        size_t place = innermost.entry ? cprof__merge_find(native, from, innermost.entry) : from + api;
        if (place < *at) {
            *at = place;
            best = state;
        }
    }
    thread->vm_states = owned; /* others may have taken some over */
    return best;
}

cprof_vm_state *cprof__vm_running(cprof__thread *thread, const cprof_vm_state *except,
                                  const cprof_vm_native *native, size_t from)
{
    size_t at;
    return find_running(thread, except, native, from, &at);
}

void cprof__vm_merge(cprof__thread *thread, cprof_vm_state *state, void *running,
                     const cprof_vm_native *native, size_t from, cprof_vm_frame *scratch, size_t scratch_max,
                     cprof__merged *merged, const cprof_labels **labels)
{
    const cprof_vm_state *done = NULL;
    size_t at;
    if (!state)
        state = find_running(thread, NULL, native, from, &at);
    while (state && from <= native->count && !merged->cut) {
        cprof_vm_native rest = {native->pcs + from, native->starts + from, native->count - from};
        int truncated = 0;
        size_t count = state->kind->vm->walk(state->state, running, &rest, scratch, scratch_max, &truncated);
        if (!done && state->kind->vm->labels)
            *labels = state->kind->vm->labels(state->state, running);
        from = cprof__merge_state(merged, native, from, &state->kind->api, scratch, count, running != NULL);
        merged->cut |= truncated != 0;
        running = NULL;
        done = state;
        state = NULL;
        if (from < native->count && thread->vm_states > 1)
            state = find_running(thread, done, native, from, &at);
    }
    for (; from < native->count && !merged->cut; from++)
        cprof__merge_push(merged, native->pcs[from]);
}
