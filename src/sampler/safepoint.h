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

/* Writes such a record, of what runs in STATE with the innermost LEVEL frames left out, to the words that RESERVE
 * returns (NULL: there is no room). ASKING is the calling thread's. Returns: how many words; 0: none. */
size_t cprof__safepoint_write(cprof__asking *asking, cprof_vm_state *state, void *running, int level,
                              uint64_t *(*reserve)(void *context, size_t words), void *context);

#endif
