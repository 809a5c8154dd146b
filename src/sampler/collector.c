/* SPDX-License-Identifier: MIT
 *
 * See collector.h. A sample of code without a VM is credited at once. One that waits for a safepoint is put aside
 * until the safepoint's record comes, which is later in the same ring; equal ones are put aside together, since a C
 * function that runs for long under one Lua stack is sampled often.
 */
#define _GNU_SOURCE
#include "sampler/collector.h"

#include "base/alloc.h"
#include "core/labels.h"
#include "core/stacks.h"
#include "core/vmcode.h"
#include "sampler/safepoint.h"
#include "sampler/weave.h"

#include <string.h>

#define WAITING_MAX 4096u
#define COMPARED_MAX 16u /* with so many of the last ones a new one is compared */

typedef struct cprof__waiting {
    cprof__sample *sample; /* a copy */
    uint64_t weight_ns, at_ns;
    uint32_t count;
    uint32_t beginnings; /* as below, when it came */
} waiting;

/* How many recordings have begun. What came before one is not put together with what comes after: of it the recording
 * has nothing. Under the sampler's lock. */
static uint32_t beginnings;

static void deliver(cprof_recording *recordings, enum cprof__source source, const cprof__credit *credit)
{
    for (cprof_recording *r = recordings; r; r = r->next)
        if (r->running && r->source == source)
            cprof__recording_credit(r, credit);
}

/* The label that says what the VM was doing. Found once for each activity, under the sampler's lock. */
static uint32_t activity_label(const cprof__sample *sample)
{
    static struct known {
        const char *name;
        uint32_t number;
    } known[16];
    const cprof_vm *vm = sample->vm;
    if (!sample->activity || !vm->activities)
        return 0;
    const char *name = vm->activities[sample->activity - 1];
    size_t i = 0;
    while (i < sizeof known / sizeof known[0] && known[i].name && known[i].name != name)
        i++;
    if (i == sizeof known / sizeof known[0])
        return 0;
    if (!known[i].name) {
        const cprof_label label = {"vm", name, 0, NULL};
        const cprof_labels *set;
        if (cprof_labels_intern(&label, 1, &set) != 0)
            return 0;
        known[i] = (struct known){name, cprof__labels_number(set)};
    }
    return known[i].number;
}

/* LABELS and, outside them, MORE. Where memory runs out, LABELS alone. */
static uint32_t join(uint32_t labels, uint32_t more)
{
    uint32_t joined = cprof__labels_join(labels, more);
    return joined != CPROF__LABELS_FAILED ? joined : labels;
}

/* The labels of a sample: the VM's, the thread's, and what the VM was doing. */
static uint32_t labels_of(const cprof__sample *sample, uint32_t vm_labels)
{
    return join(join(vm_labels, sample->labels), activity_label(sample));
}

static cprof__credit credit_of(const cprof__tracked *t, const waiting *w, const cprof__vm_frames *vm,
                               uint32_t vm_labels)
{
    cprof__credit credit = {.thread = t, .at_ns = w->at_ns, .weight_ns = w->weight_ns, .count = w->count};
    static cprof__weaving room; /* under the sampler's lock */
    credit.stack = cprof__weave(&room, w->sample, vm, &credit.unresolved);
    credit.labels = labels_of(w->sample, vm_labels);
    return credit;
}

static void credit_sample(cprof__tracked *t, cprof_recording *recordings, const waiting *w,
                          const cprof__vm_frames *vm, uint32_t vm_labels)
{
    const cprof__credit credit = credit_of(t, w, vm, vm_labels);
    deliver(recordings, (enum cprof__source)w->sample->source, &credit);
}

/* ---- Samples that wait ---- */

static bool same_sample(const cprof__sample *a, const cprof__sample *b)
{
    return a->request == b->request && a->count == b->count && a->entry == b->entry &&
           a->labels == b->labels && a->activity == b->activity && a->source == b->source &&
           memcmp(a->pcs, b->pcs, a->count * sizeof *a->pcs) == 0;
}

