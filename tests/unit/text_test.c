/* SPDX-License-Identifier: MIT
 *
 * encode/text.c: the layout is that of Go's runtime/pprof byte for byte, and `go tool pprof` reads it back
 * whatever names and labels hold.
 */
#include "encode/text.h"

#include "base/alloc.h"
#include "judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const cprof_value_type TYPES[] = {{"reads", "count"}, {"bytes", "bytes"}, {"delay", "nanoseconds"}};

static const cprof__text_frame FRAMES[] = {
    {0x47e1f1, 0x47e1a0, "short", "/src/main.c", 12},
    {0x7f0047e1f1, 0x7f0047e1a0, "a_function_with_a_long_name_of_its_own", "/src/main.c", 12},
    {0x47e1f15, 0x47e1f10, "gr\xc3\xbcn", "/src/x.c", 1},
    {0x47e1f1567, 0, "", "", 0},
    {0x47e1f, 0x47e1f - 0x123456, "exactly8", "/src/x.c", 1},
};

/* What text/tabwriter made of the same frames: tabs of 8, a column that ends where a line has no such cell,
 * widths in characters and not in bytes. (Wrapping around zero, the last offset is larger than its address:
 * not printed.) */
static const char GOLDEN[] = "blobs profile: total 5\n"
                             "3 @ 0x47e1f2 0x7f0047e1f2 0x47e1f16 0x47e1f1568 0x47e20\n"
                             "#\t0x47e1f1\tshort+0x51\t\t\t\t\t/src/main.c:12\n"
                             "#\t0x7f0047e1f1\ta_function_with_a_long_name_of_its_own+0x51\t/src/main.c:12\n"
                             "#\t0x47e1f15\tgr\xc3\xbcn+0x5\t\t\t\t\t/src/x.c:1\n"
                             "#\t0x47e1f1567\n"
                             "#\t0x47e1f\texactly8\t/src/x.c:1\n"
                             "\n"
                             "2 @ 0x3\n"
                             "#\t0x2\tf+0x1\ta.c:1\n"
                             "\n";

static cprof__text *begin(judge_bytes *bytes, const char *name, int64_t total, size_t type_count)
{
    cprof__text *text;
    assert_int_equal(cprof__text_open(judge_write, bytes, name, total, TYPES, type_count, &text), 0);
    return text;
}

/* Ends TEXT and returns what pprof makes of it, with ARGUMENTS. */
static char *read_back(cprof__text *text, judge_bytes *bytes, const char *arguments)
{
    assert_int_equal(cprof__text_close(text), 0);
    judge_save("profile.txt", bytes);
    char *output = judge_ask("go tool pprof %s profile.txt", arguments);
    return output;
}

static void layout_is_that_of_go(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, "blobs", 5, 1);
    cprof__text_sample(text, (int64_t[]){3}, NULL, 0, FRAMES, 5);
    cprof__text_sample(text, (int64_t[]){2}, NULL, 0, &(cprof__text_frame){2, 1, "f", "a.c", 1}, 1);
    char *raw = read_back(text, &bytes, "-raw");
    assert_string_equal(bytes.data, GOLDEN);
    assert_non_null(strstr(raw, "PeriodType: blobs count\n"));
    assert_non_null(strstr(raw, "          3: 1 2 3 4 5 \n          2: 6 \n"));
    assert_non_null(strstr(raw, "     1: 0x47e1f1 M=1 \n")); /* pprof's "minus one" is undone */
    free(raw);
    free(bytes.data);
}

static void frames_of_one_address_are_one(void **state)
{
    (void)state;
    /* blob_open inlined into open_all; then fib, which called itself twice in one place and had step inlined
     * there. */
    const cprof__text_frame frames[] = {
        {0x10, 0, "blob_open", "b.c", 7}, {0x10, 0, "open_all", "b.c", 20}, {0x20, 0, "step", "f.c", 3},
        {0x20, 0, "fib", "f.c", 9},       {0x20, 0, "step", "f.c", 3},      {0x20, 0, "fib", "f.c", 9},
        {0x30, 0, "main", "f.c", 30},
    };
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, "blobs", 1, 1);
    cprof__text_sample(text, (int64_t[]){1}, NULL, 0, frames, 7);
    free(read_back(text, &bytes, "-raw"));
    assert_non_null(strstr(
        bytes.data, "\n1 @ 0x11 0x21 0x21 0x31\n#\t0x10\tblob_open\tb.c:7\n#\t0x10\topen_all\tb.c:20\n"));
    free(bytes.data);
}

static void labels_are_json(void **state)
{
    (void)state;
    const cprof_label labels[] = {
        {"a\"b", "c\\d\ne\x01\xff\xc3\xbc", 0, NULL}, {"size", NULL, 4096, "bytes"}, {"try", NULL, -2, NULL}};
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, "blobs", 1, 1);
    cprof__text_sample(text, (int64_t[]){1}, labels, 3, FRAMES, 1);
    char *raw = read_back(text, &bytes, "-raw");
    free(raw);
    assert_non_null(strstr(bytes.data,
                           "0x47e1f2\n# labels: {\"a\\\"b\":\"c\\\\d\\u000ae\\u0001\xef\xbf\xbd\xc3\xbc\", "
                           "\"size\":\"4096 bytes\", \"try\":-2}\n#\t0x47e1f1\t"));
    free(bytes.data);
    free(judge_ask(
        "sed -n 's/^# labels: //p' profile.txt | python3 -c 'import json, sys; json.load(sys.stdin)'"));
}

