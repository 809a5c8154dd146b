/* SPDX-License-Identifier: MIT
 *
 * A string table: equal strings get one number, counted from 0 in order of first sight; number 0 is "".
 * Threads: one at a time a table. Signals: unsafe.
 */
#ifndef CPROF_BASE_STRINGS_H
#define CPROF_BASE_STRINGS_H

#include "base/arena.h"
#include "base/map.h"

typedef struct cprof__strings {
    cprof__arena arena;
    cprof__map map;
    struct cprof__string {
        const char *text; /* ends with a 0 */
        size_t length;
    } * list;
    uint32_t count, room;
} cprof__strings;

/* A table of zeros is ready for use. */
void cprof__strings_fini(cprof__strings *strings);

/* The number of the LENGTH bytes at TEXT, or -1 where memory ran out. */
int64_t cprof__strings_intern(cprof__strings *strings, const char *text, size_t length);

#endif
