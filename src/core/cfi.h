/* SPDX-License-Identifier: MIT
 *
 * Runs the call frame instructions of one function (DWARF 5, section 6.4.2; System V ABI AMD64, section 3.7)
 * and tells the rule of each stretch of it. Registers that no rule mentions are read past. Threads: any.
 * Signals: unsafe.
 */
#ifndef CPROF_CORE_CFI_H
#define CPROF_CORE_CFI_H

#include "core/cursor.h"
#include "sigsafe/rows.h"

/* What a function's common entry (CIE) says for it. */
typedef struct cprof__cfi_common {
    uint64_t code_align;
    int64_t data_align;
    uint8_t pointer_encoding; /* DW_EH_PE of the function's addresses */
    bool has_augmentation;    /* its entry has augmentation data to skip */
    bool is_signal;           /* the frame of a signal trampoline */
    cprof__cursor initial;    /* the instructions that come before its own */
} cprof__cfi_common;

/* Gets each change of rule: RULE holds from ADDRESS on. Rising. Returns false to stop. */
typedef bool (*cprof__cfi_row_fn)(void *context, uint64_t address, cprof__rule rule);

/* Runs COMMON's instructions and then OWN for the function at START, and tells ROW. Instructions that make no
 * sense end the known part: the rest of the function gets CPROF__RULE_UNSUPPORTED. Returns false where ROW
 * stopped it. */
bool cprof__cfi_run(const cprof__cfi_common *common, cprof__cursor own, uint64_t start, cprof__cfi_row_fn row,
                    void *context);

#endif
