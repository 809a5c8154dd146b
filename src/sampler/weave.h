/* SPDX-License-Identifier: MIT
 *
 * Makes one stack of a sample's native frames, taken in the signal, and the VM frames taken at the safepoint that
 * followed. Takes CPROF__RANK_STACKS, _FUNCTIONS. Threads: one at a time a room. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_WEAVE_H
#define CPROF_SAMPLER_WEAVE_H

#include "core/stacks.h"
#include "core/vm.h"
#include "sigsafe/handler.h"

#define CPROF__SEGMENTS_MAX 8

/* The frames of one VM state, of those that run on one native stack. */
typedef struct cprof__segment_frames {
    const cprof__vm_kind *kind;
    const cprof_vm_frame *frames;
    size_t count;
} cprof__segment_frames;

/* What a safepoint told: the innermost state first. */
typedef struct cprof__vm_frames {
    cprof__segment_frames segments[CPROF__SEGMENTS_MAX];
    size_t count;
    bool cut;
} cprof__vm_frames;

/* Room to work in. */
typedef struct cprof__weaving {
    uint64_t starts[CPROF__SAMPLE_PCS_MAX];
    uint64_t frames[CPROF__STACK_DEPTH_MAX + 2];
} cprof__weaving;

/* The number of SAMPLE's stack, or 0 where memory ran out. VM is NULL where no safepoint told. *UNRESOLVED gets
 * whether VM frames are missing. */
uint32_t cprof__weave(cprof__weaving *w, const cprof__sample *sample, const cprof__vm_frames *vm,
                      bool *unresolved);

#endif
