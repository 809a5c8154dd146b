/* SPDX-License-Identifier: MIT
 *
 * cprof.labels{key = value, …}: an interned set of labels to give to many entries.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include <string.h>

/* Reads the pair at the top of the stack (key below value), which the table at argument 1 holds, into *LABEL.
 */
static void read_label(lua_State *L, cprof_label *label)
{
    if (lua_type(L, -2) != LUA_TSTRING) {
        luaL_argerror(L, 1, lua_pushfstring(L, "label keys are strings, not a %s", luaL_typename(L, -2)));
    }
    size_t key_length;
    label->key = lua_tolstring(L, -2, &key_length);
    if (key_length == 0 || strlen(label->key) != key_length) {
        luaL_argerror(L, 1, "a label key is empty or has a zero byte in it");
    }
    size_t length = 0;
    label->str = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    if (label->str ? strlen(label->str) != length : !cprof__lua_tointeger(L, -1, &label->num)) {
        luaL_argerror(
            L, 1, lua_pushfstring(L, "label '%s' must be an integer or a string without zeros", label->key));
    }
}

static size_t count_pairs(lua_State *L, int table)
{
    size_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        count++;
        lua_pop(L, 1);
    }
    return count;
}

int cprof__labels_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    const cprof_labels **handle = lua_newuserdata(L, sizeof *handle);
    luaL_getmetatable(L, CPROF__LABELS_TYPE);
    lua_setmetatable(L, -2);
    size_t count = count_pairs(L, 1), i = 0;
    cprof_label *labels = lua_newuserdata(L, (count + 1) * sizeof *labels);
    memset(labels, 0, (count + 1) * sizeof *labels);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        if (i == count) { /* by a finalizer that ran when the room was allocated */
            return luaL_argerror(L, 1, "the table was changed meanwhile");
        }
        read_label(L, &labels[i++]);
        lua_pop(L, 1);
    }
    if (cprof_labels_intern(labels, i, handle) != 0) {
        return luaL_argerror(L, 1, cprof_last_error());
    }
    lua_settop(L, 2);
    return 1;
}

void cprof__push_labels(lua_State *L, const cprof_labels *set)
{
    size_t count;
    const cprof_label *labels = cprof_labels_list(set, &count);
    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        if (labels[i].str) {
            lua_pushstring(L, labels[i].str);
        } else {
            cprof__lua_pushinteger(L, labels[i].num);
        }
        lua_setfield(L, -2, labels[i].key);
    }
}

static int labels_tostring(lua_State *L)
{
    const cprof_labels **handle = luaL_checkudata(L, 1, CPROF__LABELS_TYPE);
    size_t count;
    const cprof_label *labels = cprof_labels_list(*handle, &count);
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    luaL_addstring(&text, "cprof.labels{");
    for (size_t i = 0; i < count; i++) {
        char number[32];
        snprintf(number, sizeof number, "%lld", (long long)labels[i].num);
        luaL_addstring(&text, i ? ", " : "");
        luaL_addstring(&text, labels[i].key);
        luaL_addstring(&text, labels[i].str ? " = \"" : " = ");
        luaL_addstring(&text, labels[i].str ? labels[i].str : number);
        luaL_addstring(&text, labels[i].str ? "\"" : "");
    }
    luaL_addstring(&text, "}");
    luaL_pushresult(&text);
    return 1;
}

/* Equal sets are one set. From 5.3 on the other operand may be any userdata. */
static int labels_eq(lua_State *L)
{
    const cprof_labels **a = cprof__lua_testudata(L, 1, CPROF__LABELS_TYPE);
    const cprof_labels **b = cprof__lua_testudata(L, 2, CPROF__LABELS_TYPE);
    lua_pushboolean(L, a && b && *a == *b);
    return 1;
}

void cprof__labels_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"__tostring", labels_tostring}, {"__eq", labels_eq}, {NULL, NULL}};
    cprof__new_type(L, CPROF__LABELS_TYPE, functions, NULL);
    lua_pop(L, 1);
}
