/* SPDX-License-Identifier: MIT
 *
 * See text.h. What the reader (parseGoCount in pprof's profile/legacy_profile.go) takes decides the details:
 * the name in the first line has no white space; a record is digits, " @" and at least one address; every
 * other line begins with '#'; and no line reaches 64 KiB. Frames stand in columns as Go's text/tabwriter sets
 * them (cells padded by tabs of 8).
 */
#include "encode/text.h"

#include "base/alloc.h"
#include "base/error.h"
#include "encode/stream.h"
#include "encode/utf8.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TAB 8u
#define FIELD_BYTES_MAX 8192u /* of a name, function, file or comment; encoding makes it three times that */
#define LABELS_BYTES_MAX 49152u
#define ELLIPSIS "\xe2\x80\xa6"

struct cprof__text {
    cprof__stream output;
    const cprof_value_type *types;
    size_t type_count;
    bool heap;
};

static void put(cprof__text *text, const char *string)
{
    cprof__stream_put(&text->output, string, strlen(string));
}

/* For what is short by nature: numbers, not names. */
static void __attribute__((format(printf, 2, 3))) put_format(cprof__text *text, const char *format, ...)
{
    char buffer[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    cprof__stream_put(&text->output, buffer, (size_t)length);
}

/* The bytes of FIELD that are printed: as many whole characters as there is room for. */
static size_t field_length(const char *field)
{
    size_t length = strlen(field);
    if (length <= FIELD_BYTES_MAX)
        return length;
    length = FIELD_BYTES_MAX;
    while (length > 0 && ((unsigned char)field[length] & 0xc0) == 0x80)
        length--;
    return length;
}

/* NAME as one word: white space, control characters, '%' and '#' (which would begin a comment) are
 * percent-encoded, as they are in the profile's URL, so that different names stay different. */
static void put_name(cprof__text *text, const char *name)
{
    for (size_t i = 0, length = field_length(name); i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        if (byte <= ' ' || byte == 0x7f || byte == '%' || byte == '#')
            put_format(text, "%%%02X", byte);
        else
            cprof__stream_put(&text->output, &byte, 1);
    }
}

/* A name of a function or a file, kept on its line and in its column. Returns: how many characters wide it
 * is. */
static size_t put_field(cprof__text *text, const char *field)
{
    size_t length = field_length(field), width = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)field[i];
        width += (byte & 0xc0) != 0x80;
        if (byte < ' ' || byte == 0x7f)
            byte = '?';
        if (text)
            cprof__stream_put(&text->output, &byte, 1);
    }
    if (field[length]) {
        width++;
        if (text)
            put(text, ELLIPSIS);
    }
    return width;
}

static int begin(cprof_write_fn write, void *context, const cprof_value_type *types, size_t type_count,
                 cprof__text **out)
{
    cprof__text *text = cprof__calloc(1, sizeof *text);
    if (!text)
        return cprof__fail_memory();
    int error = cprof__stream_open(&text->output, write, context, 0);
    if (error) {
        cprof__free(text);
        return error;
    }
    text->types = types;
    text->type_count = type_count;
    *out = text;
    return CPROF_OK;
}

/* Of values in the columns' order: what is in use, then what was allocated. */
static void put_heap_values(cprof__text *text, const int64_t *values)
{
    put_format(text, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @", values[2], values[3], values[0],
               values[1]);
}

int cprof__text_open_heap(cprof_write_fn write, void *context, const int64_t *totals,
                          const cprof_value_type *types, cprof__text **out)
{
    int code = begin(write, context, types, 4, out);
    if (code)
        return code;
    (*out)->heap = true;
    put(*out, "heap profile: ");
    put_heap_values(*out, totals);
    put(*out, " heapprofile\n");
    return CPROF_OK;
}

