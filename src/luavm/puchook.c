/* SPDX-License-Identifier: MIT
 *
 * The hook of pucsignal.h: the safepoint. It first puts back what the host had, with the instructions that are still
 * to go until the host's own count hook, then tells the core, then gives the host the event that it would have had.
 */
#include "luavm/names.h"
#include "luavm/puclayout.h"
#include "luavm/pucsignal.h"

#include <stdbool.h>
#include <string.h>

static uint64_t word_at(const void *base, size_t at)
{
    uint64_t word;
    memcpy(&word, (const char *)base + at, sizeof word);
    return word;
}

/* A C function may have called Lua code before an event could be seen. */
#define LEVELS_MAX 16

/* A call of L, by its CallInfo (its number, in 5.1, whose records move), as pucsignal.c notes it. */
#if LUA_VERSION_NUM == 501
static const char *record_of(const lua_State *L, uint64_t ci)
{
    return (const char *)(uintptr_t)word_at(L, CPROF__BASE_CI_AT) + ci * CPROF__CI_BYTES;
}

static uint64_t caller_of(const lua_State *L, uint64_t ci)
{
    (void)L;
    return ci - 1;
}
#else
static const char *record_of(const lua_State *L, uint64_t ci)
{
    (void)L;
    return (const char *)(uintptr_t)ci;
}

static uint64_t caller_of(const lua_State *L, uint64_t ci)
{
    return word_at(record_of(L, ci), CPROF__CI_PREVIOUS_AT);
}
#endif

static uint64_t function_of(const lua_State *L, uint64_t ci)
{
    return word_at((const void *)(uintptr_t)word_at(record_of(L, ci), CPROF__CI_FUNC_AT), 0);
}

/* The frames that a walk tells of the innermost LEVELS of L: a tail call is one of its own. */
static int frames_of(lua_State *L, int levels)
{
    int frames = levels;
#if LUA_VERSION_NUM > 501
    lua_Debug ar;
    for (int i = 0; i < levels && lua_getstack(L, i, &ar); i++) {
        lua_getinfo(L, "t", &ar);
        frames += ar.istailcall ? 1 : 0;
    }
#else
    (void)L;
#endif
    return frames;
}

/* 5.4 looks for hooks only where it branches or calls, so what ran may have made way, in its very place, for a function
 * that it tail called, which is then LEVEL levels out. */
static bool made_way(lua_State *L, int level)
{
#if LUA_VERSION_NUM >= 504
    lua_Debug ar;
    return lua_getstack(L, level, &ar) && lua_getinfo(L, "t", &ar) && ar.istailcall;
#else
    (void)L;
    (void)level;
    return false;
#endif
}

/* Which of the callers noted in THEN the call CI is, from 0; -1: none. */
static int caller_number(const cprof_vm_moment *then, const lua_State *L, uint64_t ci)
{
    for (int i = 0; i < CPROF__CALLERS_MAX && then->callers[2 * i]; i++) {
        if (then->callers[2 * i] == ci) {
            return then->callers[2 * i + 1] == function_of(L, ci) ? i : -1;
        }
    }
    return -1;
}

/* Whether CI, at LEVEL, is the call that ran then. *FRAMES gets how many frames came after it. */
static bool is_then(const cprof_vm_moment *then, lua_State *L, uint64_t ci, int level, int *frames)
{
    if (ci != then->place[0] ||
        (level == 0 && word_at(L, cprof__puc_layout_known()->error_jmp_at) != then->place[2])) {
        return false;
    }
    *frames = frames_of(L, level);
    if (function_of(L, ci) == then->place[3]) {
        return true;
    }
    *frames += 1; /* whose tail call it was is what is left to tell */
    return made_way(L, level);
}

/* How many frames of L came after the moment that the safepoint was asked for: going outward, the first call that ran
 * then, or was a caller of what ran (which has ended, by an error, or while hooks were off for a finalizer; and with it
 * the callers in between: LOST). -1 where none of them is there. */
static int frames_since(cprof__puc *puc, lua_State *L, const lua_Debug *ar)
{
    const cprof_vm_moment *then = &puc->asked;
    puc->lost = false;
#if LUA_VERSION_NUM == 501
    if (ar->event == LUA_HOOKTAILRET) {
        return -1;
    }
#endif
    uint64_t ci = (uint64_t)ar->i_ci;
    for (int level = 0; level < LEVELS_MAX && ci; level++, ci = caller_of(L, ci)) {
        int frames, caller = caller_number(then, L, ci);
        if (is_then(then, L, ci, level, &frames)) {
            return frames;
        }
        if (caller >= 0) {
            puc->lost = caller > 0;
            return frames_of(L, level);
        }
    }
    return -1;
}

