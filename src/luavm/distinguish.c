/* SPDX-License-Identifier: MIT
 *
 * See distinguish.h. The code is read with lua_dump, whose first two kilobytes tell functions apart well
 * enough. PUC Lua's dump is the same in every process. LuaJIT's is but for one thing: constant tables list
 * their hash part in an order that a random seed decides. So of each prototype the instructions count in
 * order, and the constants in any order.
 */
#include "luavm/distinguish.h"

#include "base/map.h"

#include <string.h>

#define DUMP_BYTES_MAX 2048
#define LUAJIT_DUMP_VERSION 2
#define LUAJIT_STRIPPED 2u

typedef struct dump {
    uint64_t hash;
    size_t read;
    size_t pieces;
    bool luajit, stripped, unordered; /* unordered: a LuaJIT dump whose layout is not known */
} dump;

/* ---- LuaJIT ---- */

typedef struct cursor {
    const unsigned char *at, *end;
} cursor;

static uint64_t read_uleb(cursor *in)
{
    uint64_t value = 0;
    for (unsigned shift = 0; in->at < in->end && shift < 35; shift += 7) {
        unsigned char byte = *in->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            break;
        }
    }
    return value;
}

static uint64_t hash_unordered(const unsigned char *at, const unsigned char *end)
{
    uint64_t sum = 0;
    for (; at < end; at++) {
        sum += cprof__hash_word(1, *at);
    }
    return sum;
}

/* The header comes as a piece of its own, and then each prototype as one, children first. */
static void read_luajit_header(dump *d, const unsigned char *bytes, size_t size)
{
    d->luajit = true;
    d->unordered = size < 5 || bytes[3] != LUAJIT_DUMP_VERSION;
    d->stripped = size >= 5 && (bytes[4] & LUAJIT_STRIPPED);
}

static void read_luajit_prototype(dump *d, const unsigned char *bytes, size_t size)
{
    cursor in = {bytes, bytes + size};
    const unsigned char *ordered = bytes;
    if (!d->unordered) {
        read_uleb(&in); /* the piece's length */
        in.at += in.end - in.at >= 4 ? 4 : in.end - in.at;
        uint64_t upvalues = in.at > bytes ? in.at[-1] : 0;
        read_uleb(&in);
        read_uleb(&in);
        uint64_t code_bytes = read_uleb(&in) * 4 + upvalues * 2;
        if (!d->stripped && read_uleb(&in) > 0) {
            read_uleb(&in);
            read_uleb(&in);
        }
        uint64_t left = (uint64_t)(in.end - in.at);
        ordered = in.at + (code_bytes < left ? code_bytes : left);
    }
    d->hash = cprof__hash_bytes(d->hash, bytes, (size_t)(ordered - bytes));
    d->hash = cprof__hash_word(d->hash, hash_unordered(ordered, in.end));
}

/* ---- Both ---- */

static int read_piece(lua_State *L, const void *bytes, size_t size, void *data)
{
    (void)L;
    dump *d = data;
    if (d->pieces++ == 0 && size >= 3 && memcmp(bytes, "\033LJ", 3) == 0) {
        read_luajit_header(d, bytes, size);
        return 0;
    }
    if (d->luajit) {
        read_luajit_prototype(d, bytes, size);
    } else {
        size_t left = DUMP_BYTES_MAX - d->read;
        d->hash = cprof__hash_bytes(d->hash, bytes, size < left ? size : left);
    }
    d->read += size;
    return d->read >= DUMP_BYTES_MAX;
}

uint64_t cprof__lua_distinguish(lua_State *L)
{
    dump d = {.hash = 2};
    cprof__lua_dump(L, read_piece, &d);
    return d.hash;
}