static void more_columns_stand_in_brackets(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, "io", 7, 3);
    cprof__text_comment(text, "two\nlines");
    cprof__text_sample(text, (int64_t[]){7, 4096, -3}, NULL, 0, FRAMES, 1);
    char *raw = read_back(text, &bytes, "-raw");
    assert_non_null(strstr(raw, "          7: 1 \n"));
    free(raw);
    assert_non_null(strstr(
        bytes.data, "total 7\n# two?lines\n7 @ 0x47e1f2\n# [bytes: 4096 bytes, delay: -3 nanoseconds]\n#\t"));
    free(bytes.data);
}

/* The reader wants one word, then digits: what does not fit is encoded, or becomes a comment. */
static void odd_names_and_numbers_are_read_back(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"open blobs", "open%20blobs"},
        {"#1 50%\t", "%231%2050%25%09"},
        {"a\nb", "a%0Ab"},
        {"gr\xc3\xbcn/x", "gr\xc3\xbcn/x"},
        {"--- threadz 1 ---", "---%20threadz%201%20---"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        judge_bytes bytes = {0};
        cprof__text *text = begin(&bytes, names[i][0], 1, 1);
        cprof__text_sample(text, (int64_t[]){1}, NULL, 0, FRAMES, 5);
        char *raw = read_back(text, &bytes, "-raw");
        char wanted[128] = "PeriodType: ";
        strcat(strcat(wanted, names[i][1]), " count\n");
        if (!strstr(raw, wanted))
            fail_msg("not found: %s in:\n%s", wanted, raw);
        free(raw);
        free(bytes.data);
    }
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, "blobs", -4, 1);
    cprof__text_sample(text, (int64_t[]){-5}, NULL, 0, FRAMES, 2);
    cprof__text_sample(text, (int64_t[]){1}, NULL, 0, NULL, 0);
    char *raw = read_back(text, &bytes, "-raw");
    assert_non_null(strstr(raw, "Samples:\nblobs/count\n          1: 1 \nLocations\n"));
    assert_non_null(
        strstr(bytes.data, "blobs profile: total 0\n# total: -4\n# -5 @ 0x47e1f2 0x7f0047e1f2\n#\t"));
    free(raw);
    free(bytes.data);
}

/* pprof gives up on lines of 64 KiB. */
static void no_line_is_too_long_for_the_reader(void **state)
{
    (void)state;
    static char huge[100000];
    for (size_t i = 0; i + 2 < sizeof huge; i += 2)
        memcpy(huge + i, "\xc3\xbc", 2);
    memcpy(huge, "x", 1); /* so that no bound falls between two characters by luck alone */
    memcpy(huge + 1, "y", 1);
    cprof__text_frame frames[1024];
    for (size_t i = 0; i < 1024; i++)
        frames[i] = (cprof__text_frame){UINT64_MAX - 1 - i, 0, "f", "", 0};
    frames[3].function = frames[3].file = huge;
    const cprof_label labels[] = {
        {huge, huge, 0, NULL}, {huge, NULL, INT64_MIN, huge}, {"k", huge, 0, NULL}, {"z", "z", 0, NULL}};
    judge_bytes bytes = {0};
    cprof__text *text = begin(&bytes, huge + 1, INT64_MAX, 1);
    cprof__text_comment(text, huge);
    cprof__text_sample(text, (int64_t[]){INT64_MAX}, labels, 4, frames, 1024);
    char *raw = read_back(text, &bytes, "-raw");
    assert_non_null(strstr(raw, " 1022 1023 1024 \n"));
    free(raw);
    size_t longest = 0;
    for (char *line = bytes.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        longest = (size_t)(end - line) > longest ? (size_t)(end - line) : longest;
    assert_true(longest < 65536);
    free(bytes.data);
    free(judge_ask("iconv -f utf-8 -t utf-16 < profile.txt > /dev/null"));
    free(judge_ask(
        "sed -n 's/^# labels: //p' profile.txt | python3 -c 'import json, sys; json.load(sys.stdin)'"));
}

static int refuse(void *context, const void *data, size_t length)
{
    (void)data;
    (void)length;
    ++*(int *)context;
    return -1;
}

static void errors_stay(void **state)
{
    (void)state;
    int calls = 0;
    cprof__text *text;
    assert_int_equal(cprof__text_open(refuse, &calls, "blobs", 1, TYPES, 1, &text), 0);
    for (int i = 0; i < 2000; i++)
        cprof__text_sample(text, (int64_t[]){1}, NULL, 0, FRAMES, 5);
    assert_int_equal(cprof__text_close(text), CPROF_ECANCELED);
    assert_int_equal(calls, 1);
    for (long fail_after = 0; fail_after < 2; fail_after++) {
        cprof__alloc_fail_after(fail_after);
        int error = cprof__text_open(refuse, &calls, "blobs", 1, TYPES, 1, &text);
        cprof__alloc_fail_after(-1);
        assert_int_equal(error, CPROF_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_is_that_of_go),
        cmocka_unit_test(frames_of_one_address_are_one),
        cmocka_unit_test(labels_are_json),
        cmocka_unit_test(more_columns_stand_in_brackets),
        cmocka_unit_test(odd_names_and_numbers_are_read_back),
        cmocka_unit_test(no_line_is_too_long_for_the_reader),
        cmocka_unit_test(errors_stay),
    };
    return cmocka_run_group_tests_name("text", tests, judge_setup, judge_teardown);
}
