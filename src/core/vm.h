/* SPDX-License-Identifier: MIT
 *
 * The states of virtual machines that are attached, and the stacks of threads that run them. The public calls
 * are in cprof_vm.h. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_VM_H
#define CPROF_CORE_VM_H

#include "base/thread.h"
#include "core/merge.h"

/* Keys of states have the top bit, then the state's number, then a count. No pointer of user space looks like
 * that. */
#define CPROF__VM_KEY_BIT (UINT64_C(1) << 63)
#define CPROF__VM_KEY_COUNT_BITS 37

/* Ends STATE but for its entries (core/registry.c removes those). Threads: the owner. */
void cprof__vm_forget(cprof_vm_state *state);

/* KEY of STATE as a key of profiles. Threads: the owner. */
uint64_t cprof__vm_key(const cprof_vm_state *state, uint64_t key);

/* Weaves the frames of the states that THREAD (the calling one) owns into NATIVE from FROM on and appends all
 * to MERGED. STATE, RUNNING: known to run, its innermost frame being the function that called cprof; NULL,
 * NULL otherwise. SCRATCH has room for SCRATCH_MAX VM frames. *LABELS gets those of the innermost VM thread,
 * where there is one. Takes CPROF__RANK_VM. */
void cprof__vm_merge(cprof__thread *thread, cprof_vm_state *state, void *running,
                     const cprof_vm_native *native, size_t from, cprof_vm_frame *scratch, size_t scratch_max,
                     cprof__merged *merged, const cprof_labels **labels);

/* A kind of VM that was ever attached, with the set of its API functions. Lives for ever. */
typedef struct cprof__vm_kind {
    const cprof_vm *vm;
    cprof__entry_set api;
} cprof__vm_kind;

#define CPROF__VM_KINDS_MAX 16u

/* The kind with NUMBER, from 0 up; NULL past the last one. Signals: safe. */
const cprof__vm_kind *cprof__vm_kind_at(uint32_t number);

/* The kind with an API function that starts at START, or NULL. Signals: safe. */
const cprof__vm_kind *cprof__vm_kind_of_api(uint64_t start);

/* The kind of STATE, and what was attached. */
const cprof__vm_kind *cprof__vm_kind_of(const cprof_vm_state *state);
void *cprof__vm_state_of(const cprof_vm_state *state);

/* Something that somebody further up keeps for a state: the owner's to read and write; FREE is called when it ends. */
typedef struct cprof__vm_kept {
    void *data;
    void (*free)(void *data);
} cprof__vm_kept;
cprof__vm_kept *cprof__vm_heap_of(cprof_vm_state *state);

/* The state of THREAD (the calling one) that was attached as STATE, or NULL. Takes CPROF__RANK_VM. */
cprof_vm_state *cprof__vm_find(const cprof__thread *thread, const void *state);

/* Among the states of THREAD (the calling one) but for EXCEPT, the one whose innermost frame is the next one outward
 * in NATIVE from FROM: it runs there. NULL where none runs there. Takes CPROF__RANK_VM. */
cprof_vm_state *cprof__vm_running(cprof__thread *thread, const cprof_vm_state *except,
                                  const cprof_vm_native *native, size_t from);

#endif
