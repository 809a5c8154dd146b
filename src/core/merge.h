/* SPDX-License-Identifier: MIT
 *
 * Weaves the frames of a VM into the native frames beneath them, so that one stack tells both.
 *
 * Going outward, each native function that the VM called (a VM frame with an entry) is found in the native
 * stack by the start of its function. Between two of them lie, in this order: the VM's own frames, up to and
 * including those of the API function through which native code entered the VM (not shown); then helper
 * functions of the native function that called it (shown, but for those of the runtime's own library); then
 * that function itself. Works on stripped programs, since it compares addresses and no names.
 *
 * Threads: any. Signals: safe (no lock, no allocation).
 */
#ifndef CPROF_CORE_MERGE_H
#define CPROF_CORE_MERGE_H

#include "cprof_vm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a stack is built: at most MAX frames; what comes later only sets CUT. */
typedef struct cprof__merged {
    uint64_t *frames;
    size_t count, max;
    bool cut;
} cprof__merged;

/* The API functions of a VM, and its interpreter where that is known to be one, as an open-addressing set of
 * addresses. */
typedef struct cprof__entry_set {
    uint64_t *slots; /* 0: free */
    uint32_t mask;
    uint64_t interpreter;       /* 0: not known, or none that matters */
    uint64_t own_low, own_high; /* the file that holds the VM and nothing else; 0, 0: not known */
} cprof__entry_set;

static inline bool cprof__entry_set_has(const cprof__entry_set *set, uint64_t start)
{
    if (!start)
        return false;
    uint32_t i = (uint32_t)(start >> 4) & set->mask;
    for (; set->slots[i]; i = (i + 1) & set->mask)
        if (set->slots[i] == start)
            return true;
    return false;
}

void cprof__merge_push(cprof__merged *merged, uint64_t frame);

/* The place in NATIVE, from FROM on, of the function that starts at ENTRY; NATIVE->count where it is not
 * there. */
size_t cprof__merge_find(const cprof_vm_native *native, size_t from, uint64_t entry);

/* Appends the COUNT frames of one VM state, woven into NATIVE from place FROM, to MERGED. LEAVE_OUT_HELPERS:
 * native frames before the first VM frame's own are not shown (they are ours). Returns: the place in NATIVE
 * after the API function through which the state was entered; native->count where it was not found. */
size_t cprof__merge_state(cprof__merged *merged, const cprof_vm_native *native, size_t from,
                          const cprof__entry_set *api, const cprof_vm_frame *frames, size_t count,
                          bool leave_out_helpers);

#endif
