/* SPDX-License-Identifier: MIT
 *
 * The module cprof.http: serve. It is a library of its own, so that cprof.core pulls in no server. A server
 * runs until it is stopped or its state is closed: the registry holds its handle, so dropping the handle
 * stops nothing.
 */
#include "lualib/compat.h"
#include "lualib/options.h"

#include "cprof.h"

#include <string.h>

#define SERVER_TYPE "cprof.server"
#define ADDRESS_MAX 64

typedef struct handle {
    cprof_http *server; /* NULL: stopped */
    int port;
    char address[ADDRESS_MAX];
} handle;

static handle *check_handle(lua_State *L)
{
    return luaL_checkudata(L, 1, SERVER_TYPE);
}

/* While its server runs, a handle is kept in the registry under its own address. */
static void set_anchor(lua_State *L, handle *h, bool anchored)
{
    lua_pushlightuserdata(L, h);
    if (anchored) {
        lua_pushvalue(L, -2);
    } else {
        lua_pushnil(L);
    }
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Where nobody has done so, by the module that has the state: a profile that is asked for is to be there. */
static void turn_on_heap(lua_State *L)
{
    if (cprof_mem_profile_rate() != 0) {
        return;
    }
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "cprof.core");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "set_mem_profile_rate");
        lua_pushnumber(L, CPROF_MEM_PROFILE_RATE_DEFAULT);
        lua_call(L, 1, 0);
    }
    lua_pop(L, 2);
}

static int serve(lua_State *L)
{
    static const char *const names[] = {"address", "port", NULL};
    cprof_http_options options = CPROF_HTTP_OPTIONS_INIT;
    lua_settop(L, 1);
    handle *h = lua_newuserdata(L, sizeof *h);
    *h = (handle){NULL, 0, "127.0.0.1"};
    luaL_getmetatable(L, SERVER_TYPE);
    lua_setmetatable(L, -2);
    if (cprof__options_check(L, 1, names)) {
        int type = cprof__options_get(L, 1, "address");
        const char *address = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        if (type != LUA_TNIL && (!address || strlen(address) >= ADDRESS_MAX)) {
            return cprof__options_error(L, 1, "address", "a numeric address");
        }
        if (address) {
            memcpy(h->address, address, strlen(address) + 1);
        }
        lua_pop(L, 1);
        options.port = (int)cprof__options_integer(L, 1, "port", 0, 65535, 0);
    }
    options.address = h->address;
    set_anchor(L, h, true); /* first, since it may raise */
    int status = cprof_http_start(&options, &h->server);
    if (status != 0) {
        h->server = NULL;
        set_anchor(L, h, false);
        /* What the options say is the program's own doing. */
        return status == CPROF_EINVAL ? luaL_argerror(L, 1, cprof_last_error()) : cprof__push_failure(L);
    }
    h->port = cprof_http_port(h->server);
    turn_on_heap(L);
    return 1;
}

static int server_gc(lua_State *L)
{
    handle *h = check_handle(L);
    cprof_http *server = h->server;
    h->server = NULL;
    cprof_http_stop(server);
    return 0;
}

static int server_stop(lua_State *L)
{
    handle *h = check_handle(L);
    if (h->server) {
        server_gc(L);
        set_anchor(L, h, false);
    }
    return 0;
}

static int server_tostring(lua_State *L)
{
    const handle *h = check_handle(L);
    lua_pushfstring(L, "cprof.server: %s%s%s:%d%s", strchr(h->address, ':') ? "[" : "", h->address,
                    strchr(h->address, ':') ? "]" : "", h->port, h->server ? "" : " (stopped)");
    return 1;
}

/* server.port and server.address are values; server.stop is the method. */
static int server_index(lua_State *L)
{
    const handle *h = check_handle(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "port") == 0) {
        lua_pushinteger(L, h->port);
    } else if (strcmp(name, "address") == 0) {
        lua_pushstring(L, h->address);
    } else if (strcmp(name, "stop") == 0) {
        lua_pushcfunction(L, server_stop);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

int luaopen_cprof_http(lua_State *L);

__attribute__((visibility("default"))) int luaopen_cprof_http(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"__index", server_index}, {"__gc", server_gc}, {"__tostring", server_tostring},
        {"__close", server_stop},  {NULL, NULL},
    };
    luaL_newmetatable(L, SERVER_TYPE);
    cprof__lua_setfuncs(L, functions);
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, serve);
    lua_setfield(L, -2, "serve");
    return 1;
}
