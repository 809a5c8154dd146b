/* SPDX-License-Identifier: MIT
 *
 * See utf8.h. Source: RFC 3629, section 4: the second byte's range is what excludes overlong forms,
 * surrogates and what lies past U+10FFFF.
 */
#include "encode/utf8.h"

size_t cprof__utf8_character(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return 1;
    size_t size = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
                  : (p[0] & 0xf0) == 0xe0        ? 3
                  : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                 : 0;
    if (size == 0 || size > length)
        return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

bool cprof__utf8_valid(const char *text, size_t length)
{
    while (length > 0) {
        size_t size = cprof__utf8_character(text, length);
        if (size == 0)
            return false;
        text += size;
        length -= size;
    }
    return true;
}
