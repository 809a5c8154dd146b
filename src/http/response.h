/* SPDX-License-Identifier: MIT
 *
 * An answer to a request as a plain value: status, headers, body, and, where the body is a profile that is
 * yet to be recorded, the recording. Running out of memory is remembered and settled once, at the end.
 * Threads: one at a time an answer. Signals: unsafe.
 */
#ifndef CPROF_HTTP_RESPONSE_H
#define CPROF_HTTP_RESPONSE_H

#include "cprof.h"
#include "http/buffer.h"

#include <stdint.h>

typedef struct cprof__header {
    const char *name;
    char *value;
} cprof__header;

/* Zeros are an empty answer. */
typedef struct cprof__response {
    int status;
    cprof__header headers[5];
    size_t header_count;
    cprof__buffer body;
    bool body_unknown;          /* of a HEAD: how long the body of a GET would be cannot be told */
    cprof_recording *recording; /* NULL, or runs, and http/cpu.h makes the body of it at its end */
    int64_t recording_ms;       /* how long it is to run */
} cprof__response;

/* Frees what RESPONSE holds; a recording is ended. */
void cprof__response_fini(cprof__response *response);

/* The value of the header NAME, or NULL. */
const char *cprof__response_header(const cprof__response *response, const char *name);

/* Begins it anew, with the headers that every answer has. */
void cprof__response_begin(cprof__response *response, int status, const char *type);

/* A header that cannot be kept makes the body fail, and with it the answer. */
void cprof__response_add_header(cprof__response *response, const char *name, const char *value);

/* The answer is to be saved as the file NAME. */
void cprof__response_add_filename(cprof__response *response, const char *name);

/* Makes it an error that pprof shows to its user. */
void cprof__response_error(cprof__response *response, int status, const char *text);

/* The same for CODE, which came from a function of cprof.h on this thread: the text of that failure. */
void cprof__response_failure(cprof__response *response, int code);

/* The last word: where memory ran out on the way, the answer is the status 500 alone. */
void cprof__response_settle(cprof__response *response);

#endif
