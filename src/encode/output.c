/* SPDX-License-Identifier: MIT
 *
 * See output.h. The gzip header that zlib writes holds no time and no name, so equal profiles are equal
 * bytes. Source: zlib.h (deflateInit2: 16 added to windowBits means gzip).
 */
#include "encode/output.h"

#include "base/alloc.h"
#include "base/error.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#define PIECE_BYTES 32768u
#define GZIP_WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8 /* zlib's default: 256 KiB in all */

static void *stream_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return cprof__calloc(count, size);
}

static void stream_free(void *context, void *memory)
{
    (void)context;
    cprof__free(memory);
}

int cprof__output_open(cprof__output *output, cprof_write_fn write, void *context, int gzip_level)
{
    assert(gzip_level >= 0 && gzip_level <= 9);
    *output = (cprof__output){.write = write, .context = context, .gzip = gzip_level > 0};
    output->piece = cprof__malloc(PIECE_BYTES);
    if (!output->piece)
        return cprof__fail_memory();
    if (!output->gzip)
        return CPROF_OK;
    output->stream.zalloc = stream_alloc;
    output->stream.zfree = stream_free;
    /* With arguments in range, memory is all that can be missing. */
    if (deflateInit2(&output->stream, gzip_level, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        cprof__free(output->piece);
        return cprof__fail_memory();
    }
    return CPROF_OK;
}

/* The piece is handed on when it is full, not when it is about to overflow: pieces have one size, but for the
 * last. */
static void hand_on(cprof__output *output)
{
    if (output->used && !output->error && output->write(output->context, output->piece, output->used) != 0)
        output->error = CPROF_ECANCELED;
    output->used = 0;
}

static void put_plain(cprof__output *output, const unsigned char *bytes, size_t length)
{
    while (length && !output->error) {
        size_t part = PIECE_BYTES - output->used < length ? PIECE_BYTES - output->used : length;
        memcpy(output->piece + output->used, bytes, part);
        output->used += part;
        bytes += part;
        length -= part;
        if (output->used == PIECE_BYTES)
            hand_on(output);
    }
}

/* Runs deflate until it has taken its input and, where FLUSH is Z_FINISH, given all its output. */
static void run_stream(cprof__output *output, int flush)
{
    z_stream *stream = &output->stream;
    int result;
    do {
        stream->next_out = output->piece + output->used;
        stream->avail_out = PIECE_BYTES - (unsigned)output->used;
        result = deflate(stream, flush);
        output->used = PIECE_BYTES - stream->avail_out;
        if (stream->avail_out == 0)
            hand_on(output);
    } while (!output->error && (flush == Z_FINISH ? result != Z_STREAM_END : stream->avail_in > 0));
}

void cprof__output_put(cprof__output *output, const void *bytes, size_t length)
{
    if (!output->gzip) {
        put_plain(output, bytes, length);
        return;
    }
    const unsigned char *next = bytes;
    while (length && !output->error) {
        unsigned part = length < UINT_MAX ? (unsigned)length : UINT_MAX; /* zlib counts in unsigned */
        output->stream.next_in = (z_const Bytef *)next;
        output->stream.avail_in = part;
        run_stream(output, Z_NO_FLUSH);
        next += part;
        length -= part;
    }
}

int cprof__output_close(cprof__output *output)
{
    if (output->gzip) {
        output->stream.next_in = NULL;
        output->stream.avail_in = 0;
        if (!output->error)
            run_stream(output, Z_FINISH);
        deflateEnd(&output->stream);
    }
    hand_on(output);
    cprof__free(output->piece);
    if (output->error == CPROF_ENOMEM)
        return cprof__fail_memory();
    if (output->error)
        return cprof__fail(output->error, "the receiver of the profile's bytes gave up");
    return CPROF_OK;
}
