/* SPDX-License-Identifier: MIT
 *
 * See judge.h.
 */
#define _GNU_SOURCE
#include "judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[64];

int judge_write(void *context, const void *data, size_t length)
{
    judge_bytes *bytes = context;
    char *grown = realloc(bytes->data, bytes->length + length + 1);
    if (!grown)
        return -1;
    memcpy(grown + bytes->length, data, length);
    bytes->data = grown;
    bytes->length += length;
    bytes->data[bytes->length] = 0;
    bytes->writes++;
    return 0;
}

int judge_setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/cprof-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    /* Go wants a home; what is in ours must not change what it prints. */
    setenv("HOME", folder, 1);
    setenv("PPROF_TMPDIR", folder, 1);
    setenv("GOENV", "off", 1);
    return 0;
}

int judge_teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

const char *judge_path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void judge_save(const char *name, const judge_bytes *bytes)
{
    FILE *file = fopen(judge_path(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->length, file), bytes->length);
    assert_int_equal(fclose(file), 0);
}

static int run(judge_bytes *output, const char *format, va_list arguments)
{
    char *command, *placed;
    assert_true(vasprintf(&command, format, arguments) >= 0);
    assert_true(asprintf(&placed, "cd '%s' && { %s\n} 2>&1", folder, command) >= 0);
    FILE *pipe = popen(placed, "r");
    assert_non_null(pipe);
    char piece[4096];
    for (size_t length; (length = fread(piece, 1, sizeof piece, pipe)) > 0;)
        assert_int_equal(judge_write(output, piece, length), 0);
    if (!output->data)
        assert_int_equal(judge_write(output, "", 0), 0);
    int status = pclose(pipe);
    free(command);
    free(placed);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int judge_run(judge_bytes *output, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int status = run(output, format, arguments);
    va_end(arguments);
    return status;
}

char *judge_ask(const char *format, ...)
{
    judge_bytes output = {0};
    va_list arguments;
    va_start(arguments, format);
    int status = run(&output, format, arguments);
    va_end(arguments);
    if (status != 0)
        fail_msg("status %d: %s", status, output.data);
    return output.data;
}
