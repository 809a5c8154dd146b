/* SPDX-License-Identifier: MIT
 *
 * See error.h. The names and meanings come from the one table in cprof.h.
 */
#define _GNU_SOURCE
#include "base/error.h"

#include "base/thread.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *cprof_strerror(int code)
{
    switch (code) {
    case CPROF_OK:
        return "success";
#define TEXT(NAME, VALUE, MEANING)                                                                           \
    case CPROF_##NAME:                                                                                       \
        return MEANING;
        CPROF_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}

static const char *code_name(int code)
{
    switch (code) {
#define NAME(NAME, VALUE, MEANING)                                                                           \
    case CPROF_##NAME:                                                                                       \
        return #NAME;
        CPROF_ERRORS(NAME)
#undef NAME
    default:
        return "";
    }
}

const char *cprof_last_error(void)
{
    const cprof__thread *thread = cprof__thread_peek();
    if (!thread || thread->error_code == CPROF_OK)
        return "";
    return thread->error_text[0] ? thread->error_text : cprof_strerror(thread->error_code);
}

const char *cprof_last_error_name(void)
{
    const cprof__thread *thread = cprof__thread_peek();
    if (!thread || thread->error_code == CPROF_OK)
        return "";
    if (thread->error_code == CPROF_ESYSTEM && thread->error_errno) {
        const char *name = strerrorname_np(thread->error_errno);
        return name ? name : "ESYSTEM";
    }
    return code_name(thread->error_code);
}

static int record(int code, int errnum, const char *format, va_list arguments)
{
    cprof__thread *thread = cprof__thread_self();
    if (!thread)
        return code;
    thread->error_code = code;
    thread->error_errno = errnum;
    int length = vsnprintf(thread->error_text, sizeof thread->error_text, format, arguments);
    if (errnum && length >= 0 && (size_t)length < sizeof thread->error_text) {
        char buffer[128];
        snprintf(thread->error_text + length, sizeof thread->error_text - (size_t)length, ": %s",
                 strerror_r(errnum, buffer, sizeof buffer));
    }
    return code;
}

int cprof__fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(code, 0, format, arguments);
    va_end(arguments);
    return code;
}

int cprof__fail_errno(int errnum, const char *format, ...)
{
    int code = errnum == ENOMEM ? CPROF_ENOMEM : errnum == EADDRINUSE ? CPROF_EADDRINUSE : CPROF_ESYSTEM;
    va_list arguments;
    va_start(arguments, format);
    record(code, errnum, format, arguments);
    va_end(arguments);
    return code;
}

int cprof__fail_memory(void)
{
    return cprof__fail(CPROF_ENOMEM, "out of memory");
}
