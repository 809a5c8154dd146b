/* SPDX-License-Identifier: MIT
 *
 * See maps.h.
 */
#define _GNU_SOURCE
#include "base/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* What is kept of a line: the addresses, and its end, where the name stands. */
typedef struct line {
    uint64_t low, high;
    char last; /* before the line's end: ']' for "[stack]" */
    int field; /* 0: in LOW; 1: in HIGH; 2: behind */
} line;

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take(line *l, char c)
{
    uint64_t *number = l->field == 0 ? &l->low : &l->high;
    if (l->field < 2 && digit(c) >= 0)
        *number = *number << 4 | (uint64_t)digit(c);
    else if (l->field < 2)
        l->field++;
    l->last = c;
}

bool cprof__maps_find(uint64_t address, uint64_t *low, uint64_t *high)
{
    char piece[512];
    line l = {0};
    uint64_t below = 0;
    bool found = false;
    ssize_t length = 0;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (file >= 0 && !found &&
           ((length = read(file, piece, sizeof piece)) > 0 || (length < 0 && errno == EINTR)))
        for (ssize_t i = 0; i < length && !found; i++) {
            if (piece[i] != '\n') {
                take(&l, piece[i]);
                continue;
            }
            found = address >= l.low && address < l.high;
            if (found) {
                *low = l.last == ']' ? below
                                     : l.low; /* the heap has a name like that, but no thread runs there */
                *high = l.high;
            }
            below = l.high;
            l = (line){0};
        }
    if (file >= 0)
        close(file);
    return found;
}
