/* SPDX-License-Identifier: MIT
 *
 * Writes the samples of a snapshot as pprof protobuf or as text.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_EMIT_H
#define CPROF_CORE_EMIT_H

#include "core/events.h"
#include "cprof.h"

/* What a profile says of itself. */
typedef struct cprof__description {
    const char *name;
    const cprof_value_type *types;
    size_t columns;
    const char *default_type; /* the column that readers show first; NULL: theirs */
    bool
        heap; /* the columns are alloc_objects, alloc_space, inuse_objects, inuse_space: text in the layout for them */
    cprof_value_type period_type;
    int64_t period;
    int64_t time_ns; /* since 1970: when it was taken, or, with a duration, when it began */
    int64_t duration_ns;
    const char *const *comments;
    size_t comment_count;
} cprof__description;

/* Samples to write: rows are written in their order. */
typedef struct cprof__emission {
    const cprof__description *about;
    const struct cprof__sums_row *rows;
    size_t row_count;
} cprof__emission;

/* Returns: 0, CPROF_ENOMEM, CPROF_ECANCELED (WRITE gave up), CPROF_EINVAL (OPTIONS). */
int cprof__emit(const cprof__emission *emission, cprof_write_fn write, void *context,
                const cprof_write_options *options);

#endif
