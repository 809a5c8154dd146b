/* SPDX-License-Identifier: MIT
 *
 * What cprof keeps for each thread, behind one initial-exec pointer: made at first use, freed when the thread
 * ends.
 */
#ifndef CPROF_BASE_THREAD_H
#define CPROF_BASE_THREAD_H

#include "cprof.h"

#include <stddef.h>
#include <stdint.h>

#define CPROF__ERROR_TEXT_MAX 512

typedef struct cprof__thread {
    uint64_t stack_low, stack_high; /* the thread's stack; 0, 0 where the system does not tell */
    int error_code, error_errno;    /* written by base/error.c */
    char error_text[CPROF__ERROR_TEXT_MAX];
    void *capture; /* core/capture.c's: one block, freed with the thread */
    int vm_states; /* core/vm.c's: how many VM states this thread owns, or more; its own to read and write */
    uint32_t serial; /* unique among threads, never 0 */
} cprof__thread;

/* The calling thread's record, or NULL where memory ran out (no error is recorded).
 * Threads: any. Signals: unsafe. */
cprof__thread *cprof__thread_self(void);

/* The same, but NULL where none was made yet. Signals: safe. */
cprof__thread *cprof__thread_peek(void);

/* What the calling thread allocates until _end_quiet is cprof's own: heap profiles leave it out. They nest. */
CPROF_API void cprof__thread_begin_quiet(void);
CPROF_API void cprof__thread_end_quiet(void);

#endif
