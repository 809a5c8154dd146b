/* SPDX-License-Identifier: MIT
 *
 * The levels of Lua 5.1: an array of CallInfo records, the innermost last. lua_getstack tells a level's place
 * in it; where the array begins and ends stands in the lua_State. Calls that were lost to tail calls are
 * counted in the record of the call that replaced them.
 */
#include "luavm/levels.h"

#include "luavm/levelsjit.h"

#include <string.h>

/* Of a CallInfo. */
#define PC_AT 24
#define TAIL_CALLS_AT 36

/* Of a Closure. */
#define IS_C_AT 10

static void read(cprof__level *level)
{
    const char *closure = cprof__pointer_at(cprof__pointer_at(level->at + CPROF__CI_FUNC_AT));
    int tail_calls;
    memcpy(&tail_calls, level->at + TAIL_CALLS_AT, sizeof tail_calls);
    level->closure = closure;
    level->is_lua = !closure[IS_C_AT];
    level->pc = level->is_lua ? (uint64_t)(uintptr_t)cprof__pointer_at(level->at + PC_AT) : 0;
    level->pc_known = true;
    level->tail_calls = level->is_lua ? tail_calls : 0;
}

/* Where level 0 is a Lua function (in a hook) its place is not in its record yet: the debug API puts it there. */
static bool first(lua_State *L, cprof__level *level)
{
    lua_Debug ar;
    if (!lua_getstack(L, 0, &ar)) {
        return false;
    }
    level->at = cprof__pointer_at((const char *)L + CPROF__CI_AT);
    level->base = cprof__pointer_at((const char *)L + CPROF__BASE_CI_AT);
    if (ar.i_ci <= 0 || level->at - level->base != (ptrdiff_t)ar.i_ci * CPROF__CI_BYTES) {
        return false;
    }
    level->number = 0;
    read(level);
    if (level->is_lua) {
        lua_getinfo(L, "l", &ar);
        read(level);
    }
    return true;
}

static bool next(cprof__level *level)
{
    level->number += 1 + level->tail_calls;
    level->at -= CPROF__CI_BYTES;
    if (level->at <= level->base) {
        return false;
    }
    read(level);
    return true;
}

static const cprof__levels reader = {first, next};
const cprof__levels *const cprof__levels_known[] = {&reader, &cprof__levels_jit, NULL};
