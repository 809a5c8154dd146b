/* SPDX-License-Identifier: MIT
 *
 * Where encoded bytes leave: gathered into pieces, compressed on the way where asked, handed to the caller's
 * function. The first error stays and turns all that follows into nothing, so that writers above check once,
 * at the end. Threads: one at a time a stream. Signals: unsafe.
 */
#ifndef CPROF_ENCODE_STREAM_H
#define CPROF_ENCODE_STREAM_H

#include "cprof.h"

#include <stdbool.h>
#include <zlib.h>

typedef struct cprof__stream {
    cprof_write_fn write;
    void *context;
    unsigned char *piece; /* PIECE_BYTES that wait to be handed on */
    size_t used;
    z_stream zlib; /* in use where GZIP */
    bool gzip;
    int error; /* 0, CPROF_ENOMEM or CPROF_ECANCELED; whoever above fails writes its own here */
} cprof__stream;

/* Readies STREAM, storage of the caller's. GZIP_LEVEL 1 to 9, or 0: the bytes as they are.
 * Returns: 0 or CPROF_ENOMEM (then there is nothing to close). */
int cprof__stream_open(cprof__stream *stream, cprof_write_fn write, void *context, int gzip_level);

void cprof__stream_put(cprof__stream *stream, const void *bytes, size_t length);

/* Hands on what waits and frees what open allocated. Returns: 0 or the first error, recorded for
 * cprof_last_error. */
int cprof__stream_close(cprof__stream *stream);

#endif
