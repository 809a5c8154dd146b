/* SPDX-License-Identifier: MIT
 *
 * The hook of pucsignal.h: the safepoint. It first puts back what the host had, with the instructions that are still
 * to go until the host's own count hook, then tells the core, then gives the host the event that it would have had.
 */
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
#define CALLERS_MAX 16

/* How many frames of L lie between the place THEN and NOW, which it has called; -1 where it has not. */
#if LUA_VERSION_NUM == 501
static int calls_between(uint64_t then, uint64_t now)
{
    return now > then && now - then <= CALLERS_MAX ? (int)(now - then) : -1;
}
#else
static int calls_between(uint64_t then, uint64_t now)
{
    for (int level = 1; level <= CALLERS_MAX && now; level++) {
        now = word_at((const void *)(uintptr_t)now, CPROF__CI_PREVIOUS_AT);
        if (now == then) {
            return level;
        }
    }
    return -1;
}
#endif

#if LUA_VERSION_NUM >= 504
/* The frames that a walk tells of the innermost LEVELS of L: a tail call is one of its own. */
static int frames_of(lua_State *L, int levels)
{
    lua_Debug ar;
    int frames = 0;
    for (int i = 0; i < levels && lua_getstack(L, i, &ar); i++) {
        lua_getinfo(L, "t", &ar);
        frames += ar.istailcall ? 2 : 1;
    }
    return frames;
}

/* 5.4 looks for hooks only where it branches or calls, so what ran may have made way, in its very place, for a function
 * that it tail called, which is then LEVEL levels out. Whose tail calls they were is what is left to tell. */
static int frames_inside(const cprof_vm_moment *then, lua_State *L, int level)
{
    lua_Debug ar;
    if (level < 0 || !then->place[0] || !lua_getstack(L, level, &ar)) {
        return -1;
    }
    uint64_t slot = word_at((const void *)(uintptr_t)then->place[0], CPROF__CI_FUNC_AT);
    if (word_at((const void *)(uintptr_t)slot, 0) == then->place[3]) {
        return frames_of(L, level);
    }
    lua_getinfo(L, "t", &ar);
    return ar.istailcall ? frames_of(L, level) + 1 : -1;
}
#else
static int frames_inside(const cprof_vm_moment *then, lua_State *L, int level)
{
    (void)then;
    (void)L;
    return level;
}
#endif

/* How many frames of L came after the moment that the safepoint was asked for; -1 where what ran then is gone. */
static int frames_since(const cprof_vm_moment *then, lua_State *L, const lua_Debug *ar)
{
#if LUA_VERSION_NUM == 501
    if (ar->event == LUA_HOOKTAILRET) {
        return -1;
    }
#endif
    uint64_t now = (uint64_t)ar->i_ci;
    /* What has returned unseen (by an error, or while hooks were off for a finalizer) was called by this one. */
    if (now == then->place[1]) {
        return 0;
    }
    if (now == then->place[0]) {
        bool same = word_at(L, cprof__puc_layout_known()->error_jmp_at) == then->place[2];
        return same ? frames_inside(then, L, 0) : -1;
    }
    return frames_inside(then, L, calls_between(then->place[0], now));
}

/* Gives L back the hook of ENTRY, less USED instructions. Returns whether the host's count hook is due. */
static bool put_back(lua_State *L, const cprof__armed *entry, int used)
{
    lua_sethook(L, entry->hook, entry->mask, entry->count);
    if (!(entry->mask & LUA_MASKCOUNT)) {
        return false;
    }
    int left = entry->left - used;
    *cprof__puc_left(L) = left > 0 ? left : entry->count;
    return left <= 0;
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
    cprof__armed *entry = cprof__puc_armed(puc, L), host = entry ? *entry : puc->last;
    /* Before the hook is put back: a signal right after that may arm the thread again, with an entry of its own. */
    if (entry) {
        entry->thread = NULL;
    }
    bool due = put_back(L, &host, ar->event == LUA_HOOKCOUNT);
    uint64_t ticket = puc->ticket;
    if (ticket && puc->asked.running == L) {
        int level = frames_since(&puc->asked, L, ar);
        puc->ticket = 0;
        cprof_vm_safepoint(vm->state, ticket, L, level);
    }
    bool wanted = ar->event == LUA_HOOKCOUNT ? due : (host.mask & event_mask(ar)) != 0;
    if (wanted && host.hook) {
        host.hook(L, ar);
    }
}

cprof__armed cprof__puc_host_hook(lua_State *L)
{
    if (lua_gethook(L) == cprof__puc_hook) {
        cprof__luavm *vm = cprof__puc_state_of(L);
        const cprof__armed *entry = vm && vm->puc ? cprof__puc_armed(vm->puc, L) : NULL;
        if (entry) {
            return *entry;
        }
        return vm && vm->puc ? vm->puc->last : (cprof__armed){0};
    }
    return (cprof__armed){L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L), 0};
}
