/* SPDX-License-Identifier: MIT
 *
 * The hook of pucsignal.h: the safepoint. It first puts back what the host had, with the instructions that are still
 * to go until the host's own count hook, then tells the core, then gives the host the event that it would have had.
 */
#include "luavm/puclayout.h"
#include "luavm/pucsignal.h"

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
        return word_at(L, cprof__puc_layout_known()->error_jmp_at) == then->place[2] ? 0 : -1;
    }
    return calls_between(then->place[0], now);
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
