/* SPDX-License-Identifier: MIT
 *
 * http/routes.c and page.c: what net/http/pprof answers, we answer, without a socket in between.
 */
#include "http/routes.h"

#include "base/alloc.h"
#include "cprof.h"
#include "http/cpu.h"
#include "http/page.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#define TEXT "text/plain; charset=utf-8"

static cprof__response response;

static void ask_with(const char *method, const char *target, const char *body)
{
    cprof__response_fini(&response);
    const cprof__request request = {
        .method = method,
        .target = target,
        .authority = "127.0.0.1:8888",
        .body = body,
        .body_length = body ? strlen(body) : 0,
    };
    cprof__routes_answer(&request, &response);
}

static void ask(const char *target)
{
    ask_with("GET", target, NULL);
}

static void assert_header(const char *name, const char *wanted)
{
    const char *value = cprof__response_header(&response, name);
    if (!wanted) {
        assert_null(value);
        return;
    }
    assert_non_null(value);
    assert_string_equal(value, wanted);
}

static void assert_answer(int status, const char *type, const char *body)
{
    assert_int_equal(response.status, status);
    assert_header("Content-Type", type);
    assert_header("X-Content-Type-Options", "nosniff");
    if (body)
        assert_string_equal(response.body.data, body);
}

/* An error as serveError in net/http/pprof writes it. */
static void assert_error(int status, const char *body)
{
    assert_answer(status, TEXT, body);
    assert_header("X-Go-Pprof", "1");
    assert_header("Content-Disposition", NULL);
}

static void assert_found(const char *text)
{
    if (!strstr(response.body.data, text))
        fail_msg("not found: %s\nin:\n%s", text, response.body.data);
}

static cprof_profile *profile(const char *name)
{
    cprof_profile *found = cprof_lookup(name);
    if (!found)
        assert_int_equal(cprof_profile_new(name, NULL, &found), 0);
    return found;
}

static void profiles_come_as_files_or_as_text(void **state)
{
    (void)state;
    static const char keys[3];
    cprof_profile *blobs = profile("blobstore.Open");
    for (size_t i = 0; i < sizeof keys; i++)
        assert_int_equal(cprof_profile_add(blobs, &keys[i], 1), 0);
    static const char *const files[] = {
        "", "?debug=0", "?debug=x", "?debug=", "?debug=1x", "?debug=%zz", "?x=1", "?gc=1"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char target[64] = "/debug/pprof/blobstore.Open";
        ask(strcat(target, files[i]));
        assert_answer(200, "application/octet-stream", NULL);
        assert_header("Content-Disposition", "attachment; filename=\"blobstore.Open\"");
        assert_memory_equal(response.body.data, "\x1f\x8b", 2);
    }
    /* Go takes any number but 0 for text, one that is out of range, too. */
    static const char *const texts[] = {"1", "2", "-1", "%2b1", "99999999999999999999", "1&debug=0"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char target[64] = "/debug/pprof/blobstore.Open?debug=";
        ask(strcat(target, texts[i]));
        assert_answer(200, TEXT, NULL);
        assert_header("Content-Disposition", NULL);
        assert_memory_equal(response.body.data, "blobstore.Open profile: total 3\n3 @ 0x", 38);
    }
}

static void errors_are_those_of_go(void **state)
{
    (void)state;
    profile("blobstore.Open");
    static const char *const unknown[] = {"/debug/pprof/nope",
                                          "/debug/pprof/nope?debug=1",
                                          "/debug/pprof/heap2",
                                          "/debug/pprof/profilex?seconds=1",
                                          "/debug/pprof/blobstore.Open/",
                                          "/debug/pprof//",
                                          "/debug/pprof/..",
                                          "/debug/pprof/?name=nope",
                                          "/debug/pprof/trace"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ask(unknown[i]);
        assert_error(404, "Unknown profile\n");
    }
    ask("/debug/pprof/blobstore.Open?seconds=5");
    assert_error(400, "\"seconds\" parameter is not supported for this profile type\n");
    static const char *const broken[] = {"0", "-1", "x", "1.5", "5s"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        char target[64] = "/debug/pprof/blobstore.Open?seconds=";
        ask(strcat(target, broken[i]));
        assert_error(400, "invalid value for \"seconds\" - must be a positive integer\n");
    }
    static const char *const elsewhere[] = {"/", "/debug", "/debug/pprofx", "/favicon.ico",
                                            "/debug/pprof%00/"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
        ask(elsewhere[i]);
        assert_error(i < 4 ? 404 : 400, NULL);
    }
    ask("/debug/pprof");
    assert_answer(301, TEXT, NULL);
    assert_header("Location", "/debug/pprof/");
    ask("/debug/pprof?name=x");
    assert_header("Location", "/debug/pprof/?name=x");
}

