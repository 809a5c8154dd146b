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
#include "core/stacks.h"
#include "core/vm.h"
#include "core/vmcode.h"

#include <stdatomic.h>
#include <string.h>

#define DEPTH_DEFAULT 128

/* Frames of a VM between two of its native functions are not shown, so more are walked than are kept. */
#define NATIVE_PER_FRAME 4
#define NATIVE_EXTRA 64

static atomic_int depth_max = DEPTH_DEFAULT;

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
    uint64_t *frames;          /* depth + 2 */
    uint64_t *pcs;             /* native_max + 1: the native stack, as TRAIL knows it */
    uint64_t *starts;          /* native_max: of its functions, the first START_COUNT of them known */
    cprof_vm_frame *vm_frames; /* depth + 1 */
    size_t start_count;
    uint32_t stack, skip; /* what the last native stack was interned as; 0: unknown */
    uint32_t era;
    cprof__trail trail;
    uint64_t words[];
} room;

static room *make_room(cprof__thread *thread, size_t depth)
{
    size_t native = depth * NATIVE_PER_FRAME + NATIVE_EXTRA;
    size_t vm = (depth + 1) * sizeof(cprof_vm_frame) / sizeof(uint64_t);
    room *made = cprof__malloc(sizeof *made + (depth + 2 + 2 * native + 1 + vm) * sizeof(uint64_t));
    if (!made)
        return NULL;
    memset(made, 0, sizeof *made);
    made->depth = depth;
    made->native_max = native;
    made->frames = made->words;
    made->pcs = made->frames + depth + 2;
    made->starts = made->pcs + native + 1;
    made->vm_frames = (cprof_vm_frame *)(made->starts + native);
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

static uint32_t capture_native(room *r, const cprof__regs *regs, uint32_t skip)
{
    cprof__walk_end end;
    bool same;
    size_t count = cprof__code_capture_again(regs, &r->trail, r->pcs, r->depth, &end, &same);
    r->start_count = same ? r->start_count : 0;
    uint32_t era = cprof__code_era();
    if (same && r->stack && r->skip == skip && r->era == era)
        return r->stack;
    count = add_remark(r->pcs, count, false, end);
    r->stack = count ? cprof__stacks_intern(r->pcs, (uint32_t)count, skip) : 0;
    r->skip = skip;
    r->era = era;
    return r->stack;
}

static uint32_t capture_merged(room *r, const cprof__regs *regs, uint32_t skip, cprof__thread *thread,
                               cprof_vm_state *state, void *running)
{
    cprof__walk_end end;
    bool same;
    size_t count = cprof__code_capture_again(regs, &r->trail, r->pcs, r->native_max, &end, &same);
    for (size_t i = same ? r->start_count : 0; i < count; i++)
        r->starts[i] = cprof__code_function_start(r->pcs[i]);
    r->start_count = count;
    r->stack = 0;
    cprof__merged merged = {r->frames, 0, r->depth, false};
    cprof_vm_native native = {r->pcs, r->starts, count};
    cprof__vm_merge(thread, state, running, &native, 0, r->vm_frames, r->depth + 1, &merged);
    count = add_remark(merged.frames, merged.count, merged.cut, end);
    return count ? cprof__stacks_intern(merged.frames, (uint32_t)count, skip) : 0;
}

uint32_t cprof__capture(const cprof__regs *regs, cprof_vm_state *state, void *running, int skip)
{
    cprof__thread *thread = cprof__thread_self();
    room *r = thread ? get_room(thread) : NULL;
    if (!r)
        return 0;
    if (state || atomic_load_explicit(&thread->vm_states, memory_order_relaxed) > 0)
        return capture_merged(r, regs, (uint32_t)skip, thread, state, running);
    return capture_native(r, regs, (uint32_t)skip);
}
