/* SPDX-License-Identifier: MIT
 *
 * Attaching and detaching Lua states, and knowing when the collector has been at work.
 *
 * Closures can only be freed, and their addresses reused, after a cycle of the collector has marked what
 * lives. A sentinel, an object that only a weak table refers to, is gone from that table from that very
 * moment, so one read of the table tells whether what was remembered by pointer still holds. A walk must not
 * allocate, so a spare one, which the registry keeps, then takes its place; at the end of the cycle the old
 * one's finalizer puts a new one there. The spare will not do for longer: it may be old, and a collector with
 * generations frees young closures before old sentinels. Where such a collector may begin its next cycle
 * before it has run the finalizers of the last (5.2's, which runs a few at a time), a spare one will not do
 * at all.
 */
#include "luavm/state.h"

#include "base/alloc.h"
#include "luavm/functions.h"
#include "luavm/heap.h"
#include "luavm/jitprofile.h"
#include "luavm/labelsjit.h"
#include "luavm/levels.h"
#include "luavm/names.h"
#include "luavm/pucsignal.h"
#include "luavm/runtime.h"

#include <string.h>

/* Its address is the block's key in the registry. */
static const char block_key;

cprof__luavm *cprof__luavm_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&block_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    cprof__luavm *vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return vm;
}

/* ---- Generations ---- */

typedef struct sentinel {
    cprof__luavm *vm;
    bool spare; /* made as one */
} sentinel;

/* The collector takes what lies in the unused registers of a Lua function's frame for live; so a sentinel is
 * not left behind on the stack, not even above its top. */
static void wipe(lua_State *L)
{
    lua_pushnil(L);
    lua_pop(L, 1);
}

static const sentinel *current_sentinel(const cprof__luavm *vm, lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_ref);
    lua_rawgeti(L, -1, CPROF__WEAK_SENTINEL);
    const sentinel *current = lua_touserdata(L, -1);
    lua_pop(L, 1);
    wipe(L);
    lua_pop(L, 1);
    return current;
}

/* Makes the object on top of the stack (false: none) the sentinel, and pops it. */
static void begin_generation(cprof__luavm *vm, lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_ref);
    lua_insert(L, -2);
    lua_rawseti(L, -2, CPROF__WEAK_SENTINEL);
    wipe(L);
    lua_pop(L, 1);
    vm->generation++;
    vm->orphan = NULL;
}

void cprof__luavm_follow_collector(cprof__luavm *vm, lua_State *L)
{
    if (current_sentinel(vm, L)) {
        return;
    }
    /* Where the spare one is used up, each walk is a generation until the end of the cycle. */
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->spare_ref);
    begin_generation(vm, L);
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, vm->spare_ref);
}

static void push_sentinel(cprof__luavm *vm, lua_State *L, bool spare)
{
    sentinel *made = lua_newuserdata(L, sizeof *made);
    *made = (sentinel){vm, spare};
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->sentinel_ref);
    lua_setmetatable(L, -2);
}

/* Sees to it that there are a new sentinel and a spare one. May raise. */
static void make_sentinels(cprof__luavm *vm, lua_State *L)
{
    const sentinel *current = current_sentinel(vm, L);
    if (!current || current->spare) {
        lua_pushboolean(L, 0); /* what follows may raise, and then none is better than a spare one */
        begin_generation(vm, L);
        push_sentinel(vm, L, false);
        begin_generation(vm, L);
    }
    if (!CPROF__LUA_SPARES) {
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->spare_ref);
    if (!lua_touserdata(L, -1)) {
        push_sentinel(vm, L, true);
        lua_rawseti(L, LUA_REGISTRYINDEX, vm->spare_ref);
        wipe(L);
    }
    lua_pop(L, 1);
    wipe(L);
}

static int sentinel_gc(lua_State *L)
{
    const sentinel *dead = lua_touserdata(L, 1);
    if (dead->vm->state) {
        make_sentinels(dead->vm, L);
    }
    return 0;
}

/* ---- Attaching ---- */

/* Pushes a function of the standard library; false, with nothing pushed, where it is not there or not C. */
static bool push_standard(const cprof__luavm *vm, lua_State *L, const char *module, const char *name)
{
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->loaded_ref);
    lua_pushstring(L, module);
    lua_rawget(L, -2);
    if (lua_istable(L, -1)) {
        lua_pushstring(L, name);
        lua_rawget(L, -2);
        if (lua_iscfunction(L, -1)) {
            lua_replace(L, top + 1);
            lua_settop(L, top + 1);
            return true;
        }
    }
    lua_settop(L, top);
    return false;
}

/* Calls the function below the ARGUMENTS on top, and pops all. Returns: where the C function that it returns starts, 0
 * where it returns none. */
static uint64_t returned_entry(lua_State *L, int arguments)
{
    uint64_t entry = 0;
    if (lua_pcall(L, arguments, 1, 0) == 0 && lua_iscfunction(L, -1)) {
        entry = (uint64_t)(uintptr_t)lua_tocfunction(L, -1);
    }
    lua_pop(L, 1);
    return entry;
}

