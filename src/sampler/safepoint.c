/* SPDX-License-Identifier: MIT
 *
 * See safepoint.h. A VM calls cprof_vm_safepoint (cprof_vm.h) on the thread that was sampled, in no handler.
 */
#define _GNU_SOURCE
#include "sampler/safepoint.h"

#include "base/alloc.h"
#include "base/thread.h"
#include "core/capture.h"
#include "core/code.h"
#include "core/labels.h"
#include "core/stacks.h"
#include "sampler/vmheap.h"

#include <string.h>
#include <unistd.h>

#define HEAD_WORDS 2 /* the record's, request | labels */
#define ENTRY_BITS 56

/* The stack that a thread's states run on, for finding the outer ones. */
#define NATIVE_MAX 512
#define FRAMES_MAX CPROF__STACK_DEPTH_MAX

typedef struct writer {
    cprof__asking *asking;
    uint64_t *words; /* what is written to */
    size_t count, max;
    bool cut;
} writer;

/* A segment's head: the kind, how many frames. Then the frames. */
static size_t write_segment(writer *w, const cprof__vm_kind *kind, const cprof_vm_frame *list, size_t count)
{
    if (w->count + 2 > w->max)
        return 0;
    size_t room = (w->max - w->count - 2) / 2;
    if (count > room) {
        count = room;
        w->cut = true;
    }
    w->words[w->count++] = (uint64_t)(uintptr_t)kind;
    w->words[w->count++] = count;
    for (size_t i = 0; i < count; i++) {
        w->words[w->count++] = list[i].address;
        w->words[w->count++] = (uint64_t)list[i].flags << ENTRY_BITS | list[i].entry;
    }
    return count;
}

/* The frames of STATE, of which the innermost LEVEL are left out. */
static size_t walk_state(writer *w, cprof_vm_state *state, void *running, const cprof_vm_native *native,
                         int level, const cprof_vm_frame **out)
{
    cprof__asking *a = w->asking;
    int truncated = 0;
    const cprof_vm *vm = cprof__vm_kind_of(state)->vm;
    size_t max = cprof__capture_depth() + (size_t)(level > 0 ? level : 0);
    size_t count = vm->walk(cprof__vm_state_of(state), running, native, a->scratch,
                            max < a->scratch_max ? max : a->scratch_max, &truncated);
    size_t leave_out = (size_t)level < count ? (size_t)level : count;
    w->cut |= truncated != 0;
    *out = a->scratch + leave_out;
    return count - leave_out;
}

/* What ran at the moment of the request and has ended by now gets its place back before the *COUNT frames of LIST,
 * which lie in the scratch. */
static const cprof_vm_frame *put_back(cprof__asking *a, cprof_vm_state *state, void *running,
                                      const cprof_vm_frame *list, size_t *count)
{
    const cprof_vm *vm = cprof__vm_kind_of(state)->vm;
    uint64_t entry = a->asked.entry;
    cprof_vm_frame ended[CPROF_VM_ENDED_MAX];
    if (!vm->ended || *count == 0 || (entry && list[0].entry == entry))
        return list;
    size_t more = vm->ended(cprof__vm_state_of(state), running, entry, ended);
    if (more == 0)
        return list;
    *count = *count < a->scratch_max - more ? *count : a->scratch_max - more;
    memmove(a->scratch + more, list, *count * sizeof *list);
    memcpy(a->scratch, ended, more * sizeof *ended);
    *count += more;
    return a->scratch;
}

/* Where the thread has several states, those that run further out. */
static __attribute__((noinline)) void write_outer(writer *w, cprof__thread *self, const cprof_vm_state *state,
                                                  const cprof_vm_frame *list, size_t count)
{
    uint64_t pcs[NATIVE_MAX], starts[NATIVE_MAX];
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    cprof_vm_native native = {pcs, starts, cprof__code_capture(&regs, pcs, NATIVE_MAX, NULL)};
    for (size_t i = 0; i < native.count; i++)
        starts[i] = cprof__code_function_start(pcs[i]);
    cprof__merged nowhere = {NULL, 0, 0, false};
    size_t from = cprof__merge_state(&nowhere, &native, 0, &cprof__vm_kind_of(state)->api, list, count, true);
    for (int i = 1; i < CPROF__SEGMENTS_MAX && from < native.count; i++) {
        cprof_vm_state *outer = cprof__vm_running(self, state, &native, from);
        if (!outer)
            return;
        cprof_vm_native rest = {pcs + from, starts + from, native.count - from};
        const cprof_vm_frame *found;
        size_t found_count = walk_state(w, outer, NULL, &rest, 0, &found);
        write_segment(w, cprof__vm_kind_of(outer), found, found_count);
        from = cprof__merge_state(&nowhere, &native, from, &cprof__vm_kind_of(outer)->api, found, found_count,
                                  false);
        state = outer;
    }
}