static bool put_aside(cprof__tracked *t, const cprof__sample *sample)
{
    for (uint32_t i = 0; i < COMPARED_MAX && i < t->waiting_count; i++) {
        waiting *w = &t->waiting[t->waiting_count - 1 - i];
        if (w->beginnings == beginnings && same_sample(w->sample, sample)) {
            w->weight_ns += sample->weight_ns;
            w->at_ns = sample->at_ns;
            w->count++;
            return true;
        }
    }
    if (t->waiting_count == t->waiting_room) {
        uint32_t room = t->waiting_room ? t->waiting_room * 2 : 16;
        waiting *grown = room <= WAITING_MAX ? cprof__realloc(t->waiting, room * sizeof *grown) : NULL;
        if (!grown)
            return false;
        t->waiting = grown;
        t->waiting_room = room;
    }
    size_t size = sizeof *sample + sample->count * sizeof *sample->pcs;
    cprof__sample *copy = cprof__malloc(size);
    if (!copy)
        return false;
    memcpy(copy, sample, size);
    t->waiting[t->waiting_count++] = (waiting){copy, sample->weight_ns, sample->at_ns, 1, beginnings};
    return true;
}

/* Those that wait for REQUEST get VM; those of earlier requests, and with ALL every one, get nothing. */
static void settle(cprof__tracked *t, cprof_recording *recordings, uint32_t request,
                   const cprof__vm_frames *vm, uint32_t vm_labels, bool all)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->waiting_count; i++) {
        waiting *w = &t->waiting[i];
        bool told = vm && w->sample->request == request;
        if (!told && !all && (int32_t)(w->sample->request - request) >= 0) {
            t->waiting[kept++] = *w;
            continue;
        }
        credit_sample(t, recordings, w, told ? vm : NULL, told ? vm_labels : 0);
        cprof__free(w->sample);
    }
    t->waiting_count = kept;
}

/* ---- The ring ---- */

static void read_sample(cprof__tracked *t, cprof_recording *recordings, const cprof__sample *sample)
{
    if (sample->request) {
        settle(t, recordings, sample->request, NULL, 0, false);
        if (put_aside(t, sample))
            return;
    }
    const waiting w = {(cprof__sample *)sample, sample->weight_ns, sample->at_ns, 1, beginnings};
    credit_sample(t, recordings, &w, NULL, 0);
}

static void read_vm(cprof__tracked *t, cprof_recording *recordings, const uint64_t *record)
{
    static cprof_vm_frame scratch[CPROF__STACK_DEPTH_MAX * 2]; /* under the sampler's lock */
    cprof__vm_frames vm;
    uint32_t request, labels;
    cprof__safepoint_read(record, scratch, sizeof scratch / sizeof *scratch, &vm, &request, &labels);
    settle(t, recordings, request, &vm, labels, false);
}

/* What the handler found no room for. */
static void read_losses(cprof__tracked *t, cprof_recording *recordings)
{
    for (int i = 0; i < CPROF__SOURCES; i++) {
        uint64_t count = atomic_exchange(&t->sampled.lost_count[i], 0),
                 ns = atomic_exchange(&t->sampled.lost_ns[i], 0);
        uint64_t frame = count ? cprof__vmcode_special("[no room for the stack]") : 0;
        if (!frame)
            continue;
        cprof__credit credit = {.thread = t, .weight_ns = ns, .count = (uint32_t)count, .lost = true};
        credit.at_ns = atomic_load(&t->sampled.events[i].at_ns);
        credit.stack = cprof__stacks_intern(&frame, 1, 0);
        deliver(recordings, (enum cprof__source)i, &credit);
    }
}

void cprof__collect_thread(cprof__tracked *t, cprof_recording *recordings, bool final)
{
    const uint64_t *record;
    atomic_store_explicit(&t->sampled.waking, false, memory_order_relaxed);
    while ((record = cprof__ring_peek(&t->sampled.ring)) != NULL) {
        if (record[0] >> 32 == CPROF__RECORD_SAMPLE)
            read_sample(t, recordings, (const cprof__sample *)record);
        else
            read_vm(t, recordings, record);
        cprof__ring_drop(&t->sampled.ring, record);
    }
    read_losses(t, recordings);
    if (final)
        settle(t, recordings, 0, NULL, 0, true);
}

void cprof__collect(cprof_recording *recordings, bool final)
{
    for (cprof__tracked *t = cprof__threads_first(); t; t = t->next)
        cprof__collect_thread(t, recordings, final);
}

void cprof__collect_beginning(cprof_recording *recordings)
{
    cprof__collect(recordings, false);
    beginnings++;
}

void cprof__collect_ending(cprof_recording *recordings, cprof_recording *ending)
{
    cprof__collect(recordings, false);
    for (cprof__tracked *t = cprof__threads_first(); t; t = t->next)
        for (uint32_t i = 0; i < t->waiting_count; i++) {
            const waiting *w = &t->waiting[i];
            if ((enum cprof__source)w->sample->source != ending->source)
                continue;
            const cprof__credit credit = credit_of(t, w, NULL, 0);
            cprof__recording_credit(ending, &credit);
        }
}
