/* SPDX-License-Identifier: MIT
 *
 * Bytes that grow at the end: the body of an answer. Running out of memory is remembered and asked for once,
 * at the end. Threads: one at a time a buffer. Signals: unsafe.
 */
#ifndef CPROF_HTTP_BUFFER_H
#define CPROF_HTTP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/* A buffer of zeros is ready for use. */
typedef struct cprof__buffer {
    char *data; /* with a 0 after LENGTH bytes, where there are any; freed with cprof__free */
    size_t length, room;
    bool failed; /* memory ran out: what was appended since is missing */
} cprof__buffer;

void cprof__buffer_fini(cprof__buffer *buffer);

void cprof__buffer_append(cprof__buffer *buffer, const void *bytes, size_t length);
void cprof__buffer_text(cprof__buffer *buffer, const char *text);
void cprof__buffer_format(cprof__buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* TEXT as it may stand in HTML, between tags and in quoted attributes. */
void cprof__buffer_html(cprof__buffer *buffer, const char *text);

/* TEXT percent-encoded: all but letters, digits, "-._~" and the characters of KEEP. */
void cprof__buffer_url(cprof__buffer *buffer, const char *text, const char *keep);

/* A cprof_write_fn whose CONTEXT is a buffer. */
int cprof__buffer_write(void *context, const void *bytes, size_t length);

#endif