static bool make_scratch(cprof__asking *a)
{
    if (!a->scratch) {
        a->scratch = cprof__malloc(FRAMES_MAX * sizeof *a->scratch);
        a->scratch_max = a->scratch ? FRAMES_MAX : 0;
    }
    return a->scratch;
}

size_t cprof__safepoint_write(cprof__asking *asking, cprof_vm_state *state, void *running, int level,
                              uint64_t *(*reserve)(void *context, size_t words), void *context)
{
    cprof__thread *self = cprof__thread_self();
    const cprof__vm_kind *kind = cprof__vm_kind_of(state);
    if (!self || !make_scratch(asking))
        return 0;
    const cprof_labels *labels =
        kind->vm->labels ? kind->vm->labels(cprof__vm_state_of(state), running) : NULL;
    const cprof_vm_frame *list = NULL;
    writer w = {asking, NULL, HEAD_WORDS, 0, false};
    size_t count = level < 0 ? 0 : walk_state(&w, state, running, NULL, level, &list);
    list = put_back(asking, state, running, list, &count);
    w.max = HEAD_WORDS + (2 + count * 2) * (self->vm_states > 1 ? 2 : 1);
    w.words = reserve(context, w.max);
    if (!w.words)
        return 0;
    if (count) {
        size_t written = write_segment(&w, kind, list, count);
        if (self->vm_states > 1)
            write_outer(&w, self, state, list, written);
    }
    w.words[0] = cprof__record_head(CPROF__RECORD_VM, w.count);
    w.words[1] = (uint64_t)cprof__labels_number(labels) << 32 | asking->requests;
    if (w.cut)
        w.words[1] |= UINT64_C(1) << 63;
    return w.count;
}

static uint64_t *reserve_in_ring(void *ring, size_t words)
{
    return cprof__ring_reserve(ring, words);
}

static void write_frames(cprof__tracked *t, cprof_vm_state *state, void *running, int level)
{
    size_t words =
        cprof__safepoint_write(&t->asking, state, running, level, reserve_in_ring, &t->sampled.ring);
    if (words)
        cprof__ring_commit(&t->sampled.ring, words);
}

void cprof_vm_safepoint(cprof_vm_state *state, uint64_t ticket, void *running, int level)
{
    if (ticket >> 32 == CPROF__HEAP_TICKET) {
        cprof__vmheap_safepoint(state, (uint32_t)ticket, running, level);
        return;
    }
    cprof__tracked *t = (cprof__tracked *)cprof__handler_find((uint32_t)(ticket >> 32));
    if (!t || !cprof__handler_is_own(&t->sampled) || !cprof__gate_close(&t->sampled.gate))
        return;
    if (t->asking.is_asked && t->asking.requests == (uint32_t)ticket) {
        /* An error may be thrown over us from in there: the handler opens the gate then. */
        atomic_store_explicit(&t->sampled.holder, (uint64_t)(uintptr_t)__builtin_frame_address(0),
                              memory_order_relaxed);
        t->asking.is_asked = false;
        cprof_vm_adopt(state);
        write_frames(t, state, running, level);
        atomic_store_explicit(&t->sampled.holder, 0, memory_order_relaxed);
    }
    cprof__gate_open(&t->sampled.gate);
}

void cprof__safepoint_read(const uint64_t *record, cprof_vm_frame *scratch, size_t scratch_max,
                           cprof__vm_frames *vm, uint32_t *request, uint32_t *labels)
{
    size_t words = (uint32_t)record[0], at = HEAD_WORDS, used = 0;
    *request = (uint32_t)record[1];
    *labels = (uint32_t)(record[1] >> 32) & 0x7fffffff;
    *vm = (cprof__vm_frames){.cut = record[1] >> 63};
    while (at < words && vm->count < CPROF__SEGMENTS_MAX) {
        cprof__segment_frames *segment = &vm->segments[vm->count++];
        size_t count = record[at + 1];
        *segment = (cprof__segment_frames){(const void *)(uintptr_t)record[at], scratch + used, 0};
        at += 2;
        for (; count > 0 && used < scratch_max; count--, at += 2) {
            uint64_t entry = record[at + 1];
            scratch[used++] = (cprof_vm_frame){record[at], entry & ((UINT64_C(1) << ENTRY_BITS) - 1),
                                               (uint32_t)(entry >> ENTRY_BITS)};
            segment->count++;
        }
        at += count * 2;
    }
}
