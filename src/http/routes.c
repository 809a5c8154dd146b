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
#include "http/cpu.h"
#include "http/page.h"
#include "http/target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "/debug/pprof/"

static void answer_profile(cprof__response *response, const cprof__target *target, const char *name)
{
    cprof_profile *profile = cprof_lookup(name);
    if (!profile) {
        cprof__response_error(response, 404, "Unknown profile");
        return;
    }
    char *seconds = NULL, *debug = NULL;
    int error = cprof__target_query(target, "seconds", &seconds);
    if (!error)
        error = cprof__target_query(target, "debug", &debug);
    if (error) {
        cprof__response_failure(response, error);
    } else if (seconds[0]) {
        cprof__response_error(response, 400,
                              cprof__target_number(seconds) > 0 &&
                                      strspn(seconds, "+0123456789") == strlen(seconds)
                                  ? "\"seconds\" parameter is not supported for this profile type"
                                  : "invalid value for \"seconds\" - must be a positive integer");
    } else {
        cprof_write_options options = CPROF_WRITE_OPTIONS_INIT;
        options.debug = cprof__target_number(debug) != 0;
        cprof__response_begin(response, 200,
                              options.debug ? "text/plain; charset=utf-8" : "application/octet-stream");
        if (!options.debug)
            cprof__response_add_filename(response, name);
        error = cprof_profile_write_to(profile, cprof__buffer_write, &response->body, &options);
        if (error && !response->body.failed)
            cprof__response_failure(response, error);
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
        cprof__response_failure(response, error);
        return;
    }
    if (name[0]) {
        answer_profile(response, target, name);
    } else {
        cprof__response_begin(response, 200, "text/html; charset=utf-8");
        error = cprof__page_index(&response->body, request->authority);
        if (error)
            cprof__response_failure(response, error);
    }
    cprof__free(name);
}

static void answer_cmdline(cprof__response *response)
{
    cprof__response_begin(response, 200, "text/plain; charset=utf-8");
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
    cprof__response_begin(response, 200, "text/plain; charset=utf-8");
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
    else if (strcmp(name, "profile") == 0)
        cprof__cpu_begin(response, request, target);
    else
        answer_profile(response, target, name);
}

static void answer_not_allowed(cprof__response *response, const char *allow)
{
    cprof__response_error(response, 405, "Method Not Allowed");
    cprof__response_add_header(response, "Allow", allow);
}

static void answer_redirect(cprof__response *response, const cprof__target *target)
{
    cprof__buffer location = {0};
    cprof__buffer_text(&location, PREFIX);
    if (target->query[0]) {
        cprof__buffer_text(&location, "?");
        cprof__buffer_text(&location, target->query);
    }
    cprof__response_begin(response, 301, "text/plain; charset=utf-8");
    if (location.failed)
        response->body.failed = true;
    else
        cprof__response_add_header(response, "Location", location.data);
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
        cprof__response_error(response, 404, "404 page not found; profiles are at " PREFIX);
    else if (post && symbols && request->body_too_large)
        cprof__response_error(response, 413, "the list of addresses is too long");
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
        cprof__response_error(response, 400, cprof_last_error());
    } else if (error) {
        cprof__response_failure(response, error);
    } else {
        route(response, request, &target);
        cprof__target_fini(&target);
    }
    cprof__response_settle(response);
}
