/* SPDX-License-Identifier: MIT
 *
 * http/target.c and the links of http/page.c: every name survives the way into a URL and back, and no bytes
 * from the network lead the parser astray.
 */
#include "http/target.h"

#include "base/alloc.h"
#include "cprof.h"
#include "http/page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#define ROUNDS 50000

/* The same sequence in every run. */
static uint32_t random_below(uint32_t limit)
{
    static uint64_t state = 42;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % limit;
}

static void assert_query(const cprof__target *target, const char *key, const char *wanted)
{
    char *value;
    assert_int_equal(cprof__target_query(target, key, &value), 0);
    assert_string_equal(value, wanted);
    cprof__free(value);
}

static void paths_are_decoded_once(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"/", "/", ""},
        {"/debug/pprof/a%20b?debug=1", "/debug/pprof/a b", "debug=1"},
        {"/a%2520b", "/a%20b", ""},
        {"/a+b%2b", "/a+b+", ""},
        {"/%e2%82%AC?a?b", "/\xe2\x82\xac", "a?b"},
        {"//..//", "//..//", ""},
        {"/%3F%23?x=%", "/?#", "x=%"},
        {"http://host:1/debug/pprof/?x", "/debug/pprof/", "x"},
        {"HTTP://host?x", "/", "x"},
        {"http://host", "/", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cprof__target target;
        assert_int_equal(cprof__target_parse(cases[i][0], &target), 0);
        assert_string_equal(target.path, cases[i][1]);
        assert_string_equal(target.query, cases[i][2]);
        cprof__target_fini(&target);
    }
    static const char *const broken[] = {"",    "*",    "host:80", "?x",   "ftp://host/", "/%",
                                         "/%4", "/%4g", "/%g4",    "/%00", "/%2",         "/a%?41"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        cprof__target target;
        assert_int_equal(cprof__target_parse(broken[i], &target), CPROF_EINVAL);
        assert_string_not_equal(cprof_last_error(), "");
    }
}

static void queries_are_read_as_go_reads_them(void **state)
{
    (void)state;
    cprof__target target;
    assert_int_equal(
        cprof__target_parse("/?debug=1&debug=2&&a+b=c+d%2Be&n%61me=x%3Dy=z&flag&bad=%&nul=%00&bad=late&e=",
                            &target),
        0);
    assert_query(&target, "debug", "1");
    assert_query(&target, "a b", "c d+e");
    assert_query(&target, "name", "x=y=z");
    assert_query(&target, "flag", "");
    assert_query(&target, "bad", "late");
    assert_query(&target, "nul", "");
    assert_query(&target, "e", "");
    assert_query(&target, "absent", "");
    assert_query(&target, "deb", "");
    cprof__target_fini(&target);
}

/* What a client does to the path of a link before it asks: segments of dots go, encoded ones too. */
static void assert_kept_by_clients(const char *link)
{
    size_t length = strcspn(link, "?");
    for (const char *segment = link; segment <= link + length; segment += strcspn(segment, "/?") + 1) {
        size_t size = strcspn(segment, "/?");
        bool dots = (size == 1 && segment[0] == '.') || (size == 2 && memcmp(segment, "..", 2) == 0) ||
                    strncasecmp(segment, "%2e", 3) == 0;
        assert_false(dots);
        assert_true(size > 0 || length == 0);
    }
    assert_int_equal(strcspn(link, ":#\\ <>\"'\x7f"), strlen(link));
}

static void assert_round_trip(const char *name)
{
    for (int text = 0; text <= 1; text++) {
        cprof__buffer link = {0}, url = {0};
        cprof__page_link(&link, name, text);
        assert_kept_by_clients(link.data);
        cprof__buffer_format(&url, "/debug/pprof/%s", link.data);
        cprof__target target;
        assert_int_equal(cprof__target_parse(url.data, &target), 0);
        assert_query(&target, "debug", text ? "1" : "");
        if (strcmp(target.path, "/debug/pprof/") == 0)
            assert_query(&target, "name", name);
        else
            assert_string_equal(target.path + strlen("/debug/pprof/"), name);
        cprof__target_fini(&target);
        cprof__buffer_fini(&link);
        cprof__buffer_fini(&url);
    }
}

static void links_lead_back_to_their_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "blobstore.Open", "a/b/c",    "/",          "//",      "/a",     "a/",
        "a//b",           ".",        "..",         "...",     "a/../b", "a/./b",
        "../a",           "a/..",     "a/symbol",   "a b",     "a+b",    "a%20b",
        "100%",           "?x=1",     "#top",       "a&b=c;d", "a:b",    "'\"<>",
        "gr\xc3\xbcn",    "\xff\xfe", "\x01\x7f\n", "\\",      "%2e%2e", "C:\\x",
        "name=x",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_round_trip(names[i]);
    for (int round = 0; round < ROUNDS; round++) {
        static const char alphabet[] = "./%?&=+:#a0 2eE\\\xc3\xbc\x01\xff";
        char name[12] = "";
        for (size_t i = 0, length = 1 + random_below(10); i < length; i++)
            name[i] = round % 2 ? alphabet[random_below(sizeof alphabet - 1)] : (char)(1 + random_below(255));
        assert_round_trip(name);
    }
}

/* Each input lies in a block of its exact size, so that a sanitizer sees the parser look past its end. */
static void no_input_leads_astray(void **state)
{
    (void)state;
    int accepted = 0;
    for (int round = 0; round < ROUNDS; round++) {
        static const char alphabet[] = "%%%%//??&=+01aAfFgG.http://\xff";
        size_t length = random_below(24);
        char *text = malloc(length + 1);
        for (size_t i = 0; i < length; i++)
            text[i] = i == 0 && round % 4 ? '/' : alphabet[random_below(sizeof alphabet - 1)];
        text[length] = 0;
        cprof__target target;
        int error = cprof__target_parse(text, &target);
        if (error) {
            assert_int_equal(error, CPROF_EINVAL);
        } else {
            accepted++;
            assert_int_equal(target.path[0], '/');
            assert_true(strlen(target.path) + strlen(target.query) <= length + 1);
            char *value;
            assert_int_equal(cprof__target_query(&target, "a", &value), 0);
            assert_true(strlen(value) <= strlen(target.query));
            cprof__free(value);
            cprof__target_fini(&target);
        }
        free(text);
    }
    assert_in_range(accepted, ROUNDS / 10, ROUNDS * 9 / 10); /* both ways were gone often */
}

static void memory_may_run_out(void **state)
{
    (void)state;
    cprof__target target;
    for (long fail_after = 0; fail_after < 2; fail_after++) {
        cprof__alloc_fail_after(fail_after);
        int error = cprof__target_parse("/a?b=c", &target);
        cprof__alloc_fail_after(-1);
        assert_int_equal(error, CPROF_ENOMEM);
    }
    assert_int_equal(cprof__target_parse("/a?b=c", &target), 0);
    char *value;
    cprof__alloc_fail_after(0);
    int error = cprof__target_query(&target, "b", &value);
    cprof__alloc_fail_after(-1);
    assert_int_equal(error, CPROF_ENOMEM);
    cprof__target_fini(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_decoded_once),
        cmocka_unit_test(queries_are_read_as_go_reads_them),
        cmocka_unit_test(links_lead_back_to_their_names),
        cmocka_unit_test(no_input_leads_astray),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests_name("http target", tests, NULL, NULL);
}
