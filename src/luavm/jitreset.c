/* SPDX-License-Identifier: MIT
 *
 * See jitreset.h. The stack of a GC64 thread begins with two slots of its own; the outermost function and the word
 * that leads out of its frame follow.
 */
#include "luavm/jitreset.h"

#include "luavm/jitlayout.h"
#include "luavm/levelsjit.h"

#define SLOT 8
#define OUTERMOST_AT 2
#define OUTERMOST_FRAME 3

/* The type of a slot that holds a function, which stands above the pointer. */
#define TYPE_SHIFT 47
#define TYPE_FUNCTION (-9)

/* No number that a program has. */
#define MARK 0x1.63a9f2e95c0d7p-777

static const char *stack_of(const lua_State *L)
{
    return cprof__pointer_at((const char *)L + CPROF__JIT_STACK_AT);
}

/* Where nothing is known of L's stack, or where the host never begins it anew. */
static bool is_fixed(const cprof__luavm *vm, const lua_State *L)
{
    return vm->levels != &cprof__levels_jit || L == vm->main;
}

static bool has_mark(const lua_State *L, uint64_t slot)
{
    const lua_Number mark = MARK;
    const char *at = stack_of(L) + slot * SLOT;
    return at <= cprof__pointer_at((const char *)L + CPROF__JIT_MAX_AT) &&
           cprof__word_at(at) == cprof__word_at((const char *)&mark);
}

/* Pushes the outermost function of L; false, with nothing pushed, where none runs. */
static bool push_outermost(lua_State *L)
{
    lua_Debug ar = {.i_ci = OUTERMOST_FRAME};
    const char *function = stack_of(L) + (size_t)OUTERMOST_AT * SLOT;
    /* An idle thread's values begin where the outermost function would lie. */
    return cprof__pointer_at((const char *)L + CPROF__JIT_BASE_AT) > function &&
           (int64_t)cprof__word_at(function) >> TYPE_SHIFT == TYPE_FUNCTION && lua_getinfo(L, "f", &ar);
}

static bool has_other_outermost(const cprof__luavm *vm, lua_State *L)
{
    lua_Debug ar;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->outermost_ref);
    lua_pushthread(L);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (!push_outermost(L)) {
        lua_pop(L, 1);
        return true;
    }
    bool same = lua_rawequal(L, -1, -2);
    lua_getinfo(L, ">S", &ar); /* pops it */
    lua_pop(L, 1);
    return !same && strcmp(ar.what, "main") == 0;
}

bool cprof__labels_began_anew(const cprof__luavm *vm, lua_State *L, cprof__labels_record record)
{
    uint64_t depend = cprof__labels_record_depends(record);
    if (depend == CPROF__LABELS_ON_NOTHING) {
        return false;
    }
    return depend == CPROF__LABELS_ON_OUTERMOST ? has_other_outermost(vm, L) : !has_mark(L, depend);
}

static void begin(cprof__luavm *vm, lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "kv"); /* a function may refer to its thread */
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    vm->outermost_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

uint64_t cprof__labels_depend(cprof__luavm *vm, lua_State *L, cprof__labels_record old)
{
    uint64_t depend = cprof__labels_record_depends(old);
    if (depend > CPROF__LABELS_ON_OUTERMOST) {
        return depend; /* it gives back what was before */
    }
    if (is_fixed(vm, L) || !push_outermost(L)) {
        return CPROF__LABELS_ON_NOTHING;
    }
    if (!vm->outermost_ref) {
        begin(vm, L);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->outermost_ref);
    lua_pushthread(L);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 2);
    return CPROF__LABELS_ON_OUTERMOST;
}

uint64_t cprof__labels_push_mark(const cprof__luavm *vm, lua_State *L)
{
    lua_pushnumber(L, MARK);
    if (is_fixed(vm, L)) {
        return CPROF__LABELS_ON_NOTHING;
    }
    /* Results take the place of the called function, which lies below the base, beneath a word of its frame. */
    const char *base = cprof__pointer_at((const char *)L + CPROF__JIT_BASE_AT);
    return (uint64_t)(base - stack_of(L)) / SLOT - 2;
}