int cprof__text_open(cprof_write_fn write, void *context, const char *name, int64_t total,
                     const cprof_value_type *types, size_t type_count, cprof__text **out)
{
    int code = begin(write, context, types, type_count, out);
    if (code)
        return code;
    cprof__text *text = *out;
    put_name(text, name);
    put_format(text, " profile: total %" PRId64 "\n", total < 0 ? 0 : total);
    if (total < 0)
        put_format(text, "# total: %" PRId64 "\n", total);
    return CPROF_OK;
}

/* Whether frame INDEX is the first at its address, going from the leaf to the root. Frames inlined into one
 * another share an address, and so do the calls of a function that calls itself in one place: there the
 * innermost frame comes again. */
static bool begins_address(const cprof__text_frame *frames, size_t index, size_t *innermost)
{
    const cprof__text_frame *frame = &frames[index], *first = &frames[*innermost];
    bool begins = index == 0 || frame->address != first->address ||
                  (frame->line == first->line && strcmp(frame->function, first->function) == 0 &&
                   strcmp(frame->file, first->file) == 0);
    if (begins)
        *innermost = index;
    return begins;
}

/* The record's first line. The reader knows no negative counts: such a record is there for people only. */
static void put_addresses(cprof__text *text, const int64_t *values, const cprof__text_frame *frames,
                          size_t frame_count)
{
    if (text->heap)
        put_heap_values(text, values);
    else
        put_format(text, "%s%" PRId64 " @", values[0] < 0 ? "# " : "", values[0]);
    size_t innermost = 0;
    for (size_t i = 0; i < frame_count; i++)
        if (begins_address(frames, i, &innermost))
            put_format(text, " 0x%" PRIx64, frames[i].address + 1);
    put(text, frame_count ? "\n" : " 0x1\n"); /* the reader wants one; 0x1 is its address 0 */
}

/* The columns that a record's first line has no place for. */
static void put_values(cprof__text *text, const int64_t *values)
{
    if (text->type_count < 2 || text->heap)
        return;
    put(text, "# [");
    for (size_t i = 1; i < text->type_count; i++) {
        put(text, i > 1 ? ", " : "");
        put_field(text, text->types[i].type);
        put_format(text, ": %" PRId64 " ", values[i]);
        put_field(text, text->types[i].unit);
    }
    put(text, "]\n");
}

