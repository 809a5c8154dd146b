/* SPDX-License-Identifier: MIT
 *
 * See jitsafepoint.h. Which frames came after the moment of the request is told by comparing the stack with what was
 * noted of it then.
 */
#include "luavm/jitsafepoint.h"

#include "luavm/jitlayout.h"
#include "luavm/threads.h"

#include <string.h>

/* The walk's own needs. */
#define ROOM_SLOTS 40

/* How many levels L has. */
static int count_levels(const cprof__levels *levels, lua_State *L)
{
    cprof__level level;
    int count = 0;
    for (bool more = levels->first(L, &level); more; more = levels->next(&level)) {
        count = level.number + 1;
    }
    return count;
}

/* The level of L's frame at OFFSET, of FUNCTION; -1 where there is none. */
static int find_level(const cprof__levels *levels, lua_State *L, uint64_t offset, uint64_t function)
{
    cprof__level level;
    const char *stack = cprof__pointer_at((const char *)L + CPROF__JIT_STACK_AT);
    for (bool more = levels->first(L, &level); more; more = levels->next(&level)) {
        uint64_t at = (uint64_t)(level.at - stack);
        if (at == offset) {
            return function == (uint64_t)(uintptr_t)level.closure ? level.number : -1;
        }
        if (at < offset) {
            return -1;
        }
    }
    return -1;
}

static bool has_room(lua_State *L)
{
    const char *top = cprof__pointer_at((const char *)L + CPROF__JIT_TOP_AT);
    const char *max = cprof__pointer_at((const char *)L + CPROF__JIT_MAX_AT);
    return max - top >= ROOM_SLOTS * 8;
}

/* A request as it was noted. */
typedef struct request {
    cprof_vm_moment moment;
    cprof__jit_frame callers[CPROF__JIT_CALLERS];
    uint32_t caller_count, generation;
    uint64_t ticket;
} request;

/* What is compared with the moment of a request. */
typedef struct arrival {
    cprof__luavm *vm;
    const cprof__levels *levels;
    lua_State *L; /* runs now */
    bool entered; /* a call was just made: its frame is newer than any request */
    const request *request;
    bool lost;  /* gets whether frames between what is found and what ran have ended */
    bool alive; /* the collector has freed nothing since that lived at the moment */
} arrival;

static bool same_entry(const cprof_vm_moment *moment)
{
    uint64_t cframe = cprof__word_at((const char *)moment->running + cprof__jit.cframe);
    return (cframe & ~CPROF__JIT_CFRAME_FLAGS) == moment->place[CPROF__JIT_PLACE_CFRAME];
}

/* The level of what ran on the stack of its own thread; UNKNOWN where the moment does not tell its frame. Frames
 * of levels below FIRST are newer. */
static int own_level(arrival *a, const cprof_vm_moment *moment, int first, int unknown)
{
    lua_State *L = moment->running;
    uint64_t frame = moment->place[CPROF__JIT_PLACE_FRAME];
    if (!frame || !a->levels) {
        return unknown;
    }
    int level = find_level(a->levels, L, frame, moment->place[CPROF__JIT_PLACE_FUNCTION]);
    /* What ran has ended: its callers are what is left. Those of C are passed over, as pcall. */
    for (uint32_t i = 0; level < first && unknown >= 0 && i < a->request->caller_count; i++) {
        const cprof__jit_frame *caller = &a->request->callers[i];
        level = find_level(a->levels, L, caller->offset, caller->function);
        a->lost |= level < first && caller->is_lua;
    }
    return level < first ? -1 : level;
}

/* The thread that ran has yielded since, or ended, or resumed others. */
static int other_level(arrival *a, const cprof_vm_moment *moment, lua_State **thread)
{
    lua_State *chain[CPROF__CHAIN_MAX], *then = moment->running;
    if (!a->levels) {
        return -1;
    }
    size_t count = cprof__lua_chain(a->vm, a->L, NULL, chain);
    int inner = 0;
    while (count > 0 && chain[count - 1] != then) {
        inner += count_levels(a->levels, chain[--count]);
    }
    if (count > 0) {
        int own = own_level(a, moment, 0, same_entry(moment) ? 0 : -1);
        return own < 0 ? -1 : inner + own;
    }
    if (!a->alive) {
        return -1;
    }
    if (lua_status(then) == LUA_YIELD && has_room(then)) {
        *thread = then;
        return own_level(a, moment, 0, 0);
    }
    /* It has ended: a return to who resumed it, as from a function. */
    return moment->place[CPROF__JIT_PLACE_FRAME] ? -1 : a->entered;
}

/* How many frames of *THREAD's stack came after MOMENT; -1 where what ran is not there. *THREAD is the one that
 * runs, or gets to be the one that ran and has yielded since. */
static int level_of(arrival *a, const cprof_vm_moment *moment, lua_State **thread)
{
    if (moment->running != a->L) {
        return other_level(a, moment, thread);
    }
    return own_level(a, moment, a->entered, same_entry(moment) ? a->entered : -1);
}

static int grow(lua_State *L)
{
    luaL_checkstack(L, ROOM_SLOTS, "cprof");
    return 0;
}

/* Sees to it that a walk does not have to enlarge L's stack: an error from there would end the process. */
bool cprof__jit_make_room(lua_State *L)
{
    if (has_room(L)) {
        return true;
    }
    int kept = lua_gettop(L);
    bool grown = lua_cpcall(L, grow, NULL) == 0;
    lua_settop(L, kept);
    return grown;
}

/* Takes the last request, if there is one that was not answered. */
static bool take(cprof__jit_slot *slot, request *r)
{
    uint32_t requested = atomic_load_explicit(&slot->requested, memory_order_relaxed), before;
    if (requested == atomic_load_explicit(&slot->answered, memory_order_relaxed)) {
        return false;
    }
    do {
        before = requested;
        atomic_signal_fence(memory_order_seq_cst);
        r->moment = slot->moment;
        memcpy(r->callers, slot->callers, sizeof r->callers);
        r->caller_count = slot->caller_count;
        r->generation = slot->generation;
        r->ticket = slot->ticket;
        atomic_signal_fence(memory_order_seq_cst);
        requested = atomic_load_explicit(&slot->requested, memory_order_relaxed);
    } while (requested != before);
    atomic_store_explicit(&slot->answered, requested, memory_order_relaxed);
    return true;
}

/* L is at a safepoint; ENTERED as in an arrival. */
void cprof__jit_deliver(cprof__jit_slot *slot, lua_State *L, bool entered)
{
    cprof__luavm *vm = atomic_load_explicit(&slot->state, memory_order_relaxed);
    request r;
    arrival a = {.vm = vm, .L = L, .entered = entered, .request = &r};
    lua_State *thread = L;
    int level = -1;
    atomic_store_explicit(&slot->delivering, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (vm->state && take(slot, &r)) {
        if (cprof__jit_make_room(L)) {
            cprof__luavm_follow_collector(vm, L);
            a.levels = atomic_load_explicit(&slot->levels, memory_order_relaxed);
            a.alive = vm->generation == r.generation;
            level = level_of(&a, &r.moment, &thread);
        }
        slot->lost = a.lost;
        cprof_vm_safepoint(vm->state, r.ticket, thread, level);
    }
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&slot->delivering, false, memory_order_relaxed);
}
