/* SPDX-License-Identifier: MIT
 *
 * See strings.h.
 */
#include "base/strings.h"

#include "base/alloc.h"

struct wanted {
    const cprof__strings *strings;
    const char *text;
    size_t length;
};

static bool equal(const void *context, uint32_t number)
{
    const struct wanted *wanted = context;
    const struct cprof__string *string = &wanted->strings->list[number];
    return string->length == wanted->length && memcmp(string->text, wanted->text, wanted->length) == 0;
}

void cprof__strings_fini(cprof__strings *strings)
{
    cprof__arena_fini(&strings->arena);
    cprof__map_fini(&strings->map);
    cprof__free(strings->list);
    *strings = (cprof__strings){0};
}

static int64_t append(cprof__strings *strings, uint64_t hash, const char *text, size_t length)
{
    if (strings->count == strings->room) {
        uint32_t room = strings->room ? strings->room * 2 : 64;
        struct cprof__string *list = cprof__realloc(strings->list, room * sizeof *list);
        if (!list)
            return -1;
        strings->list = list;
        strings->room = room;
    }
    const char *copy = cprof__arena_copy(&strings->arena, text, length);
    if (!copy || !cprof__map_add(&strings->map, hash, strings->count))
        return -1;
    strings->list[strings->count] = (struct cprof__string){copy, length};
    return strings->count++;
}

int64_t cprof__strings_intern(cprof__strings *strings, const char *text, size_t length)
{
    if (strings->count == 0 && append(strings, cprof__hash_bytes(0, "", 0), "", 0) < 0)
        return -1;
    struct wanted wanted = {strings, text, length};
    uint64_t hash = cprof__hash_bytes(0, text, length);
    int64_t number = cprof__map_find(&strings->map, hash, equal, &wanted);
    return number >= 0 ? number : append(strings, hash, text, length);
}
