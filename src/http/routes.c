/* SPDX-License-Identifier: MIT
 *
 * See routes.h. Where Go's pages and these differ: methods that make no sense are refused (405), an index
 * entry whose name no path can carry is reached as "?name=NAME", and symbols may be asked for beside any
 * profile, because that is where pprof looks for them when a profile's name has slashes.
 */
#include "http/routes.h"

#include "base/alloc.h"
#include "base/error.h"
#include "cprof.h"
#include "http/page.h"
#include "http/target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "/debug/pprof/"
#define FILENAME_BYTES_MAX 128

/* A header that cannot be kept makes the body fail, and with it the answer. */
static void add_header(cprof__response *response, const char *name, const char *value)
{
    char *copy = cprof__strdup(value);
    if (!copy) {
        response->body.failed = true;
        return;
    }
    response->headers[response->header_count++] = (cprof__header){name, copy};
}

const char *cprof__response_header(const cprof__response *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++)
        if (strcmp(response->headers[i].name, name) == 0)
            return response->headers[i].value;
    return NULL;
}

void cprof__response_fini(cprof__response *response)
{
    for (size_t i = 0; i < response->header_count; i++)
        cprof__free(response->headers[i].value);
    response->header_count = 0;
    cprof__buffer_fini(&response->body);
}

static void begin(cprof__response *response, int status, const char *type)
{
    cprof__response_fini(response);
    response->status = status;
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Content-Type", type);
}

/* An error as pprof shows it to its user: only with this header does it print the body. */
static void answer_error(cprof__response *response, int status, const char *text)
{
    begin(response, status, "text/plain; charset=utf-8");
    add_header(response, "X-Go-Pprof", "1");
    cprof__buffer_text(&response->body, text);
    cprof__buffer_text(&response->body, "\n");
}

/* CODE came from a function of cprof.h: the text of that failure, where there was memory to keep it. */
static void answer_failure(cprof__response *response, int code)
{
    const char *text = cprof_last_error();
    answer_error(response, 500, text[0] ? text : cprof_strerror(code));
}

/* As the header allows it within quotes; and no hidden file is made. */
static void add_filename(cprof__response *response, const char *name)
{
    char value[FILENAME_BYTES_MAX + 32] = "attachment; filename=\"";
    size_t length = strlen(value);
    for (size_t i = 0; name[i] && i < FILENAME_BYTES_MAX; i++) {
        char c = name[i];
        bool plain = c >= ' ' && c < 0x7f && !strchr("\"\\/%:*?<>|", c) && !(i == 0 && c == '.');
        value[length++] = plain ? c : '_';
    }
    strcpy(value + length, "\"");
    add_header(response, "Content-Disposition", value);
}

/* Go's Atoi, whose result it uses even where there was an error: 0 for what is no number, the largest for
 * what is too large. */
static long long number(const char *text)
{
    const char *digits = text + (text[0] == '+' || text[0] == '-');
    if (digits[0] == 0 || digits[strspn(digits, "0123456789")] != 0)
        return 0;
    return strtoll(text, NULL, 10);
}

static void answer_profile(cprof__response *response, const cprof__target *target, const char *name)
{
    cprof_profile *profile = cprof_lookup(name);
    if (!profile) {
        answer_error(response, 404, "Unknown profile");
        return;
    }
    char *seconds = NULL, *debug = NULL;
    int error = cprof__target_query(target, "seconds", &seconds);
    if (!error)
        error = cprof__target_query(target, "debug", &debug);
    if (error) {
        answer_failure(response, error);
    } else if (seconds[0]) {
        answer_error(response, 400,
                     number(seconds) > 0 && strspn(seconds, "+0123456789") == strlen(seconds)
                         ? "\"seconds\" parameter is not supported for this profile type"
                         : "invalid value for \"seconds\" - must be a positive integer");
    } else {
        cprof_write_options options = CPROF_WRITE_OPTIONS_INIT;
        options.debug = number(debug) != 0;
        begin(response, 200, options.debug ? "text/plain; charset=utf-8" : "application/octet-stream");
        if (!options.debug)
            add_filename(response, name);
        error = cprof_profile_write_to(profile, cprof__buffer_write, &response->body, &options);
        if (error && !response->body.failed)
            answer_failure(response, error);
    }
    cprof__free(seconds);
    cprof__free(debug);
}

static void answer_index(cprof__response *response, const cprof__request *request,
                         const cprof__target *target)
{
    char *name;
    int error = cprof__target_query(target, "name", &name);
    if (error) {
        answer_failure(response, error);
        return;
    }
    if (name[0]) {
        answer_profile(response, target, name);
    } else {
        begin(response, 200, "text/html; charset=utf-8");
        error = cprof__page_index(&response->body, request->authority);
        if (error)
            answer_failure(response, error);
    }
    cprof__free(name);
}

