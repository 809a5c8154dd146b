/* SPDX-License-Identifier: MIT
 *
 * See response.h.
 */
#include "http/response.h"

#include "base/alloc.h"

#include <string.h>

#define FILENAME_BYTES_MAX 128

void cprof__response_fini(cprof__response *response)
{
    for (size_t i = 0; i < response->header_count; i++)
        cprof__free(response->headers[i].value);
    cprof__buffer_fini(&response->body);
    cprof_recording_free(response->recording);
    *response = (cprof__response){0};
}

const char *cprof__response_header(const cprof__response *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++)
        if (strcmp(response->headers[i].name, name) == 0)
            return response->headers[i].value;
    return NULL;
}

void cprof__response_begin(cprof__response *response, int status, const char *type)
{
    cprof__response_fini(response);
    response->status = status;
    cprof__response_add_header(response, "X-Content-Type-Options", "nosniff");
    cprof__response_add_header(response, "Content-Type", type);
}

void cprof__response_add_header(cprof__response *response, const char *name, const char *value)
{
    char *copy = cprof__strdup(value);
    if (!copy) {
        response->body.failed = true;
        return;
    }
    response->headers[response->header_count++] = (cprof__header){name, copy};
}

/* As the header allows it within quotes; and no hidden file is made. */
void cprof__response_add_filename(cprof__response *response, const char *name)
{
    char value[FILENAME_BYTES_MAX + 32] = "attachment; filename=\"";
    size_t length = strlen(value);
    for (size_t i = 0; name[i] && i < FILENAME_BYTES_MAX; i++) {
        char c = name[i];
        bool plain = c >= ' ' && c < 0x7f && !strchr("\"\\/%:*?<>|", c) && !(i == 0 && c == '.');
        value[length++] = plain ? c : '_';
    }
    strcpy(value + length, "\"");
    cprof__response_add_header(response, "Content-Disposition", value);
}

/* Only with the header X-Go-Pprof does pprof print the body. */
void cprof__response_error(cprof__response *response, int status, const char *text)
{
    cprof__response_begin(response, status, "text/plain; charset=utf-8");
    cprof__response_add_header(response, "X-Go-Pprof", "1");
    cprof__buffer_text(&response->body, text);
    cprof__buffer_text(&response->body, "\n");
}

void cprof__response_failure(cprof__response *response, int code)
{
    const char *text = cprof_last_error();
    cprof__response_error(response, code == CPROF_EOFF ? 503 : 500, text[0] ? text : cprof_strerror(code));
}

void cprof__response_settle(cprof__response *response)
{
    if (!response->body.failed)
        return;
    /* There may be no memory for any header or word: the status alone says it. */
    cprof__response_fini(response);
    response->status = 500;
}
