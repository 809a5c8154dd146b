/* SPDX-License-Identifier: MIT
 *
 * Writes a pprof profile as a stream: each message is packed by protobuf-c as soon as it is given, through
 * zlib to the caller's function; only the string table is kept to the end. The caller numbers mappings,
 * functions and locations itself and must give each as 1, 2, 3 … in order (it may refer to ones not given
 * yet). Errors are sticky: after one, calls do nothing, and finish returns it. Source: proto/profile.proto.
 * Threads: one at a time an encoder. Signals: unsafe.
 */
#ifndef CPROF_ENCODE_ENCODER_H
#define CPROF_ENCODE_ENCODER_H

#include "cprof.h"

#include <stdbool.h>

typedef struct cprof__encoder cprof__encoder;

typedef struct cprof__encode_mapping {
    uint64_t id, start, limit, file_offset;
    const char *file, *build_id; /* never NULL */
    bool has_functions, has_filenames, has_line_numbers, has_inline_frames;
} cprof__encode_mapping;

typedef struct cprof__encode_function {
    uint64_t id;
    const char *name, *system_name, *file; /* never NULL */
    int64_t start_line;
} cprof__encode_function;

typedef struct cprof__encode_line {
    uint64_t function_id;
    int64_t line;
} cprof__encode_line;

typedef struct cprof__encode_location {
    uint64_t id, mapping_id, address; /* mapping_id 0: none */
    const cprof__encode_line *lines;  /* innermost first */
    size_t line_count;
} cprof__encode_location;

typedef struct cprof__encode_sample {
    const uint64_t *location_ids; /* leaf first */
    size_t location_count;
    const int64_t *values; /* one for each sample type */
    const cprof_label *labels;
    size_t label_count;
} cprof__encode_sample;

/* Opens an encoder that hands its bytes to WRITE(CONTEXT, …), gzipped at GZIP_LEVEL 1 to 9, or raw at 0.
 * Returns: 0 or CPROF_ENOMEM. */
int cprof__encoder_open(cprof_write_fn write, void *context, int gzip_level, cprof__encoder **out);

/* The columns, once, before the samples. */
void cprof__encoder_sample_types(cprof__encoder *encoder, const cprof_value_type *types, size_t count);
void cprof__encoder_period(cprof__encoder *encoder, const cprof_value_type *type, int64_t period);
void cprof__encoder_time(cprof__encoder *encoder, int64_t time_ns, int64_t duration_ns);
void cprof__encoder_comment(cprof__encoder *encoder, const char *text);
void cprof__encoder_default_sample_type(cprof__encoder *encoder, const char *type);
void cprof__encoder_mapping(cprof__encoder *encoder, const cprof__encode_mapping *mapping);
void cprof__encoder_function(cprof__encoder *encoder, const cprof__encode_function *function);
void cprof__encoder_location(cprof__encoder *encoder, const cprof__encode_location *location);
void cprof__encoder_sample(cprof__encoder *encoder, const cprof__encode_sample *sample);

/* Whether there was an error: what is given from then on is for nothing. */
bool cprof__encoder_failed(const cprof__encoder *encoder);

/* Writes the string table and what zlib holds back, and frees ENCODER. Returns: 0 or the first error:
 * CPROF_ENOMEM, CPROF_ECANCELED (WRITE gave up). */
int cprof__encoder_close(cprof__encoder *encoder);

#endif
