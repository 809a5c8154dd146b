/* SPDX-License-Identifier: MIT
 *
 * The one seam through which cprof allocates, so that a test can make the Nth allocation fail.
 * libcprof exports these to the libraries above it (libcprof_http, the Lua modules), not to users.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_BASE_ALLOC_H
#define CPROF_BASE_ALLOC_H

#include "cprof.h"

#include <stddef.h>

/* As malloc, calloc, realloc, aligned_alloc (SIZE is a multiple of ALIGNMENT), free and strdup. */
CPROF_API void *cprof__malloc(size_t size);
CPROF_API void *cprof__calloc(size_t count, size_t size);
CPROF_API void *cprof__realloc(void *memory, size_t size);
CPROF_API void *cprof__aligned_alloc(size_t alignment, size_t size);
CPROF_API void cprof__free(void *memory);
CPROF_API char *cprof__strdup(const char *text);

/* For tests: lets COUNT allocations of the process succeed, then fails every one; negative: never fails.
 * Returns how many were made since the last call. */
long cprof__alloc_fail_after(long count);

#endif
