/* SPDX-License-Identifier: MIT
 *
 * UTF-8, for names and labels that may be any bytes (Lua strings are). Readers of proto3 refuse a whole
 * profile for one ill-formed string, so what is not UTF-8 becomes U+FFFD on the way out. Threads: any.
 * Signals: safe.
 */
#ifndef CPROF_ENCODE_UTF8_H
#define CPROF_ENCODE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#define CPROF__UTF8_REPLACEMENT "\xef\xbf\xbd"

/* How many bytes the character at TEXT has, of the LENGTH (at least 1) that follow; 0 where it is ill-formed.
 */
size_t cprof__utf8_character(const char *text, size_t length);

/* Whether the LENGTH bytes at TEXT are UTF-8. */
bool cprof__utf8_valid(const char *text, size_t length);

#endif
