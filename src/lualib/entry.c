/* SPDX-License-Identifier: MIT
 *
 * The options of an entry or event: skip, labels, values.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include <limits.h>

static const char *const entry_names[] = {"skip", "labels", "values", NULL};
static const char *const event_names[] = {"skip", "labels", NULL};

/* How many keys the table on top of the stack has: more than its length where some are names, as in
 * {bytes = 100}, or behind a hole. */
static size_t count_keys(lua_State *L)
{
    size_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        count++;
    }
    return count;
}

static void read_values(lua_State *L, int arg, size_t columns, cprof_entry_options *options, int64_t *values)
{
    static const char shape[] = "a list of integers in the order of the columns";
    int type = cprof__options_get(L, arg, "values");
    if (type != LUA_TNIL) {
        if (type != LUA_TTABLE) {
            cprof__options_error(L, arg, "values", shape);
        }
        size_t count = cprof__lua_rawlen(L, -1);
        if (count > columns) {
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "option 'values' has %d values for %d column%s", (int)count,
                                          (int)columns, columns == 1 ? "" : "s"));
        }
        if (count_keys(L) != count) {
            cprof__options_error(L, arg, "values", shape);
        }
        for (size_t i = 0; i < count; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            if (!cprof__lua_tointeger(L, -1, &values[i])) {
                cprof__options_error(L, arg, "values", shape);
            }
            lua_pop(L, 1);
        }
        options->values = values;
        options->value_count = count;
    }
    lua_pop(L, 1);
}

static void read_labels(lua_State *L, int arg, cprof_entry_options *options)
{
    if (cprof__options_get(L, arg, "labels") != LUA_TNIL) {
        const cprof_labels **handle = cprof__lua_testudata(L, -1, CPROF__LABELS_TYPE);
        if (!handle) {
            cprof__options_error(L, arg, "labels", "what cprof.labels returns");
        } else {
            options->labels = *handle;
        }
    }
    lua_pop(L, 1);
}

void cprof__entry_options(lua_State *L, int arg, size_t columns, bool event, cprof_entry_options *options,
                          int64_t values[CPROF_SAMPLE_TYPES_MAX])
{
    int64_t skip;
    if (!event && lua_type(L, arg) == LUA_TNUMBER) {
        luaL_argcheck(L, cprof__lua_tointeger(L, arg, &skip) && skip >= 0 && skip <= INT_MAX, arg,
                      "skip must be an integer, 0 or more");
        options->skip = (int)skip;
        return;
    }
    if (!lua_isnoneornil(L, arg) && !lua_istable(L, arg)) {
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "%s expected, got %s",
                                      event ? "integer or table" : "number or table", luaL_typename(L, arg)));
    }
    if (cprof__options_check(L, arg, event ? event_names : entry_names)) {
        options->skip = (int)cprof__options_integer(L, arg, "skip", 0, INT_MAX, 1);
        read_labels(L, arg, options);
        if (!event) {
            read_values(L, arg, columns, options, values);
        }
    }
}
