/* SPDX-License-Identifier: MIT
 *
 * See stream.h. The gzip header that zlib writes holds no time and no name, so equal profiles are equal
 * bytes. Source: zlib.h (deflateInit2: 16 added to windowBits means gzip).
 */
#include "encode/stream.h"

#include "base/alloc.h"
#include "base/error.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#define PIECE_BYTES 32768u
#define GZIP_WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8 /* zlib's default: 256 KiB in all */

static void *zlib_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return cprof__calloc(count, size);
}

static void zlib_free(void *context, void *memory)
{
    (void)context;
    cprof__free(memory);
}

int cprof__stream_open(cprof__stream *stream, cprof_write_fn write, void *context, int gzip_level)
{
    assert(gzip_level >= 0 && gzip_level <= 9);
    *stream = (cprof__stream){.write = write, .context = context, .gzip = gzip_level > 0};
    stream->piece = cprof__malloc(PIECE_BYTES);
    if (!stream->piece)
        return cprof__fail_memory();
    if (!stream->gzip)
        return CPROF_OK;
    stream->zlib.zalloc = zlib_alloc;
    stream->zlib.zfree = zlib_free;
    /* With arguments in range, memory is all that can be missing. */
    if (deflateInit2(&stream->zlib, gzip_level, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        cprof__free(stream->piece);
        return cprof__fail_memory();
    }
    return CPROF_OK;
}

/* The piece is handed on when it is full, not when it is about to overflow: pieces have one size, but for the
 * last. */
static void hand_on(cprof__stream *stream)
{
    if (stream->used && !stream->error && stream->write(stream->context, stream->piece, stream->used) != 0)
        stream->error = CPROF_ECANCELED;
    stream->used = 0;
}

static void put_plain(cprof__stream *stream, const unsigned char *bytes, size_t length)
{
    while (length && !stream->error) {
        size_t part = PIECE_BYTES - stream->used < length ? PIECE_BYTES - stream->used : length;
        memcpy(stream->piece + stream->used, bytes, part);
        stream->used += part;
        bytes += part;
        length -= part;
        if (stream->used == PIECE_BYTES)
            hand_on(stream);
    }
}

/* Runs deflate until it has taken its input and, where FLUSH is Z_FINISH, given all its output. */
static void run_zlib(cprof__stream *stream, int flush)
{
    z_stream *zlib = &stream->zlib;
    int result;
    do {
        zlib->next_out = stream->piece + stream->used;
        zlib->avail_out = PIECE_BYTES - (unsigned)stream->used;
        result = deflate(zlib, flush);
        stream->used = PIECE_BYTES - zlib->avail_out;
        if (zlib->avail_out == 0)
            hand_on(stream);
    } while (!stream->error && (flush == Z_FINISH ? result != Z_STREAM_END : zlib->avail_in > 0));
}

void cprof__stream_put(cprof__stream *stream, const void *bytes, size_t length)
{
    if (!stream->gzip) {
        put_plain(stream, bytes, length);
        return;
    }
    const unsigned char *next = bytes;
    while (length && !stream->error) {
        unsigned part = length < UINT_MAX ? (unsigned)length : UINT_MAX; /* zlib counts in unsigned */
        stream->zlib.next_in = (z_const Bytef *)next;
        stream->zlib.avail_in = part;
        run_zlib(stream, Z_NO_FLUSH);
        next += part;
        length -= part;
    }
}

int cprof__stream_close(cprof__stream *stream)
{
    if (stream->gzip) {
        stream->zlib.next_in = NULL;
        stream->zlib.avail_in = 0;
        if (!stream->error)
            run_zlib(stream, Z_FINISH);
        deflateEnd(&stream->zlib);
    }
    hand_on(stream);
    cprof__free(stream->piece);
    if (stream->error == CPROF_ENOMEM)
        return cprof__fail_memory();
    if (stream->error)
        return cprof__fail(stream->error, "the receiver of the profile's bytes gave up");
    return CPROF_OK;
}
