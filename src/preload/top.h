/* SPDX-License-Identifier: MIT
 *
 * The functions that used most, as text: what `go tool pprof -top -nodecount=10` prints below its first lines.
 */
#ifndef CPROF_PRELOAD_TOP_H
#define CPROF_PRELOAD_TOP_H

#include "cprof.h"

#include <stdio.h>

/* Sums over all samples. */
typedef struct cprof__top {
    int64_t samples; /* of the first column */
    int64_t total;   /* of the last column, nanoseconds */
} cprof__top;

/* Adds SNAPSHOT up into *TOP and, where OUT is not NULL, prints the ROWS functions with the most of the last column
 * (nanoseconds) of their own. Returns: 0, CPROF_ENOMEM. */
int cprof__top_print(cprof_snapshot *snapshot, size_t rows, FILE *out, cprof__top *top);

#endif
