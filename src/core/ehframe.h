/* SPDX-License-Identifier: MIT
 *
 * Parses the .eh_frame of a file, as the loader has mapped it, into unwind rows. Nothing in the bytes is
 * trusted. Source: Linux Standard Base 5.0, section 10.6. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_EHFRAME_H
#define CPROF_CORE_EHFRAME_H

#include "sigsafe/rows.h"

#include <stddef.h>

/* Addresses are the file's (ELF virtual addresses). */
typedef struct cprof__eh_source {
    const uint8_t *bytes; /* a readable stretch that holds .eh_frame_hdr and .eh_frame */
    size_t size;
    uint64_t address; /* of bytes[0] */
    uint64_t header;  /* of .eh_frame_hdr */
    size_t header_size;
    uint64_t bias;        /* what the loader added to absolute addresses in the bytes */
    uint64_t base, limit; /* where code may lie; rows count from BASE */
} cprof__eh_source;

/* Returns: 0 and *OUT (free it with cprof__rows_free), or CPROF_ENOMEM. Entries that make no sense are left
 * out. */
int cprof__ehframe_parse(const cprof__eh_source *source, cprof__rows **out);

/* NULL is fine. */
void cprof__rows_free(cprof__rows *rows);

#endif
