/* SPDX-License-Identifier: MIT
 *
 * See labelsjit.h. Under OpenResty coroutine.create is ngx_lua's own, written in Lua, and calls C functions that it
 * keeps as _create (LuaJIT's) and __create. A light thread runs before spawn returns, so its labels are given by the
 * first thing it does.
 */
#include "luavm/labelsjit.h"

#include "luavm/jitlayout.h"
#include "luavm/labels.h"
#include "luavm/levelsjit.h"

#include <string.h>

/* Where an argument is wrong, the wrapped function itself says so, at its caller's place: hence the tail calls. */
static const char wrappers[] =
    "local inherit, current, adopt, exchange, loaded, type = ...\n"
    "local undo = {}\n"
    "local function exchanged(owner, name, place, adopting)\n"
    "  local original = type(owner) == 'table' and owner[name]\n"
    "  return type(original) == 'function' and exchange(original, place, adopting)\n"
    "end\n"
    "local function wrap_field(owner, name, make)\n"
    "  local original = type(owner) == 'table' and owner[name]\n"
    "  if type(original) ~= 'function' then return end\n"
    "  local wrapped = make(original)\n"
    "  owner[name] = wrapped\n"
    "  undo[#undo + 1] = function()\n"
    "    if owner[name] == wrapped then owner[name] = original end\n"
    "  end\n"
    "end\n"
    "local function inheriting(create)\n"
    "  return function(f, ...)\n"
    "    if type(f) ~= 'function' then return create(f, ...) end\n"
    "    return inherit(create(f, ...))\n"
    "  end\n"
    "end\n"
    "local function adopting(f, labels)\n"
    "  return function(...)\n"
    "    adopt(labels)\n"
    "    return f(...)\n"
    "  end\n"
    "end\n"
    "local names, coroutine, ngx = {'create', 'wrap'}, loaded.coroutine, loaded.ngx\n"
    "for i = 1, #names do\n"
    "  local own = exchanged(coroutine, names[i], i)\n"
    "  local kept = exchanged(coroutine, '_' .. names[i], i + 2)\n"
    "  local other = exchanged(coroutine, '__' .. names[i], i + 4)\n"
    "  if not (own or kept or other) then wrap_field(coroutine, names[i], inheriting) end\n"
    "end\n"
    "local thread = type(ngx) == 'table' and ngx.thread\n"
    "if not exchanged(thread, 'spawn', 7, adopting) then\n"
    "  wrap_field(thread, 'spawn', function(spawn)\n"
    "    return function(f, ...)\n"
    "      if type(f) ~= 'function' then return spawn(f, ...) end\n"
    "      return spawn(adopting(f, current()), ...)\n"
    "    end\n"
    "  end)\n"
    "end\n"
    "return function()\n"
    "  for i = 1, #undo do undo[i]() end\n"
    "end\n";

/* ---- What both ways do ---- */

/* The thread that the value at INDEX is, or that the function there has among its upvalues; NULL: none. */
static lua_State *created(lua_State *L, int index)
{
    lua_State *thread = lua_tothread(L, index);
    for (int i = 1; !thread && lua_isfunction(L, index) && lua_getupvalue(L, index, i); i++) {
        thread = lua_tothread(L, -1);
        lua_pop(L, 1);
    }
    return thread;
}

/* Gives what was created, the value at INDEX, the labels of L. */
static void inherit_at(cprof__luavm *vm, lua_State *L, int index)
{
    lua_State *thread = created(L, index);
    if (vm && vm->labels_ref && thread && thread != L && lua_checkstack(thread, 5)) {
        cprof__lua_labels_set(vm, thread, cprof__lua_labels_of(vm, L));
    }
}

static int adopt(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm) {
        cprof__lua_labels_set(vm, L, (uint32_t)lua_tonumber(L, 1));
    }
    return 0;
}

/* ---- C functions ---- */

enum { CREATE, WRAP, KEPT_CREATE, KEPT_WRAP, NGX_CREATE, NGX_WRAP, SPAWN, PLACES };

_Static_assert(PLACES == CPROF__CREATORS, "a place for each");

static __attribute__((noinline)) void inherit_result(cprof__luavm *vm, lua_State *L, int results)
{
    if (results == 1 && lua_checkstack(L, 8)) {
        inherit_at(vm, L, lua_gettop(L));
    }
}

/* Samples show these under the names that they have here, so none makes way by a tail call. */
#define CREATOR(name, place)                                                                                 \
    static int name(lua_State *L)                                                                            \
    {                                                                                                        \
        cprof__luavm *vm = cprof__luavm_of(L);                                                               \
        int results = vm->creators[place].original(L);                                                       \
        inherit_result(vm, L, results);                                                                      \
        return results;                                                                                      \
    }

CREATOR(coroutine_create, CREATE)
CREATOR(coroutine_wrap, WRAP)
CREATOR(kept_coroutine_create, KEPT_CREATE)
CREATOR(kept_coroutine_wrap, KEPT_WRAP)
CREATOR(ngx_coroutine_create, NGX_CREATE)
CREATOR(ngx_coroutine_wrap, NGX_WRAP)

