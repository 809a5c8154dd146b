/* SPDX-License-Identifier: MIT
 *
 * The part of the sampler's handler that deals with VMs: whether one runs on the native stack that was just walked,
 * what it does, and asking it for a safepoint. While a VM is where it was at the last request, that one serves.
 * Threads: the one that was interrupted. Signals: safe.
 */
#define _GNU_SOURCE
#include "sampler/vmsignal.h"
#include "core/code.h"
#include "sampler/safepoint.h"
#include "sigsafe/current.h"
#include "sigsafe/fault.h"
#include "sigsafe/load.h"
#include "sigsafe/step.h"

#include <string.h>
#include <ucontext.h>

/* So deep a VM's frames are looked for. */
#define FRAMES_MAX 64

static int load_guarded(uint64_t address, uint64_t *word)
{
    return address && !(address & 7) && cprof__fault_load(address, word);
}

/* Where the host has taken the signals of faults for itself: through the kernel, but for the thread's own stack. */
static int load_slowly(uint64_t address, uint64_t *word)
{
    if (!address || (address & 7))
        return 0;
    if (address >= (uint64_t)(uintptr_t)__builtin_frame_address(0) && address >= cprof__current.stack_low &&
        address < cprof__current.stack_high) {
        *word = cprof__stack_word(address);
        return 1;
    }
    return cprof__load_bytes(address, word, sizeof *word);
}

/* Walks once more, to FRAME: samples need the stack pointer of one frame alone. */
static uint64_t frame_sp(const cprof_vm_signal *signal, size_t frame)
{
    const greg_t *registers = ((const ucontext_t *)signal->context)->uc_mcontext.gregs;
    cprof__regs regs = {(uint64_t)registers[REG_RIP], (uint64_t)registers[REG_RSP],
                        (uint64_t)registers[REG_RBP]};
    bool known = signal->stack_high != 0, transient;
    const cprof__walk_memory memory = {known ? cprof__current.stack_low : 0, signal->stack_high,
                                       signal->load == load_guarded};
    uint64_t pcs[FRAMES_MAX];
    cprof__walk_end end;
    if (frame >= FRAMES_MAX)
        return 0;
    size_t count = cprof__walk(cprof__code_current(), &regs, &memory, pcs, frame + 1, &end, &transient);
    return count == frame + 1 ? regs.sp : 0;
}

/* The kind of VM that runs innermost: the first whose API is on the stack, AT that frame. */
static const cprof__vm_kind *innermost(const cprof__sample *sample, size_t *at)
{
    const cprof__vm_kind *kind = NULL;
    for (*at = 0; *at < sample->count; ++*at)
        if ((kind = cprof__vm_kind_of_api(cprof__code_function_start(sample->pcs[*at]))) != NULL)
            break;
    return kind;
}

/* Where the walk ended in code that was compiled at run time, or got lost in a VM's own: which VM's it is, and the rest
 * of the stack. */
static void go_outward(cprof__sample *sample, const cprof__vm_kind **kind, const cprof_vm_signal *signal,
                       bool guarded)
{
    for (uint32_t i = 0; cprof__vm_kind_at(i); i++) {
        const cprof_vm *vm = cprof__vm_kind_at(i)->vm;
        uint64_t found[3] = {0};
        size_t kept = vm->outward ? vm->outward(signal, found) : 0;
        if (!kept || kept >= CPROF__SAMPLE_PCS_MAX)
            continue;
        cprof__regs regs = {found[0], found[1], found[2]};
        const cprof__walk_memory memory = {0, 0, guarded};
        cprof__walk_end end;
        bool transient;
        size_t more = cprof__walk(cprof__code_current(), &regs, &memory, sample->pcs + kept,
                                  CPROF__SAMPLE_PCS_MAX - kept, &end, &transient);
        sample->count = kept + more;
        sample->end = (uint16_t)end;
        *kind = cprof__vm_kind_at(i);
        return;
    }
}

/* Whether there is a VM that can tell where it was entered. */
static bool goes_outward(void)
{
    const cprof__vm_kind *kind = NULL;
    for (uint32_t i = 0; (kind = cprof__vm_kind_at(i)) != NULL && !kind->vm->outward; i++) {}
    return kind != NULL;
}

/* Finalizers come one after the other while no safepoint can: what counts of them is who was interrupted by the
 * collector. */
static bool same_collection(const cprof_vm *vm, const cprof_vm_moment *a, const cprof_vm_moment *b)
{
    return a->activity && a->activity == b->activity && a->callers[0] &&
           strcmp(vm->activities[a->activity - 1], "gc") == 0 &&
           memcmp(a->callers, b->callers, sizeof a->callers) == 0;
}

bool cprof__vm_same_moment(const cprof_vm *vm, const cprof_vm_moment *a, const cprof_vm_moment *b)
{
    return a->state == b->state && a->running == b->running &&
           ((a->entry == b->entry && memcmp(a->place, b->place, sizeof a->place) == 0) ||
            same_collection(vm, a, b));
}

/* The number of the safepoint to come. Where the VM runs its own code it should have been there already, so it is
 * asked once more. */
uint32_t cprof__vm_request(cprof__asking *a, uint32_t index, const cprof_vm *vm,
                           const cprof_vm_moment *moment)
{
    if (a->is_asked && cprof__vm_same_moment(vm, &a->asked, moment)) {
        if (!moment->entry)
            (void)vm->request(moment, (uint64_t)index << 32 | a->requests);
        return a->requests;
    }
    uint32_t number = a->requests + 1 ? a->requests + 1 : 1;
    int answer = vm->request ? vm->request(moment, (uint64_t)index << 32 | number) : 0;
    if (answer != 1)
        return answer == CPROF_VM_SERVED && a->is_asked ? a->requests : 0;
    a->requests = number;
    a->asked = *moment;
    a->is_asked = true;
    return number;
}

bool cprof__vm_look(cprof__sample *sample, const void *context, uint64_t stack_high, const void *last,
                    cprof_vm_moment *moment, size_t *entered)
{
    const cprof__vm_kind *kind = innermost(sample, entered);
    if (!kind && !goes_outward())
        return false;
    bool guarded = cprof__fault_guarded_now();
    const cprof_vm_signal signal = {context,
                                    sample->pcs,
                                    sample->count,
                                    *entered,
                                    stack_high,
                                    cprof__code_function_start,
                                    guarded ? load_guarded : load_slowly,
                                    frame_sp,
                                    last};
    if (!kind || kind->vm->outward || sample->end == CPROF__WALK_UNKNOWN || sample->end == CPROF__WALK_BROKEN)
        go_outward(sample, &kind, &signal, guarded);
    if (!kind)
        return false;
    sample->vm = kind->vm;
    if (!kind->vm->look || !kind->vm->look(&signal, moment))
        return false;
    sample->entry = moment->entry;
    sample->activity = moment->activity;
    return true;
}

void cprof__vm_signal(cprof__sampled *sampled, cprof__sample *sample, const void *context,
                      uint64_t stack_high)
{
    cprof__tracked *t = (cprof__tracked *)sampled;
    cprof_vm_moment moment = {0};
    size_t entered;
    if (cprof__vm_look(sample, context, stack_high, t->asking.asked.running, &moment, &entered))
        sample->request = cprof__vm_request(&t->asking, sampled->index, sample->vm, &moment);
}
