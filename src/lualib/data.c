/* SPDX-License-Identifier: MIT
 *
 * Data: a profile as it was at one moment, as Lua values.
 */
#include "lualib/lib.h"

#include <string.h>

cprof_snapshot **cprof__data_push(lua_State *L)
{
    cprof_snapshot **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, CPROF__DATA_TYPE);
    lua_setmetatable(L, -2);
    return box;
}

/* When a state closes, finalizers of other objects may still use data whose own has run. */
static cprof_snapshot *living(lua_State *L, cprof_snapshot *snapshot)
{
    if (!snapshot) {
        luaL_error(L, "cprof: this data was collected");
    }
    return snapshot;
}

static cprof_snapshot *check_data(lua_State *L)
{
    return living(L, *(cprof_snapshot **)luaL_checkudata(L, 1, CPROF__DATA_TYPE));
}

/* ---- Samples ---- */

static void push_frame(lua_State *L, const cprof_frame *frame)
{
    lua_createtable(L, 0, 6);
    lua_pushstring(L, frame->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, frame->file);
    lua_setfield(L, -2, "file");
    cprof__lua_pushinteger(L, frame->line);
    lua_setfield(L, -2, "line");
    cprof__lua_pushinteger(L, frame->start_line);
    lua_setfield(L, -2, "start_line");
    cprof__lua_pushinteger(L, (int64_t)frame->address);
    lua_setfield(L, -2, "address");
    lua_pushstring(L, frame->mapping);
    lua_setfield(L, -2, "mapping");
}

static void push_sample(lua_State *L, const cprof_sample *sample, size_t columns)
{
    lua_createtable(L, 0, 3);
    lua_createtable(L, (int)columns, 0);
    for (size_t i = 0; i < columns; i++) {
        cprof__lua_pushinteger(L, sample->values[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "values");
    cprof__push_labels(L, sample->labels);
    lua_setfield(L, -2, "labels");
    lua_createtable(L, (int)sample->frame_count, 0);
    for (size_t i = 0; i < sample->frame_count; i++) {
        push_frame(L, &sample->frames[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "frames");
}

/* The iterator: upvalues are the data and how many samples were given. */
static int next_sample(lua_State *L)
{
    cprof_snapshot *snapshot = living(L, *(cprof_snapshot **)lua_touserdata(L, lua_upvalueindex(1)));
    size_t index = (size_t)lua_tonumber(L, lua_upvalueindex(2));
    const cprof_value_type *types;
    cprof_sample sample;
    if (index >= cprof_snapshot_sample_count(snapshot)) {
        lua_pushnil(L);
        return 1;
    }
    if (cprof_snapshot_sample(snapshot, index, &sample) != 0) {
        return luaL_error(L, "%s", cprof_last_error());
    }
    lua_pushnumber(L, (lua_Number)(index + 1));
    lua_replace(L, lua_upvalueindex(2));
    push_sample(L, &sample, cprof_snapshot_sample_types(snapshot, &types));
    return 1;
}

static int data_samples(lua_State *L)
{
    check_data(L);
    lua_settop(L, 1);
    lua_pushnumber(L, 0);
    lua_pushcclosure(L, next_sample, 2);
    return 1;
}

/* ---- The rest ---- */

static int data_count(lua_State *L)
{
    cprof__lua_pushinteger(L, cprof_snapshot_count(check_data(L)));
    return 1;
}

static int data_name(lua_State *L)
{
    lua_pushstring(L, cprof_snapshot_name(check_data(L)));
    return 1;
}

static int data_write(lua_State *L)
{
    return cprof__write(L, (cprof__source){NULL, check_data(L)});
}

static int data_encode(lua_State *L)
{
    return cprof__encode(L, (cprof__source){NULL, check_data(L)});
}

static int data_gc(lua_State *L)
{
    cprof_snapshot **box = luaL_checkudata(L, 1, CPROF__DATA_TYPE);
    cprof_snapshot_free(*box);
    *box = NULL;
    return 0;
}

static int data_tostring(lua_State *L)
{
    const cprof_snapshot *snapshot = check_data(L);
    lua_pushfstring(L, "cprof.data: %s, %d samples", cprof_snapshot_name(snapshot),
                    (int)cprof_snapshot_sample_count(snapshot));
    return 1;
}

/* data.sample_types is a value, the rest are methods (upvalue 1). */
static int data_index(lua_State *L)
{
    const cprof_snapshot *snapshot = check_data(L);
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "sample_types") == 0) {
        const cprof_value_type *types;
        size_t count = cprof_snapshot_sample_types(snapshot, &types);
        cprof__push_sample_types(L, types, count);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

void cprof__data_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"__gc", data_gc}, {"__tostring", data_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"samples", data_samples}, {"count", data_count},   {"name", data_name},
        {"write", data_write},     {"encode", data_encode}, {NULL, NULL},
    };
    cprof__new_type(L, CPROF__DATA_TYPE, functions, NULL);
    lua_createtable(L, 0, 8);
    cprof__lua_setfuncs(L, methods);
    lua_pushcclosure(L, data_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
