/* SPDX-License-Identifier: MIT
 *
 * cprof.labels{key = value, …}: an interned set of labels to give to many entries, or to what runs (set_labels;
 * with_labels is in with51.c and its like). A set has one handle in a state as long as the program holds it, so
 * that asking for it again allocates nothing.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include <string.h>

/* Tables of at most this many labels are read without a place of their own. */
#define LOCAL_MAX 16

/* Its address is the key in the registry of the handles by their sets, with weak values. */
static const char handles_key;

/* Reads the pair at the top of the stack (key below value) into *LABEL. Returns NULL, or what is wrong. */
static const char *read_label(lua_State *L, cprof_label *label)
{
    if (lua_type(L, -2) != LUA_TSTRING) {
        return lua_pushfstring(L, "label keys are strings, not a %s", luaL_typename(L, -2));
    }
    size_t key_length;
    label->key = lua_tolstring(L, -2, &key_length);
    if (key_length == 0 || strlen(label->key) != key_length) {
        return "a label key is empty or has a zero byte in it";
    }
    size_t length = 0;
    label->str = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    if (label->str ? strlen(label->str) != length : !cprof__lua_tointeger(L, -1, &label->num)) {
        return lua_pushfstring(L, "label '%s' must be an integer or a string without zeros", label->key);
    }
    return NULL;
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

/* Interns the table at index TABLE. Returns NULL, or what is wrong; pushes some values either way. */
static const char *read_table(lua_State *L, int table, const cprof_labels **set)
{
    cprof_label local[LOCAL_MAX], *labels = local;
    size_t count = count_pairs(L, table), i = 0;
    if (count > LOCAL_MAX) {
        labels = lua_newuserdata(L, count * sizeof *labels);
    }
    memset(labels, 0, count * sizeof *labels);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (i == count) { /* by a finalizer that ran when the room was allocated */
            return "the table was changed meanwhile";
        }
        const char *wrong = read_label(L, &labels[i++]);
        if (wrong) {
            return wrong;
        }
        lua_pop(L, 1);
    }
    return cprof_labels_intern(labels, i, set) == 0 ? NULL : cprof_last_error();
}

const char *cprof__labels_read(lua_State *L, int arg, const cprof_labels **set)
{
    const cprof_labels **handle = cprof__lua_testudata(L, arg, CPROF__LABELS_TYPE);
    *set = handle ? *handle : NULL;
    if (handle) {
        return NULL;
    }
    if (!lua_istable(L, arg)) {
        return lua_pushfstring(L, "labels or table expected, got %s", luaL_typename(L, arg));
    }
    luaL_checkstack(L, 6, "labels");
    int top = lua_gettop(L);
    const char *wrong = read_table(L, arg, set);
    if (!wrong) {
        lua_settop(L, top);
    }
    return wrong;
}

/* Pushes the handle of SET. */
static void push_handle(lua_State *L, const cprof_labels *set)
{
    lua_pushlightuserdata(L, (void *)&handles_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, (void *)set);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        const cprof_labels **handle = lua_newuserdata(L, sizeof *handle);
        *handle = set;
        luaL_getmetatable(L, CPROF__LABELS_TYPE);
        lua_setmetatable(L, -2);
        lua_pushlightuserdata(L, (void *)set);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    }
    lua_remove(L, -2);
}

int cprof__labels_new(lua_State *L)
{
    const cprof_labels *set;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *wrong = cprof__labels_read(L, 1, &set);
    if (wrong) {
        return luaL_argerror(L, 1, wrong);
    }
    push_handle(L, set);
    return 1;
}

int cprof__labels_set(lua_State *L)
{
    const cprof_labels *set = NULL, *old = NULL;
    luaL_checkany(L, 1);
    const char *wrong = lua_isnil(L, 1) ? NULL : cprof__labels_read(L, 1, &set);
    if (wrong) {
        return luaL_argerror(L, 1, wrong);
    }
    if (cprof_lua_set_labels(L, set, &old) != 0) {
        return luaL_error(L, "%s", cprof_last_error());
    }
    if (old) {
        push_handle(L, old);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

const char *cprof__labels_enter(lua_State *L, const cprof_labels **old, int *arg)
{
    const cprof_labels *set, *joined = NULL;
    *arg = 1;
    const char *wrong = cprof__labels_read(L, 1, &set);
    if (wrong) {
        return wrong;
    }
    if (!lua_isfunction(L, 2)) {
        *arg = 2;
        if (!luaL_getmetafield(L, 2, "__call")) {
            return lua_pushfstring(L, "function expected, got %s", luaL_typename(L, 2));
        }
        lua_pop(L, 1);
    }
    *old = cprof_lua_labels(L);
    if (cprof_labels_join(set, *old, &joined) != 0 || cprof_lua_set_labels(L, joined, NULL) != 0) {
        luaL_error(L, "%s", cprof_last_error());
    }
    return NULL;
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
    lua_pushlightuserdata(L, (void *)&handles_key);
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}