/* The inside of a JSON string, of at most ROOM bytes. Returns: how many it took. */
static size_t put_json(cprof__text *text, const char *string, size_t room)
{
    size_t length = strlen(string), used = 0;
    for (size_t i = 0, size; i < length; i += size ? size : 1) {
        if (used + sizeof ELLIPSIS > room) {
            put(text, ELLIPSIS);
            break;
        }
        size = cprof__utf8_character(string + i, length - i);
        unsigned char byte = (unsigned char)string[i];
        char escaped[8] = CPROF__UTF8_REPLACEMENT;
        if (byte == '"' || byte == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", byte);
        else if (byte < ' ' || byte == 0x7f)
            snprintf(escaped, sizeof escaped, "\\u%04x", byte);
        else if (size > 0)
            snprintf(escaped, sizeof escaped, "%.*s", (int)size, string + i);
        put(text, escaped);
        used += strlen(escaped);
    }
    return used;
}

/* One member of the object. A number with a unit is a string such as "4096 bytes". */
static size_t put_label(cprof__text *text, const cprof_label *label)
{
    const size_t room = LABELS_BYTES_MAX / 4;
    put(text, "\"");
    size_t used = put_json(text, label->key, room);
    put(text, "\":");
    if (label->str) {
        put(text, "\"");
        used += put_json(text, label->str, room);
        put(text, "\"");
    } else if (label->unit && label->unit[0]) {
        put_format(text, "\"%" PRId64 " ", label->num);
        used += put_json(text, label->unit, room);
        put(text, "\"");
    } else {
        put_format(text, "%" PRId64, label->num);
    }
    return used;
}

/* Past half of what a line may hold no label is begun, so that the line stays under the reader's limit. */
static void put_labels(cprof__text *text, const cprof_label *labels, size_t count)
{
    if (count == 0)
        return;
    put(text, "# labels: {");
    size_t used = 0;
    for (size_t i = 0; i < count && used <= LABELS_BYTES_MAX / 2; i++) {
        put(text, i ? ", " : "");
        used += put_label(text, &labels[i]);
        if (used > LABELS_BYTES_MAX / 2 && i + 1 < count)
            put(text, ", \"" ELLIPSIS "\":\"" ELLIPSIS "\"");
    }
    put(text, "}\n");
}

/* "+0x51", or nothing where the function's start is unknown. */
static void format_offset(const cprof__text_frame *frame, char offset[32])
{
    offset[0] = 0;
    if (frame->function_start && frame->function_start <= frame->address)
        snprintf(offset, 32, "+0x%" PRIx64, frame->address - frame->function_start);
}

static size_t address_width(const cprof__text_frame *frame)
{
    return (size_t)snprintf(NULL, 0, "0x%" PRIx64, frame->address);
}

static size_t function_width(const cprof__text_frame *frame)
{
    char offset[32];
    format_offset(frame, offset);
    return put_field(NULL, frame->function) + strlen(offset);
}

static bool has_function(const cprof__text_frame *frame)
{
    return frame->function[0] != 0;
}

static bool has_file(const cprof__text_frame *frame)
{
    return has_function(frame) && frame->file[0] != 0;
}

/* The width of a column in the lines that follow one another and have a cell there, from the first of FRAMES
 * on: that of the widest cell and at least one more, at a tab stop. */
static size_t column_width(const cprof__text_frame *frames, size_t count,
                           bool (*has)(const cprof__text_frame *), size_t (*width)(const cprof__text_frame *))
{
    size_t widest = 0;
    for (size_t i = 0; i < count && has(&frames[i]); i++)
        if (width(&frames[i]) > widest)
            widest = width(&frames[i]);
    return (widest + 1 + TAB - 1) / TAB * TAB;
}

static void pad(cprof__text *text, size_t from, size_t to)
{
    for (size_t tabs = (to - from + TAB - 1) / TAB; tabs > 0; tabs--)
        put(text, "\t");
}

static void put_frames(cprof__text *text, const cprof__text_frame *frames, size_t count)
{
    size_t address_column = 0, function_column = 0;
    for (size_t i = 0; i < count; i++) {
        const cprof__text_frame *frame = &frames[i];
        if (i == 0 || !has_function(frame - 1))
            address_column = column_width(frame, count - i, has_function, address_width);
        if (i == 0 || !has_file(frame - 1))
            function_column = column_width(frame, count - i, has_file, function_width);
        put_format(text, "#\t0x%" PRIx64, frame->address);
        if (has_function(frame)) {
            char offset[32];
            format_offset(frame, offset);
            pad(text, address_width(frame), address_column);
            put_field(text, frame->function);
            put(text, offset);
        }
        if (has_file(frame)) {
            pad(text, function_width(frame), function_column);
            put_field(text, frame->file);
            put_format(text, ":%" PRId64, frame->line);
        }
        put(text, "\n");
    }
}

void cprof__text_sample(cprof__text *text, const int64_t *values, const cprof_label *labels,
                        size_t label_count, const cprof__text_frame *frames, size_t frame_count)
{
    if (text->output.error)
        return;
    put_addresses(text, values, frames, frame_count);
    put_labels(text, labels, label_count);
    put_values(text, values);
    put_frames(text, frames, frame_count);
    put(text, "\n");
}

void cprof__text_comment(cprof__text *text, const char *comment)
{
    put(text, "# ");
    put_field(text, comment);
    put(text, "\n");
}

bool cprof__text_failed(const cprof__text *text)
{
    return text->output.error != 0;
}

int cprof__text_close(cprof__text *text)
{
    int error = cprof__stream_close(&text->output);
    cprof__free(text);
    return error;
}