static void answer_cmdline(cprof__response *response)
{
    begin(response, 200, "text/plain; charset=utf-8");
    cprof__page_cmdline(&response->body);
}

/* The line of one address; none where nothing is known of it. The innermost function's name, as Go gives it.
 */
static void symbol(cprof__buffer *body, const char *word)
{
    char *end;
    errno = 0;
    uint64_t address = strtoull(word, &end, 0);
    if (word[0] < '0' || word[0] > '9' || *end || errno || address == 0)
        return;
    cprof_frame *frames;
    size_t count;
    int error = cprof_symbolize(address, &frames, &count);
    if (error) {
        body->failed |= error == CPROF_ENOMEM;
        return;
    }
    if (count > 0 && frames[0].name[0]) {
        size_t start = body->length;
        cprof__buffer_format(body, "0x%" PRIx64 " %s", address, frames[0].name);
        for (size_t i = start; i < body->length; i++)
            if ((unsigned char)body->data[i] < ' ') /* one symbol, one line */
                body->data[i] = '?';
        cprof__buffer_text(body, "\n");
    }
    cprof_free(frames);
}

/* Source: https://gperftools.github.io/gperftools/pprof_remote_servers.html: addresses parted by '+', in the
 * query or in the body. That their number is 1 only says that there are symbols at all. */
static void answer_symbol(cprof__response *response, const char *addresses, size_t length)
{
    begin(response, 200, "text/plain; charset=utf-8");
    cprof__buffer_text(&response->body, "num_symbols: 1\n");
    for (size_t i = 0; i < length && !response->body.failed; i++) {
        char word[32];
        size_t used = 0;
        for (; i < length && addresses[i] != '+' && addresses[i] != '\n'; i++)
            if (used + 1 < sizeof word)
                word[used++] = addresses[i];
        word[used] = 0;
        symbol(&response->body, word);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* A GET or HEAD of what is below the prefix. */
static void answer_get(cprof__response *response, const cprof__request *request, const cprof__target *target)
{
    const char *name = target->path + strlen(PREFIX);
    if (name[0] == 0)
        answer_index(response, request, target);
    else if (strcmp(name, "cmdline") == 0)
        answer_cmdline(response);
    else if (strcmp(name, "symbol") == 0)
        answer_symbol(response, target->query, strlen(target->query));
    else
        answer_profile(response, target, name);
}

static void answer_not_allowed(cprof__response *response, const char *allow)
{
    answer_error(response, 405, "Method Not Allowed");
    add_header(response, "Allow", allow);
}

static void answer_redirect(cprof__response *response, const cprof__target *target)
{
    cprof__buffer location = {0};
    cprof__buffer_text(&location, PREFIX);
    if (target->query[0]) {
        cprof__buffer_text(&location, "?");
        cprof__buffer_text(&location, target->query);
    }
    begin(response, 301, "text/plain; charset=utf-8");
    if (location.failed)
        response->body.failed = true;
    else
        add_header(response, "Location", location.data);
    cprof__buffer_text(&response->body, "Moved to " PREFIX "\n");
    cprof__buffer_fini(&location);
}

static void route(cprof__response *response, const cprof__request *request, const cprof__target *target)
{
    bool get = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    bool post = strcmp(request->method, "POST") == 0;
    bool below = strncmp(target->path, PREFIX, strlen(PREFIX)) == 0;
    bool symbols = below && ends_with(target->path, "/symbol");
    if (!below && strcmp(target->path, "/debug/pprof") != 0)
        answer_error(response, 404, "404 page not found; profiles are at " PREFIX);
    else if (post && symbols && request->body_too_large)
        answer_error(response, 413, "the list of addresses is too long");
    else if (post && symbols)
        answer_symbol(response, request->body, request->body_length);
    else if (!get)
        answer_not_allowed(response, symbols ? "GET, HEAD, POST" : "GET, HEAD");
    else if (!below)
        answer_redirect(response, target);
    else
        answer_get(response, request, target);
}

void cprof__routes_answer(const cprof__request *request, cprof__response *response)
{
    *response = (cprof__response){0};
    cprof__target target;
    int error = cprof__target_parse(request->target, &target);
    if (error == CPROF_EINVAL) {
        answer_error(response, 400, cprof_last_error());
    } else if (error) {
        answer_failure(response, error);
    } else {
        route(response, request, &target);
        cprof__target_fini(&target);
    }
    if (response->body.failed) {
        /* There may be no memory for any header or word: the status alone says it. */
        cprof__response_fini(response);
        response->status = 500;
    }
}
