/* SPDX-License-Identifier: MIT
 *
 * See vmheap.h. An allocation that waits for a safepoint is there from the beginning, with its native stack; the
 * safepoint moves it to the whole one.
 */
#define _GNU_SOURCE
#include "sampler/vmheap.h"

#include "base/alloc.h"
#include "core/capture.h"
#include "core/code.h"
#include "core/labels.h"
#include "core/stacks.h"
#include "sampler/safepoint.h"
#include "sampler/vmsignal.h"
#include "sigsafe/current.h"

#include <string.h>
#include <ucontext.h>

typedef struct waiting {
    struct waiting *next;
    const void *block;
    cprof__heap_block b;   /* with the labels of its own alone */
    cprof__heap_block now; /* as it was added: with its native stack, and without the VM's labels */
    cprof__sample *sample;
} waiting;

/* Of a VM's state; its owner's. */
typedef struct vmheap {
    cprof__asking asking;
    waiting *list; /* that wait for the safepoint that was asked for last */
    cprof__weaving room;
} vmheap;

static _Atomic int64_t unresolved;

int64_t cprof__vmheap_unresolved(void)
{
    return atomic_load(&unresolved);
}

void cprof__vmheap_forget(void)
{
    atomic_store(&unresolved, 0);
}

/* Those in the list get no VM frames any more. */
static void give_up(vmheap *h)
{
    while (h->list) {
        waiting *w = h->list;
        h->list = w->next;
        atomic_fetch_add(&unresolved, 1);
        cprof__free(w->sample);
        cprof__free(w);
    }
}

static void free_vmheap(void *data)
{
    vmheap *h = data;
    give_up(h);
    cprof__free(h->asking.scratch);
    cprof__free(h);
}

static vmheap *heap_of(cprof_vm_state *state)
{
    cprof__vm_kept *kept = cprof__vm_heap_of(state);
    if (!kept->data) {
        kept->data = cprof__calloc(1, sizeof(vmheap));
        kept->free = free_vmheap;
    }
    return kept->data;
}

/* ---- Looking ---- */

/* The stack outward of the INNER functions that REGS begin with: the one that was called to allocate. */
static cprof__sample *walk(const cprof__regs *regs, size_t inner, cprof__regs *caller)
{
    uint64_t pcs[3];
    const cprof__walk_memory memory = {cprof__current.stack_low, cprof__current.stack_high, false};
    cprof__walk_end end;
    bool transient;
    *caller = *regs;
    if (cprof__walk(cprof__code_current(), caller, &memory, pcs, inner + 1, &end, &transient) > 1)
        caller->pc--; /* into the call */
    cprof__sample *sample = cprof__malloc(sizeof *sample + CPROF__SAMPLE_PCS_MAX * sizeof *sample->pcs);
    if (!sample)
        return NULL;
    memset(sample, 0, sizeof *sample);
    sample->count = cprof__code_capture(caller, sample->pcs, CPROF__SAMPLE_PCS_MAX, &end);
    sample->end = (uint16_t)end;
    return sample;
}

static bool look(cprof__sample *sample, const cprof__regs *caller, const void *last, cprof_vm_moment *moment,
                 size_t *entered)
{
    ucontext_t context;
    memset(&context, 0, sizeof context);
    context.uc_mcontext.gregs[REG_RIP] = (greg_t)caller->pc;
    context.uc_mcontext.gregs[REG_RSP] = (greg_t)caller->sp;
    context.uc_mcontext.gregs[REG_RBP] = (greg_t)caller->fp;
    return cprof__vm_look(sample, &context, cprof__current.stack_high, last, moment, entered);
}

/* Whether a native function that the VM called allocates by itself, and not by the VM's API: then the VM is whole. */
static bool in_native_function(const cprof__sample *sample, const cprof_vm_moment *moment, size_t entered)
{
    for (size_t i = 0; moment->entry && i < sample->count && i < entered; i++)
        if (cprof__code_function_start(sample->pcs[i]) == moment->entry)
            return true;
    return false;
}

/* ---- Recording ---- */