static void methods_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    profile("blobstore.Open");
    static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        ask_with(methods[i], "/debug/pprof/blobstore.Open", "x");
        assert_error(405, "Method Not Allowed\n");
        assert_header("Allow", "GET, HEAD");
    }
    ask_with("PUT", "/debug/pprof/symbol", "0x1");
    assert_error(405, NULL);
    assert_header("Allow", "GET, HEAD, POST");
    ask_with("HEAD", "/debug/pprof/blobstore.Open", NULL);
    assert_answer(200, "application/octet-stream", NULL);
}

static void cpu_profiles_are_begun_and_ended(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        int64_t ms;
    } good[] = {
        {"", 30000},
        {"?seconds=2&hz=1000&mode=cpu", 2000},
        {"?seconds=1&debug=1", 1000},
        {"?seconds=3600&hz=1", 3600000},
        {"?hz=4000&seconds=%2b7", 7000},
        {"?seconds=5&mode=wall&engine=monotonic", 5000},
        /* Go takes its 30 seconds for all that it cannot read. */
        {"?seconds=0", 30000},
        {"?seconds=-5", 30000},
        {"?seconds=1.5", 30000},
        {"?seconds=x&hz=", 30000},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char target[96] = "/debug/pprof/profile";
        ask(strcat(target, good[i].query));
        assert_answer(200, "application/octet-stream", NULL);
        assert_header("Content-Disposition", "attachment; filename=\"profile\"");
        assert_non_null(response.recording);
        assert_int_equal(response.recording_ms, good[i].ms);
        assert_int_equal(response.body.length, 0);
        if (i % 2 == 0) {
            cprof__cpu_end(&response);
            assert_null(response.recording);
            assert_answer(200, "application/octet-stream", NULL);
            assert_memory_equal(response.body.data, "\x1f\x8b", 2);
        }
    }
}

static void what_a_cpu_profile_cannot_be_is_refused(void **state)
{
    (void)state;
    static const char *const rates[] = {"0", "-1", "4001", "99999999999999999999", "x", "1e2", "10.5"};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        char target[96] = "/debug/pprof/profile?seconds=1&hz=";
        ask(strcat(target, rates[i]));
        assert_error(400, "hz: not a whole number from 1 to 4000\n");
        assert_null(response.recording);
    }
    ask("/debug/pprof/profile?seconds=3601");
    assert_error(400, "seconds: more than 3600, the longest\n");
    static const char *const choices[] = {"mode=x", "engine=x", "mode=wall&engine=perf"};
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        char target[96] = "/debug/pprof/profile?";
        ask(strcat(target, choices[i]));
        assert_error(400, NULL);
        assert_found("Could not enable CPU profiling: ");
    }
    cprof__response_fini(&response);
    cprof__request request = {.method = "GET",
                              .target = "/debug/pprof/profile",
                              .authority = "",
                              .no_recording = "the server is being stopped"};
    cprof__routes_answer(&request, &response);
    assert_error(503, "the server is being stopped\n");
    ask_with("HEAD", "/debug/pprof/profile", NULL);
    assert_answer(200, "application/octet-stream", NULL);
    assert_null(response.recording);
    assert_true(response.body_unknown);
    ask_with("HEAD", "/debug/pprof/profile?hz=0", NULL);
    assert_error(400, NULL);
    ask_with("POST", "/debug/pprof/profile", NULL);
    assert_error(405, NULL);
}

