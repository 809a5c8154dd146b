/* SPDX-License-Identifier: MIT
 *
 * Reads DWARF's numbers from bytes that may be anything: what would lie past the end reads as 0 and marks the
 * cursor bad.
 */
#ifndef CPROF_CORE_CURSOR_H
#define CPROF_CORE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct cprof__cursor {
    const uint8_t *at, *end;
    bool bad;
} cprof__cursor;

static inline size_t cprof__cursor_left(const cprof__cursor *c)
{
    return (size_t)(c->end - c->at);
}

static inline void cprof__cursor_skip(cprof__cursor *c, uint64_t size)
{
    if (size > cprof__cursor_left(c)) {
        c->bad = true;
        c->at = c->end;
    } else {
        c->at += size;
    }
}

/* An unsigned number of SIZE bytes, at most 8, lowest first. */
static inline uint64_t cprof__cursor_uint(cprof__cursor *c, size_t size)
{
    const uint8_t *at = c->at;
    uint64_t value = 0;
    cprof__cursor_skip(c, size);
    if (!c->bad)
        memcpy(&value, at, size);
    return value;
}

static inline int64_t cprof__cursor_int(cprof__cursor *c, size_t size)
{
    uint64_t value = cprof__cursor_uint(c, size), sign = UINT64_C(1) << (size * 8 - 1);
    return (int64_t)((value ^ sign) - sign);
}

/* Bits beyond the 64th are dropped. */
static inline uint64_t cprof__cursor_uleb(cprof__cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint64_t byte = cprof__cursor_uint(c, 1);
        if (shift < 64)
            value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
}

static inline int64_t cprof__cursor_sleb(cprof__cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0;;) {
        uint64_t byte = cprof__cursor_uint(c, 1);
        if (shift < 64)
            value |= (byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) {
            if (shift < 64 && byte & 0x40)
                value |= ~UINT64_C(0) << shift;
            return (int64_t)value;
        }
    }
}

#endif
