/* SPDX-License-Identifier: MIT
 *
 * The calling thread's last error: a code, an errno and a text.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_BASE_ERROR_H
#define CPROF_BASE_ERROR_H

#include "cprof.h"

/* Records CODE (a CPROF_E code) with a printf text and returns CODE, so that a function can `return cprof__fail(…)`.
 * Where even the text cannot be kept, the text is cprof_strerror(CODE). */
int cprof__fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a system call that set ERRNUM: CPROF_ENOMEM for ENOMEM, CPROF_EADDRINUSE for EADDRINUSE, else
 * CPROF_ESYSTEM; the text gets ": " and strerror's. */
int cprof__fail_errno(int errnum, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* cprof__fail(CPROF_ENOMEM, "out of memory"). */
int cprof__fail_memory(void);

#endif