/* The C functions that functions of the standard library return: they are in no table. */
static void find_returned(cprof__luavm *vm, lua_State *L)
{
    if (push_standard(vm, L, "coroutine", "wrap")) {
        if (luaL_loadstring(L, "") == 0) {
            vm->wrap_entry = returned_entry(L, 1);
        } else {
            lua_pop(L, 2);
        }
    }
    if (push_standard(vm, L, "string", "gmatch")) {
        lua_pushliteral(L, "");
        lua_pushliteral(L, "");
        vm->gmatch_entry = returned_entry(L, 2);
    }
    if (push_standard(vm, L, "_G", "ipairs")) {
        lua_createtable(L, 0, 0);
        vm->ipairs_entry = returned_entry(L, 1);
    }
}

static uint64_t standard_entry(const cprof__luavm *vm, lua_State *L, const char *module, const char *name)
{
    if (!push_standard(vm, L, module, name)) {
        return 0;
    }
    uint64_t entry = (uint64_t)(uintptr_t)lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return entry;
}

/* Forgets all that depends on being attached, and tells the Lua module. */
static void end_block(cprof__luavm *vm, lua_State *L)
{
    cprof_vm_state *state = vm->state;
    cprof__lua_heap_give_back(vm, L);
#if LUA_VERSION_NUM == 501
    cprof__jit_detach(vm, L);
#endif
    vm->state = NULL;
    cprof__puc_give_back(vm, L);
    cprof__puc_delist(vm);
    cprof_vm_detach(state);
    cprof__free(vm->puc);
    vm->puc = NULL;
    cprof__lua_functions_fini(vm);
    cprof__namings_fini(vm);
    cprof__lua_unwrap_creation(vm, L);
    lua_getfield(L, LUA_REGISTRYINDEX, CPROF__LUA_ON_DETACH);
    if (lua_isnil(L, -1) || lua_pcall(L, 0, 0, 0) != 0) {
        lua_pop(L, 1);
    }
}

static int block_gc(lua_State *L)
{
    end_block(lua_touserdata(L, 1), L);
    return 0;
}

static void push_metatable(lua_State *L, lua_CFunction gc)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
}

/* Makes the block of L's state, with what it keeps in the registry, and leaves it there. */
static cprof__luavm *new_block(lua_State *L)
{
    cprof__luavm *vm = lua_newuserdata(L, sizeof *vm);
    memset(vm, 0, sizeof *vm);
    vm->is_jit = cprof__lua_is_jit();
    push_metatable(L, block_gc);
    lua_setmetatable(L, -2);

    lua_createtable(L, CPROF__WEAK_SLOTS, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    vm->weak_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 0); /* a host without package: no function has a name of its own */
    }
    vm->loaded_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    push_metatable(L, sentinel_gc);
    vm->sentinel_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, 0);
    vm->spare_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    find_returned(vm, L);
    vm->gethook_entry = standard_entry(vm, L, "debug", "gethook");
    vm->sethook_entry = standard_entry(vm, L, "debug", "sethook");
    vm->levels = cprof__levels_choose(L);

    lua_pushlightuserdata(L, (void *)&block_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    return vm;
}

/* Interns the functions that stand for what Lua does not tell. */
static int intern_fixed(cprof__luavm *vm)
{
    const cprof_vm_function *marker;
    cprof_vm_function_key tail = {"[Lua]", 5, -1, -1, 0, "(...tail calls...)"};
    cprof_vm_function_key unknown = {"[Lua]", 5, -1, -1, 0, "?"};
    int status = cprof_vm_function_intern(&tail, tail.identity, &marker);
    if (status == 0) {
        vm->tail_calls = cprof_vm_function_address(marker, 0);
        status = cprof_vm_function_intern(&unknown, unknown.identity, &vm->unknown);
    }
    return status;
}

/* The module for 5.1 meets LuaJIT too. */
static const cprof_vm *runtime(lua_State *L)
{
#if LUA_VERSION_NUM == 501
    return cprof__jit_vm(L);
#else
    (void)L;
    return &cprof__lua_vm;
#endif
}

/* Lets VM be found by the sampler's signals. */
static void enlist(cprof__luavm *vm, lua_State *L)
{
#if LUA_VERSION_NUM == 501
    if (runtime(L) != &cprof__lua_vm) {
        cprof__jit_attach(vm, L);
        return;
    }
#endif
    vm->puc = cprof__calloc(1, sizeof *vm->puc);
    cprof__puc_enlist(vm, L);
}

int cprof_lua_attach(lua_State *L)
{
    luaL_checkstack(L, 10, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm && vm->state) {
        cprof_vm_adopt(vm->state);
        cprof__lua_heap_follow(vm, L);
        return 0;
    }
    if (!vm) {
        vm = new_block(L);
    }
    vm->main = cprof__lua_main(L);
    make_sentinels(vm, L);
    int status = intern_fixed(vm);
    if (status == 0) {
        status = cprof_vm_attach(runtime(L), vm, &vm->state);
    }
    if (status == 0) {
        cprof__lua_functions_init(vm);
        enlist(vm, L);
        cprof__lua_heap_follow(vm, L);
    }
    return status;
}

int cprof_lua_detach(lua_State *L)
{
    luaL_checkstack(L, 2, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm && vm->state) {
        end_block(vm, L);
    }
    return 0;
}

struct cprof_vm_state *cprof_lua_state(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    return vm ? vm->state : NULL;
}
