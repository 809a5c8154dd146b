/* SPDX-License-Identifier: MIT
 *
 * Where encoded bytes leave: gathered into pieces, compressed on the way where asked, handed to the caller's
 * function. The first error stays and turns all that follows into nothing, so that writers above check once,
 * at the end. Threads: one at a time an output. Signals: unsafe.
 */
#ifndef CPROF_ENCODE_OUTPUT_H
#define CPROF_ENCODE_OUTPUT_H

#include "cprof.h"

#include <stdbool.h>
#include <zlib.h>

typedef struct cprof__output {
    cprof_write_fn write;
    void *context;
    unsigned char *piece; /* PIECE_BYTES that wait to be handed on */
    size_t used;
    z_stream stream; /* in use where GZIP */
    bool gzip;
    int error; /* 0, CPROF_ENOMEM or CPROF_ECANCELED; whoever above fails writes its own here */
} cprof__output;

/* Readies OUTPUT, storage of the caller's. GZIP_LEVEL 1 to 9, or 0: the bytes as they are.
 * Returns: 0 or CPROF_ENOMEM (then there is nothing to close). */
int cprof__output_open(cprof__output *output, cprof_write_fn write, void *context, int gzip_level);

void cprof__output_put(cprof__output *output, const void *bytes, size_t length);

/* Hands on what waits and frees what open allocated. Returns: 0 or the first error, recorded for
 * cprof_last_error. */
int cprof__output_close(cprof__output *output);

#endif
