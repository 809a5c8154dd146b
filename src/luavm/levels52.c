/* SPDX-License-Identifier: MIT
 *
 * The levels of Lua 5.2, 5.3 and 5.4: a list of CallInfo records, each linked to the one that called it. A
 * record begins with the address of the function's stack slot; the others of its fields that matter here lie
 * where the version's lstate.h puts them. The outermost record is the state's own and no level.
 */
#include "luavm/levels.h"

#if LUA_VERSION_NUM == 502
#define STATUS_AT 34
#define PC_AT 56
#define TAIL_BIT (1u << 6)
#elif LUA_VERSION_NUM == 503
#define STATUS_AT 66
#define PC_AT 40
#define TAIL_BIT (1u << 5)
#else
#define STATUS_AT 62
#define PC_AT 32
#define TAIL_BIT (1u << 5)
#endif

/* The low bits of a value's tag, and a Lua function's. */
#define TAG_AT 8
#define TAG_MASK 0x3f
#define TAG_LUA_FUNCTION 6

static void read(cprof__level *level)
{
    const char *slot = cprof__pointer_at(level->at);
    level->closure = cprof__pointer_at(slot);
    level->is_lua = (slot[TAG_AT] & TAG_MASK) == TAG_LUA_FUNCTION;
    level->pc = level->is_lua ? cprof__word_at(level->at + PC_AT) : 0;
    level->pc_known = true;
    level->tail_calls = ((unsigned char)level->at[STATUS_AT] & TAIL_BIT) != 0;
}

static bool first(lua_State *L, cprof__level *level)
{
    lua_Debug ar;
    if (!lua_getstack(L, 0, &ar)) {
        return false;
    }
    level->at = (const char *)ar.i_ci;
    level->number = 0;
    read(level);
    return true;
}

static bool next(cprof__level *level)
{
    const char *outer = cprof__pointer_at(level->at + CPROF__CI_PREVIOUS_AT);
    if (!outer || !cprof__pointer_at(outer + CPROF__CI_PREVIOUS_AT)) {
        return false;
    }
    level->at = outer;
    level->number++;
    read(level);
    return true;
}

static const cprof__levels reader = {first, next};
const cprof__levels *const cprof__levels_known[] = {&reader, NULL};
