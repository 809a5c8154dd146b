/* SPDX-License-Identifier: MIT
 *
 * See buffer.h.
 */
#include "http/buffer.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ROOM_MIN 1024u

void cprof__buffer_fini(cprof__buffer *buffer)
{
    cprof__free(buffer->data);
    *buffer = (cprof__buffer){0};
}

/* Makes room for LENGTH bytes and a 0. */
static bool reserve(cprof__buffer *buffer, size_t length)
{
    if (buffer->failed || length >= SIZE_MAX / 2 - buffer->length)
        buffer->failed = true;
    if (buffer->failed || buffer->room - buffer->length > length)
        return !buffer->failed;
    size_t room = buffer->room ? buffer->room : ROOM_MIN;
    while (room - buffer->length <= length)
        room *= 2;
    char *data = cprof__realloc(buffer->data, room);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->room = room;
    return true;
}

void cprof__buffer_append(cprof__buffer *buffer, const void *bytes, size_t length)
{
    if (!reserve(buffer, length))
        return;
    memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = 0;
}

void cprof__buffer_text(cprof__buffer *buffer, const char *text)
{
    cprof__buffer_append(buffer, text, strlen(text));
}

void cprof__buffer_format(cprof__buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !reserve(buffer, (size_t)length))
        return;
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
}

void cprof__buffer_html(cprof__buffer *buffer, const char *text)
{
    for (size_t length; *text; text += length) {
        length = strcspn(text, "&<>\"'");
        if (length > 0)
            cprof__buffer_append(buffer, text, length);
        else
            cprof__buffer_format(buffer, "&#%d;", text[length++]);
    }
}

void cprof__buffer_url(cprof__buffer *buffer, const char *text, const char *keep)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text; text++) {
        if (strchr(plain, *text) || strchr(keep, *text))
            cprof__buffer_append(buffer, text, 1);
        else
            cprof__buffer_format(buffer, "%%%02X", (unsigned)(unsigned char)*text);
    }
}

int cprof__buffer_write(void *context, const void *bytes, size_t length)
{
    cprof__buffer *buffer = context;
    cprof__buffer_append(buffer, bytes, length);
    return buffer->failed ? -1 : 0;
}
