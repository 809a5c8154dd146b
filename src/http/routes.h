/* SPDX-License-Identifier: MIT
 *
 * What is answered to which request: the pages of Go's net/http/pprof, without sockets. Requests and answers
 * are plain values; server.c carries them. Source: https://pkg.go.dev/net/http/pprof. Threads: any. Signals:
 * unsafe.
 */
#ifndef CPROF_HTTP_ROUTES_H
#define CPROF_HTTP_ROUTES_H

#include "http/response.h"

#define CPROF__HTTP_BODY_BYTES_MAX ((size_t)1 << 20)

typedef struct cprof__request {
    const char *method;
    const char *target;    /* as it came: path and query, encoded */
    const char *authority; /* "host:port" as the client calls us */
    const char *body;      /* of a POST; may be NULL where BODY_LENGTH is 0 */
    size_t body_length;
    bool body_too_large;      /* there was more than CPROF__HTTP_BODY_BYTES_MAX */
    const char *no_recording; /* why no profile can be recorded now; NULL: it can */
} cprof__request;

/* Answers REQUEST; a HEAD as a GET (the body is then not to be sent). Never fails: what goes wrong is the
 * answer. Where the answer has a recording, it becomes whole by cprof__cpu_end (http/cpu.h). Owns: the caller
 * frees the answer with cprof__response_fini, or takes its body away before. */
void cprof__routes_answer(const cprof__request *request, cprof__response *response);

#endif
