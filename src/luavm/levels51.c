/* SPDX-License-Identifier: MIT
 *
 * The levels of Lua 5.1: an array of CallInfo records, the innermost last. lua_getstack tells a level's place
 * in it; where the array begins and ends stands in the lua_State. Calls that were lost to tail calls are
 * counted in the record of the call that replaced them.
 */
#include "luavm/levels.h"

#include "luavm/levelsjit.h"

#include <string.h>

/* Of the lua_State. */
#define CI_AT 40
#define BASE_CI_AT 80

/* Of a CallInfo. */
#define FUNC_AT 8
#define PC_AT 24
#define TAIL_CALLS_AT 36
#define CALLINFO_SIZE 40

/* Of a Closure. */
#define IS_C_AT 10

static void read(cprof__level *level)
{
    const char *closure = cprof__pointer_at(cprof__pointer_at(level->at + FUNC_AT));
    int tail_calls;
    memcpy(&tail_calls, level->at + TAIL_CALLS_AT, sizeof tail_calls);
    level->closure = closure;
    level->is_lua = !closure[IS_C_AT];
    level->pc = level->is_lua ? (uint64_t)(uintptr_t)cprof__pointer_at(level->at + PC_AT) : 0;
    level->pc_known = true;
    level->tail_calls = level->is_lua ? tail_calls : 0;
}

/* Where level 0 is a Lua function (in a hook) its place is not in its record yet, so that is left to the
 * debug API. */
static bool first(lua_State *L, cprof__level *level)
{
    lua_Debug ar;
    if (!lua_getstack(L, 0, &ar)) {
        return false;
    }
    level->at = cprof__pointer_at((const char *)L + CI_AT);
    level->base = cprof__pointer_at((const char *)L + BASE_CI_AT);
    if (ar.i_ci <= 0 || level->at - level->base != (ptrdiff_t)ar.i_ci * CALLINFO_SIZE) {
        return false;
    }
    level->number = 0;
    read(level);
    return !level->is_lua;
}

static bool next(cprof__level *level)
{
    level->number += 1 + level->tail_calls;
    level->at -= CALLINFO_SIZE;
    if (level->at <= level->base) {
        return false;
    }
    read(level);
    return true;
}

static const cprof__levels reader = {first, next};
const cprof__levels *const cprof__levels_known[] = {&reader, &cprof__levels_jit, NULL};
