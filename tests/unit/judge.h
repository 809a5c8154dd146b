/* SPDX-License-Identifier: MIT
 *
 * What unit tests need to let other programs (go tool pprof, protoc, curl) judge our output: collected bytes,
 * a folder, and commands with what they print. A program that is missing fails the test.
 */
#ifndef CPROF_TESTS_JUDGE_H
#define CPROF_TESTS_JUDGE_H

#include <stddef.h>

/* Bytes that were written, with a 0 after them. Zeros are an empty one; free DATA with free. */
typedef struct judge_bytes {
    char *data;
    size_t length;
    size_t writes; /* how many calls brought them */
} judge_bytes;

/* A cprof_write_fn whose CONTEXT is a judge_bytes. */
int judge_write(void *context, const void *data, size_t length);

/* Makes a folder for the test's files and points the programs' own files there (cmocka group setup), and
 * removes it. */
int judge_setup(void **state);
int judge_teardown(void **state);

/* The path of NAME in that folder, valid until the next call but three. */
const char *judge_path(const char *name);

void judge_save(const char *name, const judge_bytes *bytes);

/* Runs a shell command made as printf does, in that folder. Returns: its exit status, and in *OUTPUT what it
 * printed. */
int judge_run(judge_bytes *output, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, for commands that must succeed. Returns: what was printed; the caller frees it. */
char *judge_ask(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
