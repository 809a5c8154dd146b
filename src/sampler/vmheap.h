/* SPDX-License-Identifier: MIT
 *
 * The stacks of sampled allocations (heap.h) on threads that run a VM: as for CPU samples the native frames now,
 * those of the VM at the next safepoint, for in the middle of an allocation its own records may be half done. Where a
 * native function that the VM called allocates, the VM is whole, and its frames are taken at once.
 */
#ifndef CPROF_SAMPLER_VMHEAP_H
#define CPROF_SAMPLER_VMHEAP_H

#include "core/vm.h"
#include "sampler/heap.h"

/* Tickets of ours begin with this instead of a thread's number. */
#define CPROF__HEAP_TICKET UINT32_C(0xfffffffe)

/* Records BLOCK with weight and labels of B. REGS are those of the function that was called to allocate it. STATE:
 * whose own allocator tells; NULL: none's. Inside (cprof__heap_enter). */
void cprof__vmheap_record(const void *block, cprof__heap_block *b, const cprof__regs *regs,
                          cprof_vm_state *state);

/* The safepoint NUMBER of cprof_vm_safepoint. */
void cprof__vmheap_safepoint(cprof_vm_state *state, uint32_t number, void *running, int level);

/* Of the allocations whose VM frames were asked for, how many never got them. */
int64_t cprof__vmheap_unresolved(void);
void cprof__vmheap_forget(void);

#endif
