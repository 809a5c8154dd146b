/* SPDX-License-Identifier: MIT
 *
 * See target.h.
 */
#include "http/target.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes the LENGTH bytes at TEXT into OUT (LENGTH + 1 bytes). Returns false where an escape is broken or
 * means 0, which no name can hold. */
static bool decode(const char *text, size_t length, bool plus_is_space, char *out)
{
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        *out++ = c;
    }
    *out = 0;
    return true;
}

/* Where the path of TEXT begins, "/" where an absolute form has none; NULL in other forms. */
static const char *find_path(const char *text)
{
    static const char scheme[] = "http://";
    if (text[0] == '/')
        return text;
    if (strncasecmp(text, scheme, sizeof scheme - 1) != 0)
        return NULL;
    const char *path = text + sizeof scheme - 1;
    path += strcspn(path, "/?");
    return path[0] == '/' ? path : "/";
}

int cprof__target_parse(const char *text, cprof__target *target)
{
    const char *path = find_path(text);
    if (!path)
        return cprof__fail(CPROF_EINVAL, "the request's target is neither a path nor an http URL");
    size_t path_length = strcspn(path, "?");
    const char *query = strchr(text, '?');
    cprof__target parsed = {cprof__malloc(path_length + 1), cprof__strdup(query ? query + 1 : "")};
    int error = CPROF_OK;
    if (!parsed.path || !parsed.query)
        error = cprof__fail_memory();
    else if (!decode(path, path_length, false, parsed.path))
        error = cprof__fail(CPROF_EINVAL, "the request's path has a broken escape");
    if (error)
        cprof__target_fini(&parsed);
    else
        *target = parsed;
    return error;
}

void cprof__target_fini(cprof__target *target)
{
    cprof__free(target->path);
    cprof__free(target->query);
    *target = (cprof__target){NULL, NULL};
}

/* Whether the LENGTH bytes at FIELD, "key=value" or "key", name KEY; then ROOM holds the value. */
static bool field_value(const char *field, size_t length, const char *key, char *room)
{
    const char *equals = memchr(field, '=', length);
    size_t key_length = equals ? (size_t)(equals - field) : length;
    if (!decode(field, key_length, true, room) || strcmp(room, key) != 0)
        return false;
    const char *value = equals ? equals + 1 : field + length;
    return decode(value, (size_t)(field + length - value), true, room);
}

int cprof__target_query(const cprof__target *target, const char *key, char **value)
{
    char *room = cprof__malloc(strlen(target->query) + 1);
    if (!room)
        return cprof__fail_memory();
    const char *field = target->query;
    for (size_t length; *field; field += length + (field[length] == '&')) {
        length = strcspn(field, "&");
        if (field_value(field, length, key, room))
            break;
    }
    if (!*field)
        room[0] = 0;
    *value = room;
    return CPROF_OK;
}

long long cprof__target_number(const char *text)
{
    const char *digits = text + (text[0] == '+' || text[0] == '-');
    if (digits[0] == 0 || digits[strspn(digits, "0123456789")] != 0)
        return 0;
    return strtoll(text, NULL, 10);
}