static void join_thread_labels(cprof__heap_block *b, uint32_t of_vm)
{
    uint32_t joined = cprof__labels_join(b->labels, of_vm);
    joined = joined == CPROF__LABELS_FAILED ? b->labels : joined;
    b->labels = cprof__labels_join(joined, cprof__current.labels);
    if (b->labels == CPROF__LABELS_FAILED)
        b->labels = joined;
}

/* Takes SAMPLE over. */
static void ask(const void *block, cprof__heap_block *b, cprof__sample *sample, cprof_vm_state *state,
                const cprof_vm_moment *moment)
{
    bool missing;
    vmheap *h = heap_of(state);
    waiting *w = h ? cprof__malloc(sizeof *w) : NULL;
    if (!w) {
        cprof__free(sample);
        return;
    }
    if (h->list && !(h->asking.is_asked && cprof__vm_same_moment(sample->vm, &h->asking.asked, moment)))
        give_up(h);
    b->stack = cprof__weave(&h->room, sample, NULL, &missing);
    *w = (waiting){h->list, block, *b, *b, sample};
    h->list = w;
    join_thread_labels(&w->now, 0);
    cprof__heap_add(block, &w->now);
    if (!cprof__vm_request(&h->asking, CPROF__HEAP_TICKET, sample->vm, moment))
        give_up(h);
}

void cprof__vmheap_record(const void *block, cprof__heap_block *b, const cprof__regs *regs,
                          cprof_vm_state *state)
{
    cprof__thread *self = cprof__thread_self();
    if (!self || self->vm_states == 0) {
        b->stack = cprof__capture(regs, NULL, NULL, 1, &b->labels);
        cprof__heap_add(block, b);
        return;
    }
    cprof__regs caller;
    cprof_vm_moment moment = {0};
    size_t entered = 0;
    /* A VM's allocator calls cprof_vm_heap_sample. */
    cprof__sample *sample = walk(regs, state ? 2 : 1, &caller);
    if (!sample)
        return;
    const vmheap *h = state ? heap_of(state) : NULL;
    bool runs = look(sample, &caller, h ? h->asking.asked.running : NULL, &moment, &entered);
    cprof_vm_state *running = runs ? cprof__vm_find(self, moment.state) : NULL;
    if (running && (state || !in_native_function(sample, &moment, entered))) {
        ask(block, b, sample, running, &moment);
        return;
    }
    if (running) {
        b->stack = cprof__capture(&caller, NULL, NULL, 0, &b->labels);
    } else {
        b->stack = cprof__stacks_intern(sample->pcs, (uint32_t)sample->count, 0);
        join_thread_labels(b, 0);
    }
    cprof__heap_add(block, b);
    cprof__free(sample);
}

/* ---- Safepoints ---- */

static uint64_t *reserve(void *words, size_t count)
{
    return *(uint64_t **)words = cprof__malloc(count * sizeof(uint64_t));
}

/* All that wait get their stacks, of which RECORD has the VM's frames. */
static void tell(vmheap *h, const uint64_t *record)
{
    cprof__vm_frames vm;
    uint32_t request, labels;
    cprof__safepoint_read(record, h->asking.scratch, h->asking.scratch_max, &vm, &request, &labels);
    while (h->list) {
        waiting *w = h->list;
        bool missing;
        h->list = w->next;
        w->b.stack = cprof__weave(&h->room, w->sample, &vm, &missing);
        join_thread_labels(&w->b, labels);
        if (w->b.stack)
            cprof__heap_move(w->block, &w->now, &w->b);
        if (missing)
            atomic_fetch_add(&unresolved, 1);
        cprof__free(w->sample);
        cprof__free(w);
    }
}

void cprof__vmheap_safepoint(cprof_vm_state *state, uint32_t number, void *running, int level)
{
    vmheap *h = cprof__vm_heap_of(state)->data;
    if (!h || !h->asking.is_asked || h->asking.requests != number || !cprof__heap_enter())
        return;
    uint64_t *words = NULL;
    h->asking.is_asked = false;
    if (cprof__safepoint_write(&h->asking, state, running, level, reserve, &words))
        tell(h, words);
    else
        give_up(h);
    cprof__free(words);
    cprof__heap_leave();
}
