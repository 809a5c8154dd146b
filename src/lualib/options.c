/* SPDX-License-Identifier: MIT
 *
 * See options.h.
 */
#include "lualib/options.h"

#include "cprof.h"

#include <string.h>

static bool listed(const char *const *names, const char *name)
{
    while (*names && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

bool cprof__options_check(lua_State *L, int arg, const char *const *names)
{
    if (lua_isnoneornil(L, arg)) {
        return false;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_argerror(L, arg,
                          lua_pushfstring(L, "options have names, not a %s for a key", luaL_typename(L, -2)));
        }
        if (!listed(names, lua_tostring(L, -2))) {
            luaL_argerror(L, arg, lua_pushfstring(L, "unknown option '%s'", lua_tostring(L, -2)));
        }
        lua_pop(L, 1);
    }
    return true;
}

int cprof__options_get(lua_State *L, int arg, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, arg);
    return lua_type(L, -1);
}

int cprof__options_error(lua_State *L, int arg, const char *name, const char *what)
{
    return luaL_argerror(L, arg, lua_pushfstring(L, "option '%s' must be %s", name, what));
}

int64_t cprof__options_integer(lua_State *L, int arg, const char *name, int64_t low, int64_t high,
                               int64_t fallback)
{
    int64_t value = fallback;
    if (cprof__options_get(L, arg, name) != LUA_TNIL) {
        if (!cprof__lua_tointeger(L, -1, &value) || value < low || value > high) {
            char range[64];
            snprintf(range, sizeof range, "an integer from %lld to %lld", (long long)low, (long long)high);
            cprof__options_error(L, arg, name, range);
        }
    }
    lua_pop(L, 1);
    return value;
}

bool cprof__options_boolean(lua_State *L, int arg, const char *name, bool fallback)
{
    int type = cprof__options_get(L, arg, name);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        cprof__options_error(L, arg, name, "a boolean");
    }
    bool value = type == LUA_TNIL ? fallback : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

const char *cprof__arg_text(lua_State *L, int arg)
{
    size_t length;
    luaL_checktype(L, arg, LUA_TSTRING);
    const char *text = lua_tolstring(L, arg, &length);
    luaL_argcheck(L, strlen(text) == length, arg, "has a zero byte in it");
    return text;
}

int cprof__push_failure(lua_State *L)
{
    lua_pushnil(L);
    lua_pushstring(L, cprof_last_error());
    lua_pushstring(L, cprof_last_error_name());
    return 3;
}
