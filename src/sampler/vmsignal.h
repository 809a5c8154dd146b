/* SPDX-License-Identifier: MIT
 *
 * What VM runs on a native stack that was just walked, what it does, and asking it for a safepoint. Threads: the one
 * whose stack it is. Signals: safe.
 */
#ifndef CPROF_SAMPLER_VMSIGNAL_H
#define CPROF_SAMPLER_VMSIGNAL_H

#include "sampler/threads.h"

/* Of a cprof__vm_signal_fn (sigsafe/handler.h). Signals: safe. */
void cprof__vm_signal(cprof__sampled *sampled, cprof__sample *sample, const void *context,
                      uint64_t stack_high);

/* Looks at SAMPLE's stack, of which CONTEXT (a ucontext_t) has the registers: sets its vm, entry and activity, and
 * may add to its pcs. LAST as in cprof_vm_signal. *ENTERED gets the place of the first frame that is an API function
 * of a VM. Returns: whether a state runs there; then *MOMENT is filled. */
bool cprof__vm_look(cprof__sample *sample, const void *context, uint64_t stack_high, const void *last,
                    cprof_vm_moment *moment, size_t *entered);

/* Asks for a safepoint for MOMENT, whose ticket begins with INDEX. Returns: its number; 0: there will be none. */
uint32_t cprof__vm_request(cprof__asking *asking, uint32_t index, const cprof_vm *vm,
                           const cprof_vm_moment *moment);

/* Whether one safepoint tells of both. */
bool cprof__vm_same_moment(const cprof_vm *vm, const cprof_vm_moment *a, const cprof_vm_moment *b);

#endif
