/* SPDX-License-Identifier: MIT
 *
 * Reads the levels of a Lua stack from the VM's own records instead of through lua_getstack and lua_getinfo,
 * which cost ten times as much. Records differ from Lua to Lua, so a reader is used only after it has told,
 * of a few calls made for the purpose, exactly what the debug API told of them; otherwise the debug API stays
 * in use.
 *
 * One reader a runtime: levels51.c, levels52.c (to 5.4), levelsjit.c.
 * Threads: the one that runs the state.
 */
#ifndef CPROF_LUAVM_LEVELS_H
#define CPROF_LUAVM_LEVELS_H

#include "luavm/variant.h"

#include <stdint.h>
#include <string.h>

/* One level, and where the next one outward is to be found. */
typedef struct cprof__level {
    const void *closure; /* as lua_topointer gives it */
    uint64_t pc;    /* of a Lua function: where it is, equal only on equal lines; 0 where that is not known */
    int tail_calls; /* how many calls were lost between this level and the next */
    bool is_lua;
    bool pc_known;           /* false: of this level the line must be asked */
    int number;              /* for lua_getstack */
    const char *at, *base;   /* the reader's */
    const lua_State *thread; /* likewise */
} cprof__level;

typedef struct cprof__levels {
    bool (*first)(lua_State *L,
                  cprof__level *level); /* level 0; false where there is none, or it is not readable */
    bool (*next)(cprof__level *level);  /* the next one outward; false where there is none */
} cprof__levels;

/* The readers to try, ended by NULL. */
extern const cprof__levels *const cprof__levels_known[];

/* The reader that fits the Lua of L, or NULL. Runs a little Lua code; may raise where memory is short. */
const cprof__levels *cprof__levels_choose(lua_State *L);

/* For readers. */
static inline uint64_t cprof__word_at(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline const char *cprof__pointer_at(const char *at)
{
    return (const char *)(uintptr_t)cprof__word_at(at);
}

#endif
