/* SPDX-License-Identifier: MIT
 *
 * The module cprof.core: all of the Lua API but the server. lua/cprof.lua is its face.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#define BOX_TYPE "cprof.box"

void cprof__new_type(lua_State *L, const char *type, const luaL_Reg *functions, const luaL_Reg *methods)
{
    luaL_newmetatable(L, type);
    cprof__lua_setfuncs(L, functions);
    if (methods) {
        lua_createtable(L, 0, 8);
        cprof__lua_setfuncs(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_pushstring(L, type);
    lua_setfield(L, -2, "__name");
}

static int box_gc(lua_State *L)
{
    void **box = lua_touserdata(L, 1);
    cprof_free(*box);
    *box = NULL;
    return 0;
}

void **cprof__push_box(lua_State *L)
{
    void **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, BOX_TYPE);
    lua_setmetatable(L, -2);
    return box;
}

void cprof__push_sample_types(lua_State *L, const cprof_value_type *types, size_t count)
{
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, types[i].type);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, types[i].unit);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static int set_prof_stack_depth(lua_State *L)
{
    int64_t depth;
    int old;
    luaL_checktype(L, 1, LUA_TNUMBER);
    if (!cprof__lua_tointeger(L, 1, &depth) || depth < 1 || depth > 1024) {
        return luaL_argerror(L, 1, "depth must be an integer from 1 to 1024");
    }
    if (cprof_set_prof_stack_depth((int)depth, &old) != 0) {
        return luaL_argerror(L, 1, cprof_last_error());
    }
    lua_pushinteger(L, old);
    return 1;
}

int luaopen_cprof_core(lua_State *L)
{
    static const luaL_Reg box_functions[] = {{"__gc", box_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"new_profile", cprof__profile_new},
        {"lookup", cprof__profile_lookup},
        {"profiles", cprof__profile_list},
        {"labels", cprof__labels_new},
        {"set_labels", cprof__labels_set},
        {"start_cpu_profile", cprof__recording_start},
        {"set_prof_stack_depth", set_prof_stack_depth},
        {"set_mem_profile_rate", cprof__heap_rate_set},
        {"mem_profile_rate", cprof__heap_rate_get},
        {"set_native_heap", cprof__heap_native_set},
        {NULL, NULL},
    };
    if (cprof_lua_attach(L) != 0) {
        return luaL_error(L, "cprof: %s", cprof_last_error());
    }
    cprof__new_type(L, BOX_TYPE, box_functions, NULL);
    lua_pop(L, 1);
    cprof__labels_open(L);
    cprof__profile_open(L);
    cprof__data_open(L);
    cprof__recording_open(L);
    lua_createtable(L, 0, 8);
    cprof__lua_setfuncs(L, functions);
    cprof__push_with_labels(L);
    lua_setfield(L, -2, "with_labels");
    lua_pushfstring(L, "cprof %s", cprof_version());
    lua_setfield(L, -2, "_VERSION");
    return 1;
}