size_t cprof__puc_ended(void *state, void *running, uint64_t entry, cprof_vm_frame *frames)
{
    const cprof__luavm *vm = state;
    return cprof__naming_ended(state, running, entry, vm->puc && vm->puc->lost, frames);
}

/* What L had before our hook, which it has. The number says so also where the entry is of another time: the host set
 * ours again after that, or L is new and has inherited ours. Such a hook begins to count anew. */
static cprof__armed before_ours(const cprof__puc *puc, lua_State *L, const cprof__armed *entry)
{
    int number = lua_gethookcount(L);
    if (entry && (entry->number == number || number < 1 || number > CPROF__HOOKS_MAX)) {
        return *entry;
    }
    cprof__armed before = {.thread = L, .number = number};
    if (number >= 1 && number <= CPROF__HOOKS_MAX) {
        before.host = puc->hooks[number - 1];
        before.left = before.host.count;
    }
    return before;
}

/* Gives L back the hook of BEFORE, less USED instructions. Returns whether the host's count hook is due. */
static bool put_back(lua_State *L, const cprof__armed *before, int used)
{
    lua_sethook(L, before->host.hook, before->host.mask, before->host.count);
    if (!(before->host.mask & LUA_MASKCOUNT)) {
        return false;
    }
    int left = before->left - used;
    *cprof__puc_left(L) = left > 0 ? left : before->host.count;
    return left <= 0;
}

void cprof__puc_give_back(cprof__luavm *vm, lua_State *L)
{
    lua_State *const threads[] = {L, vm->main};
    if (!vm->puc) {
        return;
    }
    vm->puc->held_off = 1;
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        if (threads[i] && lua_gethook(threads[i]) == cprof__puc_hook) {
            const cprof__armed before =
                before_ours(vm->puc, threads[i], cprof__puc_armed(vm->puc, threads[i]));
            put_back(threads[i], &before, 0);
        }
    }
}

static int event_mask(const lua_Debug *ar)
{
    switch (ar->event) {
    case LUA_HOOKCALL:
        return LUA_MASKCALL;
    case LUA_HOOKRET:
        return LUA_MASKRET;
    case LUA_HOOKLINE:
        return LUA_MASKLINE;
    case LUA_HOOKCOUNT:
        return LUA_MASKCOUNT;
#if LUA_VERSION_NUM == 501
    case LUA_HOOKTAILRET:
        return LUA_MASKRET;
#else
    case LUA_HOOKTAILCALL:
        return LUA_MASKCALL;
#endif
    default:
        return 0;
    }
}

void cprof__puc_hook(lua_State *L, lua_Debug *ar)
{
    cprof__luavm *vm = cprof__puc_state_of(L);
    if (!vm || !vm->puc) {
        lua_sethook(L, NULL, 0, 0); /* it was detached since */
        return;
    }
    cprof__puc *puc = vm->puc;
    cprof__armed *entry = cprof__puc_armed(puc, L), before = before_ours(puc, L, entry);
    /* Before the hook is put back: a signal right after that may arm the thread again, with an entry of its own. */
    if (entry) {
        entry->thread = NULL;
    }
    cprof__puc_hold_off(vm);
    bool due = put_back(L, &before, ar->event == LUA_HOOKCOUNT);
    uint64_t ticket = puc->asked.running == L ? puc->ticket : 0;
    int level = ticket ? frames_since(puc, L, ar) : 0;
    if (ticket) {
        puc->ticket = 0;
    }
    cprof__puc_allow(vm, L);
    if (ticket) {
        cprof_vm_safepoint(vm->state, ticket, L, level);
    }
    bool wanted = ar->event == LUA_HOOKCOUNT ? due : (before.host.mask & event_mask(ar)) != 0;
    if (wanted && before.host.hook) {
        before.host.hook(L, ar);
    }
}

cprof__host_hook cprof__puc_host_hook(lua_State *L)
{
    if (lua_gethook(L) == cprof__puc_hook) {
        cprof__luavm *vm = cprof__puc_state_of(L);
        bool known = vm && vm->puc;
        return known ? before_ours(vm->puc, L, cprof__puc_armed(vm->puc, L)).host : (cprof__host_hook){0};
    }
    return (cprof__host_hook){lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
}
