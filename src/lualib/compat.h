/* SPDX-License-Identifier: MIT
 *
 * All differences between the Lua versions that lualib/ meets.
 */
#ifndef CPROF_LUALIB_COMPAT_H
#define CPROF_LUALIB_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#if LUA_VERSION_NUM == 501

static inline size_t cprof__lua_rawlen(lua_State *L, int index)
{
    return lua_objlen(L, index);
}

static inline void *cprof__lua_testudata(lua_State *L, int index, const char *type)
{
    void *data = lua_touserdata(L, index);
    if (!data || !lua_getmetatable(L, index)) {
        return NULL;
    }
    luaL_getmetatable(L, type);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? data : NULL;
}

/* Only LuaJIT, which the module for 5.1 serves as well, has this function. */
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));

static inline bool cprof__lua_is_jit(void)
{
    return luaJIT_setmode != NULL;
}

static inline void cprof__lua_setfuncs(lua_State *L, const luaL_Reg *functions)
{
    luaL_register(L, NULL, functions);
}

/* The open file of the io library at INDEX; NULL where it is none or closed. */
static inline FILE *cprof__lua_file(lua_State *L, int index)
{
    FILE **file = cprof__lua_testudata(L, index, LUA_FILEHANDLE);
    return file ? *file : NULL;
}

#else

static inline size_t cprof__lua_rawlen(lua_State *L, int index)
{
    return lua_rawlen(L, index);
}

static inline void *cprof__lua_testudata(lua_State *L, int index, const char *type)
{
    return luaL_testudata(L, index, type);
}

static inline void cprof__lua_setfuncs(lua_State *L, const luaL_Reg *functions)
{
    luaL_setfuncs(L, functions, 0);
}

static inline FILE *cprof__lua_file(lua_State *L, int index)
{
    luaL_Stream *stream = luaL_testudata(L, index, LUA_FILEHANDLE);
    return stream && stream->closef ? stream->f : NULL;
}

#endif

#if LUA_VERSION_NUM >= 503

/* The number at INDEX as an integer; false where it is no number or has no exact integer. Strings are no
 * numbers. */
static inline bool cprof__lua_tointeger(lua_State *L, int index, int64_t *value)
{
    int exact = 0;
    *value = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &exact) : 0;
    return exact;
}

static inline void cprof__lua_pushinteger(lua_State *L, int64_t value)
{
    lua_pushinteger(L, value);
}

#else

static inline bool cprof__lua_tointeger(lua_State *L, int index, int64_t *value)
{
    lua_Number number = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : 0.5;
    *value = 0;
    if (!(number >= -0x1p63 && number < 0x1p63)) {
        return false;
    }
    *value = (int64_t)number;
    return (lua_Number)*value == number;
}

static inline void cprof__lua_pushinteger(lua_State *L, int64_t value)
{
    lua_pushnumber(L, (lua_Number)value);
}

#endif

#endif
