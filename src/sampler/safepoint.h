/* SPDX-License-Identifier: MIT
 *
 * What a safepoint tells, as it lies in the ring: who asked, the labels, then for each VM state its kind and frames,
 * two words each (address; entry with the flags in its upper bits). Read back by the collector.
 */
#ifndef CPROF_SAMPLER_SAFEPOINT_H
#define CPROF_SAMPLER_SAFEPOINT_H

#include "sampler/threads.h"
#include "sampler/weave.h"

/* The frames in RECORD, of which the VM frames go to SCRATCH, with room for SCRATCH_MAX. *REQUEST and *LABELS get who
 * asked and the number of the labels. */
void cprof__safepoint_read(const uint64_t *record, cprof_vm_frame *scratch, size_t scratch_max,
                           cprof__vm_frames *vm, uint32_t *request, uint32_t *labels);

/* Of a cprof__vm_signal_fn (sigsafe/handler.h). Signals: safe. */
void cprof__vm_signal(cprof__sampled *sampled, cprof__sample *sample, const void *context,
                      uint64_t stack_high);

#endif
