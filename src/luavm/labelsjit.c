/* SPDX-License-Identifier: MIT
 *
 * See labelsjit.h. Under OpenResty these functions are ngx_lua's own, written in Lua, and yield; so the wrappers
 * are Lua as well. A light thread runs before spawn returns, so its labels are given by the first thing it does.
 */
#include "luavm/labelsjit.h"

#include "luavm/labels.h"

/* Where an argument is wrong, the wrapped function itself says so, at its caller's place: hence the tail calls. */
static const char wrappers[] = "local inherit, current, adopt, loaded, type = ...\n"
                               "local undo = {}\n"
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
                               "local ngx = loaded.ngx\n"
                               "wrap_field(loaded.coroutine, 'create', inheriting)\n"
                               "wrap_field(loaded.coroutine, 'wrap', inheriting)\n"
                               "wrap_field(type(ngx) == 'table' and ngx.thread, 'spawn', function(spawn)\n"
                               "  return function(f, ...)\n"
                               "    if type(f) ~= 'function' then return spawn(f, ...) end\n"
                               "    local labels = current()\n"
                               "    return spawn(function(...)\n"
                               "      adopt(labels)\n"
                               "      return f(...)\n"
                               "    end, ...)\n"
                               "  end\n"
                               "end)\n"
                               "return function()\n"
                               "  for i = 1, #undo do undo[i]() end\n"
                               "end\n";

/* The thread that the value at index 1 is, or that the function there has among its upvalues; NULL: none. */
static lua_State *created(lua_State *L)
{
    lua_State *thread = lua_tothread(L, 1);
    for (int i = 1; !thread && lua_isfunction(L, 1) && lua_getupvalue(L, 1, i); i++) {
        thread = lua_tothread(L, -1);
        lua_pop(L, 1);
    }
    return thread;
}

/* inherit(created): gives it the labels of the thread that calls this. Returns its argument. */
static int inherit(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    lua_settop(L, 1);
    lua_State *thread = created(L);
    if (vm && vm->labels_ref && thread && thread != L && lua_checkstack(thread, 5)) {
        cprof__lua_labels_set(vm, thread, cprof__lua_labels_of(vm, L));
    }
    return 1;
}

static int current(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    lua_pushnumber(L, vm ? (lua_Number)cprof__lua_labels_of(vm, L) : 0);
    return 1;
}

static int adopt(lua_State *L)
{
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm) {
        cprof__lua_labels_set(vm, L, (uint32_t)lua_tonumber(L, 1));
    }
    return 0;
}

/* Lua's type, which a sandbox may have taken out of _G. */
static int type_of(lua_State *L)
{
    lua_pushstring(L, luaL_typename(L, 1));
    return 1;
}

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
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->loaded_ref);
    lua_pushcfunction(L, type_of);
    /* A library that does not let its functions be replaced keeps them. */
    vm->unwrap_ref = lua_pcall(L, 5, 1, 0) == 0 ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
    lua_settop(L, top);
}

void cprof__lua_unwrap_creation(cprof__luavm *vm, lua_State *L)
{
    if (!vm->unwrap_ref || !lua_checkstack(L, 2)) {
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->unwrap_ref);
    vm->unwrap_ref = 0;
    if (lua_pcall(L, 0, 0, 0) != 0) {
        lua_pop(L, 1);
    }
}