static void odd_names_are_listed_and_found(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a/b",         "a//b",  "..",    ".",      "/",       "open blobs", "50% <b>\"more\"</b> & 'x'",
        "gr\xc3\xbcn", "a?b#c", "a%2Fb", "\xff\n", ".hidden",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        profile(names[i]);
    cprof__response index;
    ask("/debug/pprof/");
    assert_answer(200, "text/html; charset=utf-8", NULL);
    index = response;
    response = (cprof__response){0};
    assert_null(strstr(index.body.data, "<b>"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cprof__buffer link = {0}, row = {0}, target = {0};
        cprof__page_link(&link, names[i], false);
        cprof__buffer_text(&row, "\">");
        cprof__buffer_html(&row, names[i]);
        cprof__buffer_text(&row, "</a>");
        assert_non_null(strstr(index.body.data, row.data));
        cprof__buffer_format(&target, "<a href=\"%s\">download</a>", link.data);
        assert_non_null(strstr(index.body.data, target.data));
        target.length = 0;
        cprof__buffer_format(&target, "/debug/pprof/%s", link.data);
        ask(target.data);
        assert_answer(200, "application/octet-stream", NULL);
        for (const char *c = cprof__response_header(&response, "Content-Disposition"); *c; c++)
            assert_in_range(*c, ' ', '~');
        cprof__buffer_fini(&link);
        cprof__buffer_fini(&row);
        cprof__buffer_fini(&target);
    }
    cprof__response_fini(&index);
    ask("/debug/pprof/50%25%20%3Cb%3E%22more%22%3C/b%3E%20%26%20%27x%27");
    assert_header("Content-Disposition", "attachment; filename=\"50_ _b__more___b_ & 'x'\"");
    ask("/debug/pprof/.hidden");
    assert_header("Content-Disposition", "attachment; filename=\"_hidden\"");
}

static void the_index_tells_how_to_read(void **state)
{
    (void)state;
    profile("blobstore.Open");
    const cprof_value_type types[] = {{"reads", "count"}, {"bytes", "bytes"}, {"<i>", "nanoseconds"}};
    cprof_profile_options options = CPROF_PROFILE_OPTIONS_INIT;
    options.sample_types = types;
    options.sample_type_count = 3;
    cprof_profile *reads;
    assert_int_equal(cprof_profile_new("blob.reads", &options, &reads), 0);
    profile("...");
    profile("..");
    ask("/debug/pprof/?unrelated=1");
    assert_answer(200, "text/html; charset=utf-8", NULL);
    assert_found("<code>go tool pprof http://127.0.0.1:8888/debug/pprof/blobstore.Open</code>");
    assert_found("<code>go tool pprof 'http://127.0.0.1:8888/debug/pprof/?name=..'</code>");
    assert_found("Stacks with reads (count), bytes (bytes) and &#60;i&#62; (nanoseconds)");
    assert_found("<a class=\"name\" href=\"blobstore.Open?debug=1\">blobstore.Open</a>");
    assert_found("<a class=\"name\" href=\"?name=..&#38;debug=1\">..</a>");
    assert_found("http_routes_test</code></p>"); /* the command line */
    assert_found("<code>go tool pprof 'http://127.0.0.1:8888/debug/pprof/profile?seconds=30'</code>");
    assert_found("<a class=\"name\" href=\"profile?seconds=30\">profile</a>");
    profile("zzz");
    ask("/debug/pprof/");
    assert_true(strstr(response.body.data, ">blobstore.Open<") < strstr(response.body.data, ">profile<"));
    assert_true(strstr(response.body.data, ">profile<") < strstr(response.body.data, ">zzz<"));
    assert_true(strstr(response.body.data, ">blob.reads<") < strstr(response.body.data, ">blobstore.Open<"));
    cprof__response_fini(&response);
    const cprof__request request = {
        .method = "GET", .target = "/debug/pprof/", .authority = "\"><script>alert(1)</script>"};
    cprof__routes_answer(&request, &response);
    assert_null(strstr(response.body.data, "<script>"));
}

static void cmdline_is_parted_by_nul(void **state)
{
    (void)state;
    ask("/debug/pprof/cmdline");
    assert_answer(200, TEXT, NULL);
    assert_true(response.body.length > 0);
    assert_int_equal(strlen(response.body.data),
                     response.body.length); /* this test has no arguments: nothing to part */
    assert_non_null(strstr(response.body.data, "http_routes_test"));
}

/* A function of this test's whose name the symbols know; not static, so that it is in every kind of symbol
 * table. */
int a_function_to_find(int x);
int __attribute__((noinline)) a_function_to_find(int x)
{
    return x * 7919;
}

static void symbols_are_named(void **state)
{
    (void)state;
    char address[32], target[96], wanted[96];
    snprintf(address, sizeof address, "0x%" PRIxPTR, (uintptr_t)a_function_to_find);
    snprintf(wanted, sizeof wanted, "num_symbols: 1\n%s a_function_to_find\n", address);
    snprintf(target, sizeof target, "/debug/pprof/symbol?%s", address);
    ask(target);
    assert_answer(200, TEXT, wanted);
    ask_with("POST", "/debug/pprof/symbol", address);
    assert_answer(200, TEXT, wanted);
    /* pprof asks beside the profile that it fetched. */
    ask_with("POST", "/debug/pprof/github.com/some/symbol", address);
    assert_answer(200, TEXT, wanted);
    snprintf(target, sizeof target, "/debug/pprof/symbol?0x1+junk+%s+-1+0xfffffffffffffffff++0xx", address);
    ask(target);
    assert_answer(200, TEXT, wanted);
    ask("/debug/pprof/symbol");
    assert_answer(200, TEXT, "num_symbols: 1\n");
    ask_with("POST", "/debug/pprof/symbol", NULL);
    assert_answer(200, TEXT, "num_symbols: 1\n");
    cprof__response_fini(&response);
    const cprof__request large = {.method = "POST",
                                  .target = "/debug/pprof/symbol",
                                  .authority = "",
                                  .body = "0x1",
                                  .body_length = 3,
                                  .body_too_large = true};
    cprof__routes_answer(&large, &response);
    assert_error(413, NULL);
}

static void ask_to_the_end(const char *target)
{
    ask(target);
    if (response.recording)
        cprof__cpu_end(&response);
}

/* Whatever allocation fails, the answer is whole or says that it is none. */
static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    profile("blobstore.Open");
    char symbol[96];
    snprintf(symbol, sizeof symbol, "/debug/pprof/symbol?0x%" PRIxPTR, (uintptr_t)a_function_to_find);
    const char *const targets[] = {"/debug/pprof/",
                                   "/debug/pprof/blobstore.Open",
                                   "/debug/pprof/blobstore.Open?debug=1",
                                   "/debug/pprof/cmdline",
                                   "/debug/pprof?x=1",
                                   "/debug/pprof/nope",
                                   "/debug/pprof/profile?seconds=1",
                                   symbol};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        ask_to_the_end(targets[i]); /* fills what is cached for ever */
        int status = response.status;
        size_t length = response.body.length + 8;
        long fail_after = 0;
        for (;; fail_after++) {
            cprof__alloc_fail_after(fail_after);
            ask_to_the_end(targets[i]);
            cprof__alloc_fail_after(-1);
            if (response.status == status)
                break;
            assert_int_equal(response.status, 500);
            assert_true(fail_after < 10000);
        }
        if (!strstr(targets[i], "seconds"))                             /* what is sampled differs */
            assert_in_range(response.body.length, length - 16, length); /* a profile holds the time */
        assert_true(fail_after > 2);
    }
}

static int forget(void **state)
{
    (void)state;
    cprof__response_fini(&response);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(profiles_come_as_files_or_as_text, forget),
        cmocka_unit_test_teardown(errors_are_those_of_go, forget),
        cmocka_unit_test_teardown(methods_that_make_no_sense_are_refused, forget),
        cmocka_unit_test_teardown(cpu_profiles_are_begun_and_ended, forget),
        cmocka_unit_test_teardown(what_a_cpu_profile_cannot_be_is_refused, forget),
        cmocka_unit_test_teardown(odd_names_are_listed_and_found, forget),
        cmocka_unit_test_teardown(the_index_tells_how_to_read, forget),
        cmocka_unit_test_teardown(cmdline_is_parted_by_nul, forget),
        cmocka_unit_test_teardown(symbols_are_named, forget),
        cmocka_unit_test_teardown(memory_may_run_out_anywhere, forget),
    };
    return cmocka_run_group_tests_name("http routes", tests, NULL, NULL);
}
