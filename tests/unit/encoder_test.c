/* SPDX-License-Identifier: MIT
 *
 * encode/encoder.c: what it writes is read by `go tool pprof` and by protoc; its errors stay; it survives
 * running out of memory anywhere.
 */
#include "encode/encoder.h"

#include "base/alloc.h"
#include "judge.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const cprof_value_type TYPES[] = {{"reads", "count"}, {"bytes", "bytes"}};

/* main (main.c:9) calls open_all (blob.c:20), into which blob_open (blob.c:7) was inlined; and a Lua
 * function. */
static int encode_small(cprof_write_fn write, void *context, int gzip_level)
{
    cprof__encoder *encoder;
    int error = cprof__encoder_open(write, context, gzip_level, &encoder);
    if (error)
        return error;
    cprof__encoder_sample_types(encoder, TYPES, 2);
    cprof__encoder_period(encoder, &TYPES[0], 1);
    cprof__encoder_time(encoder, INT64_C(1700000000000000000), 5000);
    cprof__encoder_default_sample_type(encoder, "reads");
    cprof__encoder_comment(encoder, "a remark");
    cprof__encoder_mapping(encoder, &(cprof__encode_mapping){1, 0x400000, 0x500000, 0x1000, "/bin/blobs",
                                                             "abcdef", true, true, true, true});
    cprof__encoder_mapping(encoder, &(cprof__encode_mapping){2, UINT64_C(1) << 52, UINT64_C(3) << 51, 0,
                                                             "[lua]", "", true, true, true, false});
    cprof__encoder_function(encoder, &(cprof__encode_function){1, "main", "main", "main.c", 3});
    cprof__encoder_function(encoder, &(cprof__encode_function){2, "open_all", "open_all", "blob.c", 18});
    cprof__encoder_function(encoder, &(cprof__encode_function){3, "blob_open", "blob_open", "blob.c", 5});
    cprof__encoder_function(encoder, &(cprof__encode_function){4, "serve", "serve", "@app.lua", 0});
    const cprof__encode_line lines[] = {{3, 7}, {2, 20}};
    cprof__encoder_location(encoder, &(cprof__encode_location){1, 1, 0x401234, lines, 2});
    cprof__encoder_location(encoder,
                            &(cprof__encode_location){2, 1, 0x402345, &(cprof__encode_line){1, 9}, 1});
    cprof__encoder_location(
        encoder, &(cprof__encode_location){3, 2, (UINT64_C(1) << 52) + 40, &(cprof__encode_line){4, 20}, 1});
    const cprof_label labels[] = {
        {"route", "/blob", 0, NULL}, {"size", NULL, 4096, "bytes"}, {"try", NULL, -2, NULL}};
    cprof__encoder_sample(encoder,
                          &(cprof__encode_sample){(uint64_t[]){1, 2}, 2, (int64_t[]){800, 1 << 20}, NULL, 0});
    cprof__encoder_sample(encoder,
                          &(cprof__encode_sample){(uint64_t[]){3, 1, 2}, 3, (int64_t[]){3, -7}, labels, 3});
    return cprof__encoder_close(encoder);
}

