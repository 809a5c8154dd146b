/* SPDX-License-Identifier: MIT
 *
 * See weave.h. Going outward in the native stack of a sample: the VM's own functions up to the first of its API (not
 * shown, but for the collector's time, a leaf of its own), unless the VM had called a native function, which ran
 * (the sample's entry): then that function and its helpers, without what the API did for them. From there on
 * core/merge.h weaves as everywhere.
 */
#define _GNU_SOURCE
#include "sampler/weave.h"

#include "core/capture.h"
#include "core/code.h"
#include "core/stacks.h"
#include "core/vmcode.h"
#include "cprof_vm.h"

#include <string.h>

static void push_special(cprof__merged *merged, const char *name)
{
    uint64_t frame = cprof__vmcode_special(name);
    if (frame)
        cprof__merge_push(merged, frame);
}

static bool is_api(const cprof__vm_kind *kind, uint64_t start)
{
    return cprof__entry_set_has(&kind->api, start);
}

static const cprof__vm_kind *kind_of(const void *vm)
{
    const cprof__vm_kind *kind = NULL;
    for (uint32_t i = 0; (kind = cprof__vm_kind_at(i)) && kind->vm != vm; i++) {}
    return kind;
}

static bool collecting(const cprof__vm_kind *kind, uint32_t activity)
{
    return activity && kind->vm->activities && strcmp(kind->vm->activities[activity - 1], "gc") == 0;
}

/* The place of the native function that the VM had called, or native->count where it is not there. */
static size_t find_called(const cprof_vm_native *native, uint64_t entry)
{
    return entry ? cprof__merge_find(native, 0, entry) : native->count;
}

/* The helpers of the native function at PLACE, less what they had called of the API. */
static void push_helpers(cprof__merged *merged, const cprof_vm_native *native, const cprof__vm_kind *kind,
                         size_t place)
{
    size_t first = 0;
    for (size_t i = 0; i < place; i++)
        if (is_api(kind, native->starts[i]))
            first = i + 1;
    for (; first < place; first++)
        cprof__merge_push(merged, native->pcs[first]);
}

/* The first place outside the outermost API function: what is there belongs to no VM. */
static size_t outside(const cprof_vm_native *native, const cprof__vm_kind *kind)
{
    size_t place = 0;
    for (size_t i = 0; i < native->count; i++)
        if (is_api(kind, native->starts[i]))
            place = i + 1;
    return place;
}

static size_t weave_segments(cprof__merged *merged, const cprof_vm_native *native, size_t from,
                             const cprof__vm_frames *vm)
{
    for (size_t i = 0; i < vm->count && from <= native->count && !merged->cut; i++) {
        const cprof__segment_frames *segment = &vm->segments[i];
        from = cprof__merge_state(merged, native, from, &segment->kind->api, segment->frames, segment->count,
                                  i == 0);
    }
    merged->cut |= vm->cut;
    /* What is left of the API further out called a hook, or what else has no frame: it is the VM's own. */
    const cprof__vm_kind *last = vm->count ? vm->segments[vm->count - 1].kind : NULL;
    size_t out = last ? outside(native, last) : 0;
    return from > out ? from : out;
}

/* Whether VM begins with the native function that ran; else that has returned unseen, and its caller is first. */
static bool begins_with(const cprof__vm_frames *vm, uint64_t entry)
{
    return vm->segments[0].count && vm->segments[0].frames[0].entry == entry;
}

static size_t weave_vm(cprof__merged *merged, const cprof_vm_native *native, const cprof__sample *sample,
                       const cprof__vm_kind *kind, const cprof__vm_frames *vm, bool *unresolved)
{
    if (collecting(kind, sample->activity))
        push_special(merged, "[gc]");
    size_t called = find_called(native, sample->entry);
    bool known = vm && vm->count, begins = known && begins_with(vm, sample->entry);
    if (called < native->count && !(begins && vm->segments[0].frames[0].flags & CPROF_VM_RUNTIME))
        push_helpers(merged, native, kind, called);
    if (called < native->count && !begins)
        cprof__merge_push(merged, native->pcs[called++]);
    if (known)
        return weave_segments(merged, native, called < native->count ? called : 0, vm);
    *unresolved = true;
    push_special(merged, "[lua: no safepoint]");
    return outside(native, kind);
}

static const char *remark(const cprof__merged *merged, uint16_t end)
{
    if (merged->cut || end == CPROF__WALK_FULL)
        return "[truncated]";
    return end == CPROF__WALK_ROOT ? NULL : "[unwinding stopped]";
}

uint32_t cprof__weave(cprof__weaving *w, const cprof__sample *sample, const cprof__vm_frames *vm,
                      bool *unresolved)
{
    cprof__merged merged = {w->frames, 0, cprof__capture_depth(), false};
    const cprof__vm_kind *kind = sample->vm ? kind_of(sample->vm) : NULL;
    const cprof_vm_native native = {sample->pcs, w->starts, sample->count};
    size_t from = 0;
    *unresolved = false;
    if (kind) {
        for (size_t i = 0; i < sample->count; i++)
            w->starts[i] = cprof__code_function_start(sample->pcs[i]);
        from = weave_vm(&merged, &native, sample, kind, vm, unresolved);
    }
    for (; from < native.count && !merged.cut; from++)
        cprof__merge_push(&merged, native.pcs[from]);
    const char *text = remark(&merged, sample->end);
    uint64_t frame = text ? cprof__vmcode_special(text) : 0;
    if (frame)
        w->frames[merged.count++] = frame;
    return cprof__stacks_intern(w->frames, (uint32_t)merged.count, 0);
}
