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

/* The parts of a thread's room. */
struct room {
    uint64_t *frames; /* depth + 2 */
    uint64_t *pcs, *starts;
    size_t native_max;
    cprof_vm_frame *vm_frames; /* depth + 1 */
};

static bool get_room(cprof__thread *thread, size_t depth, struct room *room)
{
    size_t native = depth * NATIVE_PER_FRAME + NATIVE_EXTRA;
    size_t vm = (depth + 1) * sizeof(cprof_vm_frame) / sizeof(uint64_t);
    size_t words = depth + 2 + 2 * native + vm;
    if (thread->scratch_words < words) {
        uint64_t *scratch = cprof__realloc(thread->scratch, words * sizeof *scratch);
        if (!scratch)
            return false;
        thread->scratch = scratch;
        thread->scratch_words = words;
    }
    room->frames = thread->scratch;
    room->pcs = room->frames + depth + 2;
    room->starts = room->pcs + native;
    room->native_max = native;
    room->vm_frames = (cprof_vm_frame *)(room->starts + native);
    return true;
}

static const char *remark(const cprof__merged *merged, cprof__walk_end end)
{
    if (merged->cut || end == CPROF__WALK_FULL)
        return "[truncated]";
    return end == CPROF__WALK_ROOT ? NULL : "[unwinding stopped]";
}

/* A stack that ends early says so in its last frame. The remarks' addresses are looked up once. */
static bool add_remark(cprof__merged *merged, cprof__walk_end end)
{
    static _Atomic uint64_t truncated, stopped;
    const char *text = remark(merged, end);
    if (!text)
        return true;
    _Atomic uint64_t *cached = text[1] == 't' ? &truncated : &stopped;
    uint64_t address = atomic_load_explicit(cached, memory_order_relaxed);
    if (!address) {
        address = cprof__vmcode_special(text);
        atomic_store_explicit(cached, address, memory_order_relaxed);
    }
    merged->frames[merged->count++] = address;
    return address != 0;
}

static void merge(cprof__thread *thread, cprof_vm_state *state, void *running, struct room *room,
                  size_t count, cprof__merged *merged)
{
    for (size_t i = 0; i < count; i++)
        room->starts[i] = cprof__code_function_start(room->pcs[i]);
    cprof_vm_native native = {room->pcs, room->starts, count};
    cprof__vm_merge(thread, state, running, &native, 0, room->vm_frames, merged->max + 1, merged);
}

uint32_t cprof__capture(const cprof__regs *regs, cprof_vm_state *state, void *running, int skip)
{
    cprof__thread *thread = cprof__thread_self();
    size_t depth = (size_t)atomic_load_explicit(&depth_max, memory_order_relaxed);
    struct room room;
    if (!thread || !get_room(thread, depth, &room))
        return 0;
    cprof__walk_end end;
    cprof__merged merged = {room.frames, 0, depth, false};
    if (state || atomic_load_explicit(&thread->vm_states, memory_order_relaxed) > 0) {
        size_t count = cprof__code_capture(regs, room.pcs, room.native_max, &end);
        merge(thread, state, running, &room, count, &merged);
    } else {
        merged.count = cprof__code_capture(regs, room.frames, depth, &end);
    }
    if (!add_remark(&merged, end))
        return 0;
    return cprof__stacks_intern(merged.frames, (uint32_t)merged.count, (uint32_t)skip);
}