/* The light thread runs a function that first adopts the labels. Not where it is C: spawn itself will refuse it. */
static int ngx_thread_spawn(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    uint32_t number = lua_isfunction(L, 1) && !lua_iscfunction(L, 1) ? cprof__lua_labels_of(vm, L) : 0;
    if (number) {
        luaL_checkstack(L, 3, "labels");
        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->adopting_ref);
        lua_pushvalue(L, 1);
        lua_pushnumber(L, (lua_Number)number);
        lua_call(L, 2, 1);
        lua_replace(L, 1);
    }
    int results = vm->creators[SPAWN].original(L);
    __asm__ volatile(""); /* no tail call */
    return results;
}

static const lua_CFunction ours[PLACES] = {coroutine_create,    coroutine_wrap,       kept_coroutine_create,
                                           kept_coroutine_wrap, ngx_coroutine_create, ngx_coroutine_wrap,
                                           ngx_thread_spawn};

/* The native code of the function on top of the stack, if it is what CODE says; NULL: that is not known. */
static char *code_of(const cprof__luavm *vm, lua_State *L, lua_CFunction code)
{
    uint64_t entry = (uint64_t)(uintptr_t)code;
    char *function = (char *)(uintptr_t)lua_topointer(L, -1);
    bool known = vm->levels == &cprof__levels_jit && code && lua_tocfunction(L, -1) == code;
    return known && cprof__word_at(function + CPROF__JIT_ENTRY_AT) == entry ? function + CPROF__JIT_ENTRY_AT
                                                                            : NULL;
}

static void exchange_code(char *at, lua_CFunction code)
{
    memcpy(at, &code, sizeof code);
}

static bool is_ours(lua_CFunction code)
{
    for (int i = 0; i < PLACES; i++) {
        if (ours[i] == code) {
            return true;
        }
    }
    return false;
}

/* exchange(f, place, adopting or nil), places from 1: whether calls of f come by us from now on. */
static int exchange(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    int place = (int)lua_tointeger(L, 2) - 1;
    cprof__creator *creator = &vm->creators[place];
    lua_CFunction original = lua_tocfunction(L, 1);
    lua_pushvalue(L, 1);
    char *code = creator->ref || is_ours(original) ? NULL : code_of(vm, L, original);
    if (code) {
        creator->original = original;
        creator->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        if (place == SPAWN) {
            lua_settop(L, 3);
            vm->adopting_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        }
        exchange_code(code, ours[place]);
    }
    lua_pushboolean(L, code || is_ours(original));
    return 1;
}

/* Leaves those alone that somebody else changed meanwhile: they still come by us. */
static void put_back(cprof__luavm *vm, lua_State *L)
{
    for (int i = 0; i < PLACES; i++) {
        cprof__creator *creator = &vm->creators[i];
        lua_rawgeti(L, LUA_REGISTRYINDEX, creator->ref);
        char *code = creator->ref ? code_of(vm, L, ours[i]) : NULL;
        lua_pop(L, 1);
        if (code) {
            exchange_code(code, creator->original);
            luaL_unref(L, LUA_REGISTRYINDEX, creator->ref);
            creator->ref = 0;
        }
    }
}

/* ---- Lua functions ---- */

/* inherit(created): gives it the labels of the thread that calls this. Returns its argument. */
static int inherit(lua_State *L)
{
    lua_settop(L, 1);
    inherit_at(cprof__luavm_of(L), L, 1);
    return 1;
}

static int current(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    lua_pushnumber(L, vm ? (lua_Number)cprof__lua_labels_of(vm, L) : 0);
    return 1;
}

/* Lua's type, which a sandbox may have taken out of _G. */
static int type_of(lua_State *L)
{
    lua_pushstring(L, luaL_typename(L, 1));
    return 1;
}

/* ---- Both ---- */

void cprof__lua_wrap_creation(cprof__luavm *vm, lua_State *L)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, 8, "cprof");
    if (luaL_loadbuffer(L, wrappers, sizeof wrappers - 1, "=cprof") != 0) {
        lua_error(L);
    }
    lua_pushcfunction(L, inherit);
    lua_pushcfunction(L, current);
    lua_pushcfunction(L, adopt);
    lua_pushcfunction(L, exchange);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->loaded_ref);
    lua_pushcfunction(L, type_of);
    /* A library that does not let its functions be replaced keeps them. */
    vm->unwrap_ref = lua_pcall(L, 6, 1, 0) == 0 ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
    lua_settop(L, top);
}

void cprof__lua_unwrap_creation(cprof__luavm *vm, lua_State *L)
{
    if (!vm->unwrap_ref || !lua_checkstack(L, 2)) {
        return;
    }
    put_back(vm, L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->unwrap_ref);
    vm->unwrap_ref = 0;
    if (lua_pcall(L, 0, 0, 0) != 0) {
        lua_pop(L, 1);
    }
}
