/* SPDX-License-Identifier: MIT
 *
 * The levels of LuaJIT 2.1 with 64-bit references (GC64): frames on the Lua stack itself. Below a frame's
 * base lie its function and a word that leads to the frame outside it: the caller's program counter where Lua
 * code called, otherwise a distance with a type in the low bits. A function's place is therefore kept in the
 * frame inside it; where that is not of the first kind (a metamethod's), the debug API knows more.
 */
#include "luavm/levelsjit.h"

#include <string.h>

/* Of the lua_State. */
#define BASE_AT 32
#define TOP_AT 40
#define MAX_AT 48
#define STACK_AT 56

#define SLOT 8
#define STACK_BYTES_MAX (1 << 30)
#define POINTER_MASK ((UINT64_C(1) << 47) - 1)

/* Of a function. */
#define FFID_AT 10
#define FFID_LUA 0

/* Types of frames. */
#define TYPE_MASK 3
#define TYPE_LUA 0
#define TYPE_FULL_MASK 7
#define TYPE_VARARG 3

static const char *function_of(const char *frame)
{
    return (const char *)(uintptr_t)(cprof__word_at(frame - SLOT) & POINTER_MASK);
}

static void read(cprof__level *level)
{
    const char *function = function_of(level->at);
    level->closure = function;
    level->is_lua = function[FFID_AT] == FFID_LUA;
    level->tail_calls = 0;
}

/* The slots of the caller between its base and the called function's frame stand in the call instruction. */
static uint64_t caller_distance(uint64_t pc)
{
    uint32_t instruction;
    memcpy(&instruction, (const char *)(uintptr_t)pc - sizeof instruction, sizeof instruction);
    return (2 + (instruction >> 8 & 0xff)) * (uint64_t)SLOT;
}

static bool first(lua_State *L, cprof__level *level)
{
    lua_Debug ar;
    const char *state = (const char *)L, *stack = cprof__pointer_at(state + STACK_AT);
    const char *base = cprof__pointer_at(state + BASE_AT), *top = cprof__pointer_at(state + TOP_AT);
    const char *max = cprof__pointer_at(state + MAX_AT);
    /* In a LuaJIT of another layout these are no such pointers. */
    if (stack >= base || base > top || top > max || max - stack > STACK_BYTES_MAX ||
        ((uintptr_t)stack | (uintptr_t)base) % SLOT != 0 || !lua_getstack(L, 0, &ar)) {
        return false;
    }
    level->at = base - SLOT;
    level->base = stack + SLOT;
    level->thread = L;
    if ((level->at - stack) / SLOT != (ar.i_ci & 0xffff)) {
        return false;
    }
    level->number = 0;
    level->pc_known = false;
    level->pc = 0;
    read(level);
    return true;
}

static bool next(cprof__level *level)
{
    const char *frame = level->at;
    bool passed_over =
        true; /* a vararg function has two frames, and errors may leave one of the thread itself */
    while (passed_over) {
        uint64_t word = cprof__word_at(frame);
        bool is_lua = (word & TYPE_MASK) == TYPE_LUA;
        uint64_t distance = is_lua ? caller_distance(word) : word & ~(uint64_t)TYPE_FULL_MASK;
        if (distance == 0 || distance >= (uint64_t)(frame - level->base)) {
            return false;
        }
        frame -= distance;
        passed_over =
            (word & TYPE_FULL_MASK) == TYPE_VARARG || function_of(frame) == (const char *)level->thread;
        level->pc = is_lua ? word : 0;
        level->pc_known = is_lua;
    }
    level->at = frame;
    level->number++;
    read(level);
    return true;
}

const cprof__levels cprof__levels_jit = {first, next};
