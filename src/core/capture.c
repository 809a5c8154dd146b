/* SPDX-License-Identifier: MIT
 *
 * See capture.h. The room to work in is the thread's own, allocated once: stacks of small threads are left
 * alone.
 */
#include "core/capture.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/thread.h"
#include "core/code.h"
#include "core/labels.h"
#include "core/stacks.h"
#include "core/vm.h"
#include "core/vmcode.h"
#include "sigsafe/current.h"

#include <stdatomic.h>
#include <string.h>

#define DEPTH_DEFAULT 128

/* Frames of a VM between two of its native functions are not shown, so more are walked than are kept. */
#define NATIVE_PER_FRAME 4
#define NATIVE_EXTRA 64

static atomic_int depth_max = DEPTH_DEFAULT;

size_t cprof__capture_depth(void)
{
    return (size_t)atomic_load_explicit(&depth_max, memory_order_relaxed);
}

int cprof_set_prof_stack_depth(int depth, int *old)
{
    if (depth < 1 || depth > CPROF__STACK_DEPTH_MAX)
        return cprof__fail(CPROF_EINVAL, "depth: %d is not between 1 and %d", depth, CPROF__STACK_DEPTH_MAX);
    int before = atomic_exchange_explicit(&depth_max, depth, memory_order_relaxed);
    if (old)
        *old = before;
    return 0;
}

/* What a thread needs to capture stacks, and knows of its last one. */
typedef struct room {
    size_t depth; /* it is made for stacks of at most these frames */
    size_t native_max;
    uint64_t *frames; /* depth + 2 */
    uint64_t *pcs,
        *starts; /* native_max + 1: a native stack that the trail does not hold, its functions' starts */
    cprof_vm_frame *vm_frames; /* depth + 1 */
    uint32_t stack, skip;      /* what the trail's stack was interned as; 0: unknown */
    uint32_t era;
    uint32_t starts_known;                   /* TRAIL_STARTS hold from this place on */
    uint64_t trail_starts[CPROF__TRAIL_MAX]; /* of the functions of the trail's frames, in their places */
    cprof__trail trail;
    uint64_t words[];
} room;

static room *make_room(cprof__thread *thread, size_t depth)
{
    size_t native = depth * NATIVE_PER_FRAME + NATIVE_EXTRA;
    size_t vm = (depth + 1) * sizeof(cprof_vm_frame) / sizeof(uint64_t);
    room *made = cprof__malloc(sizeof *made + (depth + 2 + 2 * (native + 1) + vm) * sizeof(uint64_t));
    if (!made)
        return NULL;
    memset(made, 0, sizeof *made);
    made->depth = depth;
    made->native_max = native;
    made->frames = made->words;
    made->pcs = made->frames + depth + 2;
    made->starts = made->pcs + native + 1;
    made->vm_frames = (cprof_vm_frame *)(made->starts + native + 1);
    cprof__free(thread->capture);
    thread->capture = made;
    return made;
}

static inline room *get_room(cprof__thread *thread)
{
    size_t depth = (size_t)atomic_load_explicit(&depth_max, memory_order_relaxed);
    room *r = thread->capture;
    return r && r->depth == depth ? r : make_room(thread, depth);
}

static const char *remark(bool cut, cprof__walk_end end)
{
    if (cut || end == CPROF__WALK_FULL)
        return "[truncated]";
    return end == CPROF__WALK_ROOT ? NULL : "[unwinding stopped]";
}

/* A stack that ends early says so in one more frame, for which there is room. The remarks' addresses are
 * looked up once. Returns: how many frames there are then, 0 where memory ran out. */
static size_t add_remark(uint64_t *frames, size_t count, bool cut, cprof__walk_end end)
{
    static _Atomic uint64_t truncated, stopped;
    const char *text = remark(cut, end);
    if (!text)
        return count;
    _Atomic uint64_t *cached = text[1] == 't' ? &truncated : &stopped;
    uint64_t address = atomic_load_explicit(cached, memory_order_relaxed);
    if (!address) {
        address = cprof__vmcode_special(text);
        atomic_store_explicit(cached, address, memory_order_relaxed);
    }
    frames[count] = address;
    return address ? count + 1 : 0;
}

