/* SPDX-License-Identifier: MIT
 *
 * Takes the calling thread's stack, native frames and those of virtual machines in their places, and interns
 * it. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_CAPTURE_H
#define CPROF_CORE_CAPTURE_H

#include "cprof_vm.h"
#include "sigsafe/walk.h"

/* The number (core/stacks.h) of the stack from REGS outward, which a public function took of itself: it is
 * frame 0. For a call out of a VM, STATE and RUNNING say what runs, and the VM's innermost frame is frame 0.
 * SKIP is kept with the stack. *LABELS, the labels of an entry of its own, gets those of what runs joined to
 * it: those of the VM's innermost thread, then those of the calling thread. Returns 0 where memory ran out. */
uint32_t cprof__capture(const cprof__regs *regs, cprof_vm_state *state, void *running, int skip,
                        uint32_t *labels);

/* How many frames of a stack are kept at most (cprof_set_prof_stack_depth). */
size_t cprof__capture_depth(void);

#endif
