/* SPDX-License-Identifier: MIT
 *
 * See threads.h. A host may resume a thread from C without any Lua code underneath (ngx_lua runs each request
 * so), or from a C function that holds the thread anywhere. Such a thread is looked for among the values near
 * at hand and in the registry, within a bound; what is found, and what is not, is remembered for the next
 * time.
 */
#include "luavm/threads.h"

#include "luavm/runtime.h"

#include <string.h>

#define CANDIDATE_SLOTS_MAX 32
#define CANDIDATES_MAX 256

typedef struct finder {
    cprof__luavm *vm;
    lua_State *running;
    const cprof_vm_native *native;
    lua_State **chain;
    size_t count;
    int candidates_left;
    bool nested; /* see runs_here */
} finder;

/* A thread in the middle of a call: it runs, or waits for one that it resumed. */
static bool under_way(lua_State *thread)
{
    lua_Debug ar;
    return lua_status(thread) == 0 && lua_getstack(thread, 0, &ar);
}

/* The thread that L resumed and now waits for, or NULL. */
static lua_State *resumed_by(lua_State *L)
{
    lua_Debug ar;
    lua_State *resumed = NULL;
    if (!lua_getstack(L, 0, &ar) || !cprof__lua_room(L, 2)) {
        return NULL;
    }
    lua_getinfo(L, "f", &ar);
    if (lua_iscfunction(L, -1)) {
        /* L stands in this C function, so index 1 is its first slot; the function itself may lie there. */
        resumed = lua_gettop(L) > 1 ? lua_tothread(L, 1) : NULL;
        if (!resumed && lua_getupvalue(L, -1, 1)) {
            resumed = lua_tothread(L, -1);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return resumed && resumed != L && under_way(resumed) ? resumed : NULL;
}

static bool among(lua_State *const *chain, size_t count, const lua_State *thread)
{
    for (size_t i = 0; i < count; i++) {
        if (chain[i] == thread) {
            return true;
        }
    }
    return false;
}

/* Follows who resumed whom from ROOT to CHAIN, at most until STOP. Returns: how many. */
static size_t follow(lua_State *root, const lua_State *stop, lua_State **chain, size_t max)
{
    size_t count = 0;
    for (lua_State *L = root; L && count < max && !among(chain, count, L); L = resumed_by(L)) {
        chain[count++] = L;
        if (L == stop) {
            break;
        }
    }
    return count;
}

/* Whether T runs innermost on the native stack: the C function that it stands in is there, and no VM further
 * in. Lua code that calls C through LuaJIT's FFI stands in no C function; then the VM itself must be there.
 * Where NESTED is allowed, the VM may be in the middle of an API call which called C code back (the allocator
 * does). */
static bool runs_here(lua_State *T, const cprof_vm_native *native, bool nested)
{
    lua_Debug ar;
    if (!native || !lua_getstack(T, 0, &ar) || !cprof__lua_room(T, 1)) {
        return false;
    }
    lua_getinfo(T, "f", &ar);
    bool is_c = lua_iscfunction(T, -1);
    uint64_t entry = is_c ? (uint64_t)(uintptr_t)lua_tocfunction(T, -1) : 0;
    lua_pop(T, 1);
    if (!is_c) {
        return cprof__lua_entered(native, native->count);
    }
    for (size_t i = 0; entry && i < native->count; i++) {
        if (native->starts[i] == entry) {
            return nested || !cprof__lua_entered(native, i);
        }
    }
    return false;
}

/* Whether a chain from ROOT ends where it has to; then it is left in F->chain. */
static bool try_root(finder *f, lua_State *root)
{
    if (!root || f->candidates_left-- <= 0 || !under_way(root)) {
        return false;
    }
    f->count = follow(root, f->running, f->chain, CPROF__CHAIN_MAX);
    lua_State *innermost = f->chain[f->count - 1];
    return f->running ? innermost == f->running : runs_here(innermost, f->native, f->nested);
}

/* ---- Threads that a host resumed ---- */

/* The values in L's current frame (of the host's C function, or of no function where L is idle). */
static bool try_slots(finder *f, lua_State *L)
{
    int top = lua_gettop(L);
    for (int i = 1; i <= top && i <= CANDIDATE_SLOTS_MAX; i++) {
        if (try_root(f, lua_tothread(L, i))) {
            return true;
        }
    }
    return false;
}

/* The values of the table on top of the stack; LEVELS counts how many tables deep. Leaves the stack as it
 * was. */
static bool try_table(finder *f, lua_State *L, int levels)
{
    int top = lua_gettop(L);
    bool found = false;
    lua_pushnil(L);
    while (!found && f->candidates_left-- > 0 && lua_next(L, -2)) {
        if (lua_isthread(L, -1)) {
            found = try_root(f, lua_tothread(L, -1));
        } else if (levels > 1 && lua_istable(L, -1)) {
            found = try_table(f, L, levels - 1);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, top);
    return found;
}

static bool try_registry(finder *f, lua_State *L)
{
    if (!cprof__lua_room(L, 10)) {
        return false;
    }
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    bool found = try_table(f, L, 2);
    lua_pop(L, 1);
    return found;
}

static lua_State *remembered_root(cprof__luavm *vm, lua_State *L)
{
    if (!cprof__lua_room(L, 2)) {
        return NULL;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_ref);
    lua_rawgeti(L, -1, CPROF__WEAK_ROOT);
    lua_State *root = lua_tothread(L, -1);
    lua_pop(L, 2);
    return root;
}

static void remember_root(cprof__luavm *vm, lua_State *L, lua_State *root)
{
    if (!cprof__lua_room(L, 2) || !cprof__lua_room(root, 1)) {
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_ref);
    lua_pushthread(root);
    lua_xmove(root, L, 1);
    lua_rawseti(L, -2, CPROF__WEAK_ROOT);
    lua_pop(L, 1);
}

/* Looks for the root that a host resumed, with LAST the innermost thread that Lua code is known to have
 * resumed. */
static bool find_root(finder *f, lua_State *L, lua_State *last)
{
    f->candidates_left = CANDIDATES_MAX;
    if (try_root(f, remembered_root(f->vm, L))) {
        return true;
    }
    if ((last && try_slots(f, last)) || try_registry(f, L)) {
        remember_root(f->vm, L, f->chain[0]);
        return true;
    }
    return false;
}

/* ---- All together ---- */

/* Puts the PREFIX_COUNT threads of PREFIX, which run further out, before the chain. */
static size_t prepend(lua_State **chain, size_t count, lua_State *const *prefix, size_t prefix_count)
{
    if (prefix_count > CPROF__CHAIN_MAX - count || among(chain, count, prefix[prefix_count - 1])) {
        return count;
    }
    memmove(chain + prefix_count, chain, count * sizeof *chain);
    memcpy(chain, prefix, prefix_count * sizeof *chain);
    return count + prefix_count;
}

size_t cprof__lua_chain(cprof__luavm *vm, lua_State *running, const cprof_vm_native *native,
                        lua_State *chain[CPROF__CHAIN_MAX])
{
    lua_State *outer[CPROF__CHAIN_MAX];
    finder f = {vm, running, native, chain, 0, CANDIDATES_MAX, false};
    if (running && (running == vm->main || !vm->main)) {
        vm->main = cprof__lua_main(running);
    }
    if (running && running == vm->main) {
        chain[0] = running;
        return 1;
    }
    if (try_root(&f, vm->main)) {
        return f.count;
    }
    if (!running && (!native || !cprof__lua_entered(native, native->count))) {
        return 0;
    }
    size_t outer_count =
        vm->main && under_way(vm->main) ? follow(vm->main, NULL, outer, CPROF__CHAIN_MAX) : 0;
    lua_State *last = outer_count ? outer[outer_count - 1] : vm->main;
    lua_State *L = running ? running : last;
    if (!L) {
        return 0;
    }
    if ((running && running == vm->orphan) || !find_root(&f, L, last)) {
        if (!running) {
            f.nested = true;
            f.candidates_left = 1;
            return try_root(&f, vm->main) ? f.count : 0;
        }
        vm->orphan = running;
        chain[0] = running;
        f.count = 1;
    }
    return outer_count ? prepend(chain, f.count, outer, outer_count) : f.count;
}