/* Walks into the trail. Returns: how many frames, or 0: none for a trail. */
static size_t walk_trail(room *r, const cprof__regs *regs, size_t max)
{
    size_t count = cprof__code_capture_again(regs, &r->trail, max);
    uint32_t known = CPROF__TRAIL_MAX - (uint32_t)count + r->trail.fresh;
    if (!count || known > r->starts_known)
        r->starts_known = count ? known : CPROF__TRAIL_MAX;
    return count;
}

static uint32_t capture_native(room *r, const cprof__regs *regs, uint32_t skip)
{
    size_t count = walk_trail(r, regs, r->depth);
    cprof__walk_end end = r->trail.end;
    if (!count) {
        count = cprof__code_capture(regs, r->pcs, r->depth, &end);
        count = add_remark(r->pcs, count, false, end);
        return count ? cprof__stacks_intern(r->pcs, (uint32_t)count, skip) : 0;
    }
    uint32_t era = cprof__code_era();
    if (!r->trail.fresh && r->stack && r->skip == skip && r->era == era)
        return r->stack;
    uint64_t *pcs = cprof__trail_pcs(&r->trail);
    r->skip = skip;
    r->era = era;
    if (end == CPROF__WALK_ROOT)
        return r->stack = cprof__stacks_intern_sum(pcs, (uint32_t)count, skip, cprof__trail_sum(&r->trail));
    count = add_remark(pcs, count, false, end);
    return r->stack = count ? cprof__stacks_intern(pcs, (uint32_t)count, skip) : 0;
}

/* The native stack with the starts of its functions. */
static cprof_vm_native walk_functions(room *r, const cprof__regs *regs, cprof__walk_end *end)
{
    size_t count = walk_trail(r, regs, r->native_max);
    if (!count) {
        count = cprof__code_capture(regs, r->pcs, r->native_max, end);
        for (size_t i = 0; i < count; i++)
            r->starts[i] = cprof__code_function_start(r->pcs[i]);
        return (cprof_vm_native){r->pcs, r->starts, count};
    }
    uint32_t first = CPROF__TRAIL_MAX - (uint32_t)count;
    for (uint32_t i = first; i < r->starts_known; i++)
        r->trail_starts[i] = cprof__code_function_start(r->trail.pcs[i]);
    r->starts_known = first;
    *end = r->trail.end;
    return (cprof_vm_native){r->trail.pcs + first, r->trail_starts + first, count};
}

static uint32_t capture_merged(room *r, const cprof__regs *regs, uint32_t skip, cprof__thread *thread,
                               cprof_vm_state *state, void *running, const cprof_labels **labels)
{
    cprof__walk_end end;
    cprof_vm_native native = walk_functions(r, regs, &end);
    r->stack = 0;
    cprof__merged merged = {r->frames, 0, r->depth, false};
    cprof__vm_merge(thread, state, running, &native, 0, r->vm_frames, r->depth + 1, &merged, labels);
    size_t count = add_remark(merged.frames, merged.count, merged.cut, end);
    return count ? cprof__stacks_intern(merged.frames, (uint32_t)count, skip) : 0;
}

uint32_t cprof__capture(const cprof__regs *regs, cprof_vm_state *state, void *running, int skip,
                        uint32_t *labels)
{
    cprof__thread *thread = cprof__thread_self();
    room *r = thread ? get_room(thread) : NULL;
    if (!r)
        return 0;
    uint32_t stack;
    if (state || thread->vm_states > 0) {
        const cprof_labels *of_vm = NULL;
        stack = capture_merged(r, regs, (uint32_t)skip, thread, state, running, &of_vm);
        *labels = cprof__labels_join(*labels, cprof__labels_number(of_vm));
    } else {
        stack = capture_native(r, regs, (uint32_t)skip);
    }
    if (*labels != CPROF__LABELS_FAILED)
        *labels = cprof__labels_join(*labels, cprof__current.labels);
    return *labels != CPROF__LABELS_FAILED ? stack : 0;
}

size_t cprof_vm_native_stack(uint64_t *pcs, uint64_t *starts, size_t max)
{
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    uint64_t own;
    size_t count = cprof__code_capture(&regs, pcs, max, NULL);
    own = count ? cprof__code_function_start(pcs[0]) : 0;
    if (count && own == (uint64_t)(uintptr_t)cprof_vm_native_stack) {
        count--;
        for (size_t i = 0; i < count; i++)
            pcs[i] = pcs[i + 1];
    }
    for (size_t i = 0; i < count; i++)
        starts[i] = cprof__code_function_start(pcs[i]);
    return count;
}
