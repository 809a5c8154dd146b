/* SPDX-License-Identifier: MIT
 *
 * See loaded.h. Only raw reads of tables: no metamethod runs, and no string is made.
 */
#include "luavm/loaded.h"

#include <stdio.h>
#include <string.h>

/* A program may keep data in its modules; the search gives up after so many fields. */
#define FIELDS_MAX 20000

/* How well a place suits for a name; smaller is better. */
enum { IN_STANDARD, IN_MODULE, IN_GLOBALS, NOWHERE };

typedef struct search {
    char *name;
    size_t size;
    int where;
    int fields_left;
    int function;   /* its index on the stack */
    uint64_t entry; /* 0, or a C function is looked for instead */
    bool is_c;
} search;

static bool listed(const char *const *list, const char *name)
{
    for (; *list; list++) {
        if (strcmp(*list, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool standard_module(const char *name)
{
    static const char *const modules[] = {"string", "table",     "math",    "os",        "io",
                                          "debug",  "coroutine", "package", "utf8",      "bit32",
                                          "bit",    "jit",       "ffi",     "table.new", NULL};
    return listed(modules, name);
}

static bool standard_global(const char *name)
{
    static const char *const globals[] = {"assert",       "collectgarbage", "dofile",       "error",
                                          "gcinfo",       "getfenv",        "getmetatable", "ipairs",
                                          "load",         "loadfile",       "loadstring",   "module",
                                          "newproxy",     "next",           "pairs",        "pcall",
                                          "print",        "rawequal",       "rawget",       "rawlen",
                                          "rawset",       "require",        "select",       "setfenv",
                                          "setmetatable", "tonumber",       "tostring",     "type",
                                          "unpack",       "warn",           "xpcall",       NULL};
    return listed(globals, name);
}

/* Keeps MODULE.FIELD (or MODULE alone) where it is better than what was found before. */
static void consider(search *s, const char *module, const char *field)
{
    char name[CPROF__LUA_NAME_MAX];
    bool global = field && strcmp(module, "_G") == 0;
    int where = IN_MODULE;
    if (s->is_c && (global ? standard_global(field) : standard_module(module))) {
        where = IN_STANDARD;
    } else if (global) {
        where = IN_GLOBALS;
    }
    if (global || !field) {
        snprintf(name, sizeof name, "%s", global ? field : module);
    } else {
        snprintf(name, sizeof name, "%s.%s", module, field);
    }
    size_t length = strlen(name), best = strlen(s->name);
    if (where < s->where ||
        (where == s->where && (length < best || (length == best && strcmp(name, s->name) < 0)))) {
        snprintf(s->name, s->size, "%s", name);
        s->where = where;
    }
}

/* Whether the value on top of the stack is what is looked for. */
static bool matches(const search *s, lua_State *L)
{
    return s->entry ? (uint64_t)(uintptr_t)lua_tocfunction(L, -1) == s->entry
                    : lua_rawequal(L, -1, s->function);
}

/* The fields of the table on top of the stack, which is the module MODULE. */
static void search_module(search *s, lua_State *L, const char *module)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (s->fields_left-- <= 0) {
            lua_pop(L, 2);
            return;
        }
        if (lua_type(L, -2) == LUA_TSTRING && matches(s, L)) {
            consider(s, module, lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
}

static bool search_loaded(search *s, cprof__luavm *vm, lua_State *L, bool *standard)
{
    *s->name = '\0';
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->loaded_ref);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *module = lua_tostring(L, -2);
            if (matches(s, L)) {
                consider(s, module, NULL);
            } else if (lua_istable(L, -1)) {
                search_module(s, L, module);
            }
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    *standard = s->where == IN_STANDARD;
    return s->where != NOWHERE;
}

bool cprof__lua_loaded_name(cprof__luavm *vm, lua_State *L, char *name, size_t size, bool *standard)
{
    search s = {.name = name, .size = size, .where = NOWHERE, .fields_left = FIELDS_MAX};
    s.function = lua_gettop(L);
    s.is_c = lua_iscfunction(L, -1);
    return search_loaded(&s, vm, L, standard);
}

bool cprof__lua_loaded_entry(cprof__luavm *vm, lua_State *L, uint64_t entry, char *name, size_t size,
                             bool *standard)
{
    search s = {.name = name, .size = size, .where = NOWHERE, .fields_left = FIELDS_MAX};
    s.entry = entry;
    s.is_c = true;
    return search_loaded(&s, vm, L, standard);
}
