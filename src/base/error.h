/* SPDX-License-Identifier: MIT
 *
 * The calling thread's last error: a code, an errno and a text.
 * libcprof exports these to the libraries above it (libcprof_http, the Lua modules), not to users.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_BASE_ERROR_H
#define CPROF_BASE_ERROR_H

#include "cprof.h"

/* Records CODE (a CPROF_E code) with a printf text and returns CODE, so that a function can `return
 * cprof__fail(…)`. Where even the text cannot be kept, the text is cprof_strerror(CODE). */
CPROF_API int cprof__fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a system call that set ERRNUM: CPROF_ENOMEM for ENOMEM, CPROF_EADDRINUSE for EADDRINUSE, else
 * CPROF_ESYSTEM; the text gets ": " and strerror's. */
CPROF_API int cprof__fail_errno(int errnum, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* cprof__fail(CPROF_ENOMEM, "out of memory"). */
CPROF_API int cprof__fail_memory(void);

#endif