static void pprof_reads_every_field(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    assert_int_equal(encode_small(judge_write, &bytes, 1), 0);
    assert_memory_equal(bytes.data, "\x1f\x8b\x08\0\0\0\0\0",
                        8); /* gzip, no time: equal profiles are equal bytes */
    judge_save("small.pb.gz", &bytes);
    free(bytes.data);
    char *raw = judge_ask("go tool pprof -raw small.pb.gz");
    static const char *const lines[] = {
        "Comment: a remark\n",
        "PeriodType: reads count\nPeriod: 1\nTime: 2023-11-14 ",
        "\nDuration: 5",
        "\nreads/count[dflt] bytes/bytes\n        800    1048576: 1 2 \n          3         -7: 3 1 2 \n",
        "                route:[/blob]\n                size:[4096 bytes] try:[-2]\n",
        "     1: 0x401234 M=1 blob_open blob.c:7 s=5\n             open_all blob.c:20 s=18\n",
        "     2: 0x402345 M=1 main main.c:9 s=3\n",
        "     3: 0x10000000000028 M=2 serve @app.lua:20 s=0\n",
        "1: 0x400000/0x500000/0x1000 /bin/blobs abcdef [FN][FL][LN][IN]\n",
        "2: 0x10000000000000/0x18000000000000/0x0 [lua]  [FN][FL][LN]\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(raw, lines[i]))
            fail_msg("not found:\n%s\nin:\n%s", lines[i], raw);
    free(raw);
    char *top = judge_ask("go tool pprof -top -sample_index=reads small.pb.gz");
    assert_non_null(strstr(top, "800 99.63% 99.63%        803   100%  blob_open"));
    free(top);
}

/* pprof drops a label with neither a string, a unit nor a number other than 0. */
static void a_label_of_zero_is_shown(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__encoder *encoder;
    assert_int_equal(cprof__encoder_open(judge_write, &bytes, 1, &encoder), 0);
    cprof__encoder_sample_types(encoder, &(cprof_value_type){"a", "count"}, 1);
    cprof__encoder_location(encoder, &(cprof__encode_location){1, 0, 0x1000, NULL, 0});
    for (int64_t i = 0; i < 3; i++) {
        const cprof_label labels[] = {
            {"request", NULL, i * 4096, ""}, {"shard", NULL, i, NULL}, {"wait", NULL, i, "ms"}};
        cprof__encoder_sample(encoder, &(cprof__encode_sample){&(uint64_t){1}, 1, &(int64_t){1}, labels, 3});
    }
    assert_int_equal(cprof__encoder_close(encoder), 0);
    judge_save("zero.pb.gz", &bytes);
    free(bytes.data);
    char *tags = judge_ask("go tool pprof -tags zero.pb.gz");
    static const char *const lines[] = {
        " request: Total 3.0\n          1.0 (33.33%): 0\n          1.0 (33.33%): 4kB\n",
        " shard: Total 3.0\n        1.0 (33.33%): 0\n        1.0 (33.33%): 1\n        1.0 (33.33%): 2\n",
        " wait: Total 3.0\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(tags, lines[i]))
            fail_msg("not found:\n%s\nin:\n%s", lines[i], tags);
    free(tags);
    tags = judge_ask("go tool pprof -tags -tagfocus=shard=0 zero.pb.gz 2>/dev/null");
    assert_non_null(strstr(tags, " shard: Total 1.0\n        1.0 (  100%): 0\n"));
    free(tags);
}

static void protoc_reads_it_against_the_schema(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    assert_int_equal(encode_small(judge_write, &bytes, 0), 0);
    judge_save("small.pb", &bytes);
    free(bytes.data);
    char *text = judge_ask(
        "protoc --decode=perftools.profiles.Profile --proto_path=%s profile.proto < small.pb", PROTO_DIR);
    assert_memory_equal(text, "sample_type {\n", 14);
    assert_non_null(strstr(text, "string_table: \"\"\nstring_table: \"reads\"\nstring_table: \"count\"\n"));
    assert_non_null(strstr(text, "time_nanos: 1700000000000000000\nduration_nanos: 5000\n"));
    assert_non_null(strstr(text, "    num: -2\n"));
    assert_null(strstr(text, "13:")); /* a field that the schema does not know is shown by its number */
    free(text);
    /* The same bytes come out of gzip at any level. */
    for (int level = 1; level <= 9; level += 4) {
        judge_bytes packed = {0};
        assert_int_equal(encode_small(judge_write, &packed, level), 0);
        judge_save("packed.gz", &packed);
        free(packed.data);
        free(judge_ask("gzip -dc packed.gz | cmp - small.pb"));
    }
}

static void an_empty_profile_is_read(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__encoder *encoder;
    assert_int_equal(cprof__encoder_open(judge_write, &bytes, 1, &encoder), 0);
    cprof__encoder_sample_types(encoder, TYPES, 1);
    assert_int_equal(cprof__encoder_close(encoder), 0);
    judge_save("empty.pb.gz", &bytes);
    free(bytes.data);
    char *raw = judge_ask("go tool pprof -raw empty.pb.gz");
    assert_non_null(strstr(raw, "Samples:\nreads/count\nLocations\nMappings\n"));
    free(raw);
}

/* A reader of proto3 refuses the profile for one string that is not UTF-8; Lua's strings are any bytes. */
static void ill_formed_strings_are_repaired(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__encoder *encoder;
    assert_int_equal(cprof__encoder_open(judge_write, &bytes, 0, &encoder), 0);
    cprof__encoder_sample_types(encoder, TYPES, 1);
    static const char *const texts[] = {
        "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x8d", /* well formed */
        "<\xff>",
        "<\xc3",
        "<\xc0\xaf>",
        "<\xed\xa0\x80>",
        "<\xf4\x90\x80\x80>",
        "<\xe2\x82>",
        "<\xf0\x9f\x90>",
    };
    static const char *const expected[] = {
        "comment: 3",
        "string_table: \"gr\\303\\274\\303\\237 \\342\\202\\254 \\360\\237\\220\\215\"\n",
        "string_table: \"<\\357\\277\\275>\"\n",
        "string_table: \"<\\357\\277\\275\"\n",
        "string_table: \"<\\357\\277\\275\\357\\277\\275>\"\n",
        "string_table: \"<\\357\\277\\275\\357\\277\\275\\357\\277\\275>\"\n",
        "string_table: \"<\\357\\277\\275\\357\\277\\275\\357\\277\\275\\357\\277\\275>\"\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        cprof__encoder_comment(encoder, texts[i]);
    assert_int_equal(cprof__encoder_close(encoder), 0);
    judge_save("repaired.pb", &bytes);
    free(bytes.data);
    char *text = judge_ask(
        "protoc --decode=perftools.profiles.Profile --proto_path=%s profile.proto < repaired.pb", PROTO_DIR);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(text, expected[i]))
            fail_msg("not found: %s in:\n%s", expected[i], text);
    free(text);
}

/* Many samples and strings: pieces in order, none of them large, all of it read back. */
static void large_profiles_come_in_pieces(void **state)
{
    (void)state;
    enum { LOCATIONS = 20000 };
    for (int level = 0; level <= 1; level++) {
        judge_bytes bytes = {0};
        cprof__encoder *encoder;
        assert_int_equal(cprof__encoder_open(judge_write, &bytes, level, &encoder), 0);
        cprof__encoder_sample_types(encoder, TYPES, 1);
        for (uint64_t i = 1; i <= LOCATIONS; i++) {
            char name[32];
            snprintf(name, sizeof name, "function_%" PRIu64, i * 7919);
            cprof__encoder_function(encoder, &(cprof__encode_function){i, name, name, "many.c", 0});
            cprof__encoder_location(
                encoder, &(cprof__encode_location){i, 0, i * 16, &(cprof__encode_line){i, (int64_t)i}, 1});
            cprof__encoder_sample(encoder, &(cprof__encode_sample){&i, 1, &(int64_t){2}, NULL, 0});
        }
        assert_int_equal(cprof__encoder_close(encoder), 0);
        assert_true(bytes.writes >= bytes.length / 32768 && bytes.writes <= bytes.length / 32768 + 1);
        judge_save("many.pb", &bytes);
        free(bytes.data);
        char *top = judge_ask("go tool pprof -top -nodecount=3 many.pb");
        assert_non_null(strstr(top, "of 40000 total"));
        free(top);
    }
}

/* A stack of 1,024 frames and hundreds of labels outgrow every first buffer. */
static void one_large_message(void **state)
{
    (void)state;
    judge_bytes bytes = {0};
    cprof__encoder *encoder;
    assert_int_equal(cprof__encoder_open(judge_write, &bytes, 1, &encoder), 0);
    cprof__encoder_sample_types(encoder, TYPES, 1);
    uint64_t ids[1025];
    cprof__encode_line lines[300];
    cprof_label labels[300];
    char keys[300][16];
    for (uint64_t i = 0; i < 1024; i++) {
        ids[i] = i + 1;
        cprof__encoder_location(encoder, &(cprof__encode_location){i + 1, 0, 0x1000 + i, NULL, 0});
    }
    cprof__encoder_function(encoder, &(cprof__encode_function){1, "f", "f", "f.c", 1});
    for (int i = 0; i < 300; i++) {
        lines[i] = (cprof__encode_line){1, i + 1};
        snprintf(keys[i], sizeof keys[i], "key%03d", i);
        labels[i] = (cprof_label){keys[i], "value", 0, NULL};
    }
    ids[1024] = 1025;
    cprof__encoder_location(encoder, &(cprof__encode_location){1025, 0, 0x9000, lines, 300});
    cprof__encoder_sample(encoder, &(cprof__encode_sample){ids, 1025, &(int64_t){1}, labels, 300});
    assert_int_equal(cprof__encoder_close(encoder), 0);
    judge_save("large.pb.gz", &bytes);
    free(bytes.data);
    char *raw = judge_ask("go tool pprof -raw large.pb.gz");
    assert_non_null(strstr(raw, " 1023 1024 1025 \n"));
    assert_non_null(strstr(raw, "key299:[value]"));
    assert_non_null(strstr(raw, "f f.c:300 s=1\n"));
    free(raw);
}

static int write_until(void *context, const void *data, size_t length)
{
    (void)data;
    (void)length;
    int *left = context;
    assert_true(*left >= 0); /* not called again after it gave up */
    return (*left)-- > 0 ? 0 : 1;
}

static void a_receiver_that_gives_up_is_left_alone(void **state)
{
    (void)state;
    for (int level = 0; level <= 1; level++) {
        int left = 0;
        assert_int_equal(encode_small(write_until, &left, level), CPROF_ECANCELED);
        assert_int_equal(left, -1);
        assert_string_equal(cprof_last_error_name(), "ECANCELED");
        left = 1;
        assert_int_equal(encode_small(write_until, &left, level), 0);
    }
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    for (int level = 0; level <= 1; level++) {
        long fail_after = 0;
        for (;; fail_after++) {
            judge_bytes bytes = {0};
            cprof__alloc_fail_after(fail_after);
            int error = encode_small(judge_write, &bytes, level);
            cprof__alloc_fail_after(-1);
            free(bytes.data);
            if (!error)
                break;
            assert_int_equal(error, CPROF_ENOMEM);
            assert_true(fail_after < 1000);
        }
        assert_true(fail_after > 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pprof_reads_every_field),
        cmocka_unit_test(a_label_of_zero_is_shown),
        cmocka_unit_test(protoc_reads_it_against_the_schema),
        cmocka_unit_test(an_empty_profile_is_read),
        cmocka_unit_test(ill_formed_strings_are_repaired),
        cmocka_unit_test(large_profiles_come_in_pieces),
        cmocka_unit_test(one_large_message),
        cmocka_unit_test(a_receiver_that_gives_up_is_left_alone),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests_name("encoder", tests, judge_setup, judge_teardown);
}
