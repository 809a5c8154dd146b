/* SPDX-License-Identifier: MIT
 *
 * See merge.h.
 */
#include "core/merge.h"

void cprof__merge_push(cprof__merged *merged, uint64_t frame)
{
    if (merged->count < merged->max)
        merged->frames[merged->count++] = frame;
    else
        merged->cut = true;
}

size_t cprof__merge_find(const cprof_vm_native *native, size_t from, uint64_t entry)
{
    while (from < native->count && native->starts[from] != entry)
        from++;
    return from;
}

static void push_native(cprof__merged *merged, const cprof_vm_native *native, size_t from, size_t limit)
{
    for (; from < limit; from++)
        cprof__merge_push(merged, native->pcs[from]);
}

/* Whether the VM ends behind the function at START. The interpreter may have been entered again, by what the VM itself
 * did (a finalizer that the collector called): where the VM's own functions are not known, the API tells. */
static bool is_border(const cprof__entry_set *api, uint64_t start)
{
    return cprof__entry_set_has(api, start) && (start != api->interpreter || api->own_high);
}

/* Of the VM's own, or compiled by it. */
static bool is_own(const cprof__entry_set *api, uint64_t start)
{
    return api->own_high && (!start || (start >= api->own_low && start < api->own_high));
}

/* The first place outside the VM, which has a border at FROM: behind those that called it, also by way of the VM's own
 * functions. */
static size_t leave_border(const cprof_vm_native *native, size_t from, size_t limit,
                           const cprof__entry_set *api)
{
    size_t place = from, next = from;
    while (next < limit && cprof__entry_set_has(api, native->starts[next])) {
        place = ++next;
        while (next < limit && !cprof__entry_set_has(api, native->starts[next]) &&
               is_own(api, native->starts[next]))
            next++;
    }
    return place;
}

/* The first place from FROM on, before LIMIT, that lies outside the VM: behind the first API function and
 * those that called it. Where an API function left by a tail call into the VM's interpreter (LuaJIT's
 * lua_call does), the interpreter itself, which called the function before FROM, is the last that is the
 * VM's. Else LIMIT. Compiled code, of which nothing is known, was entered from the interpreter, and what is before it
 * are the VM's helpers. */
static size_t leave_vm(const cprof_vm_native *native, size_t from, size_t limit, const cprof__entry_set *api)
{
    size_t place = from, interpreter = limit;
    while (place < limit && native->starts[place] && !cprof__entry_set_has(api, native->starts[place]))
        place++;
    bool compiled = place < limit && !native->starts[place];
    while (compiled && place < limit && !native->starts[place])
        place++;
    place = from = compiled ? place : from;
    for (; place < limit && !is_border(api, native->starts[place]); place++)
        if (native->starts[place] && native->starts[place] == native->starts[from])
            interpreter = place + 1;
    if (place == limit)
        return interpreter;
    return leave_border(native, place, limit, api);
}

/* The first place from FROM on where native code was called by the VM without a call of its own (LuaJIT's
 * FFI): where an unknown function or the API begins. Helpers before it are the called code's. */
static size_t enter_vm(const cprof_vm_native *native, size_t from, const cprof__entry_set *api)
{
    while (from < native->count && native->starts[from] && !cprof__entry_set_has(api, native->starts[from]))
        from++;
    return from;
}

size_t cprof__merge_state(cprof__merged *merged, const cprof_vm_native *native, size_t from,
                          const cprof__entry_set *api, const cprof_vm_frame *frames, size_t count,
                          bool leave_out_helpers)
{
    bool in_vm = false;
    for (size_t i = 0; i < count; i++) {
        const cprof_vm_frame *frame = &frames[i];
        size_t place = frame->entry ? cprof__merge_find(native, from, frame->entry) : native->count;
        if (place < native->count) {
            bool helpers = in_vm ? !(frame->flags & CPROF_VM_RUNTIME) : !leave_out_helpers;
            if (helpers)
                push_native(merged, native, in_vm ? leave_vm(native, from, place, api) : from, place);
            cprof__merge_push(merged, native->pcs[place]);
            from = place + 1;
        } else {
            if (!in_vm && !leave_out_helpers) {
                size_t limit = enter_vm(native, from, api);
                push_native(merged, native, from, limit);
                from = limit;
            }
            cprof__merge_push(merged, frame->address);
        }
        in_vm = true;
    }
    return in_vm ? leave_vm(native, from, native->count, api) : from;
}
