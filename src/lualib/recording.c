/* SPDX-License-Identifier: MIT
 *
 * cprof.start_cpu_profile{…}: recordings of CPU time. One runs until it is stopped or its state is closed: the
 * registry holds its handle, so dropping the handle stops nothing.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include <string.h>

typedef struct handle {
    cprof_recording *recording;
    const char *engine;
    bool running;
} handle;

/* Its address is the registry's key for a table, with weak keys, from handles that were stopped to their data. */
static const char data_key;

static handle *check_handle(lua_State *L)
{
    return luaL_checkudata(L, 1, CPROF__RECORDING_TYPE);
}

/* While it runs, a handle is kept in the registry under its own address. */
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

/* The text of option NAME, or NULL; the option's table keeps it. */
static const char *text_option(lua_State *L, const char *name, const char *what)
{
    int type = cprof__options_get(L, 1, name);
    size_t length = 0;
    const char *text = type == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    if (type != LUA_TNIL && (!text || length == 0 || strlen(text) != length)) {
        cprof__options_error(L, 1, name, what);
    }
    lua_pop(L, 1);
    return text;
}

int cprof__recording_start(lua_State *L)
{
    static const char *const names[] = {"hz", "mode", "engine", "output", NULL};
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    lua_settop(L, 1);
    if (cprof__options_check(L, 1, names)) {
        options.hz = (int)cprof__options_integer(L, 1, "hz", 1, CPROF_CPU_HZ_MAX, options.hz);
        options.mode = text_option(L, "mode", "\"cpu\" or \"wall\"");
        options.engine = text_option(L, "engine", "\"perf\", \"timer\" or \"monotonic\"");
        options.output = text_option(L, "output", "a path");
    }
    handle *h = lua_newuserdata(L, sizeof *h);
    *h = (handle){NULL, "", false};
    luaL_getmetatable(L, CPROF__RECORDING_TYPE);
    lua_setmetatable(L, -2);
    set_anchor(L, h, true); /* first, since it may raise */
    int status = cprof_start_cpu_profile(&options, &h->recording);
    if (status != 0) {
        set_anchor(L, h, false);
        /* What the options say is the program's own doing. */
        return status == CPROF_EINVAL ? luaL_argerror(L, 1, cprof_last_error()) : cprof__push_failure(L);
    }
    h->running = true;
    h->engine = cprof_recording_engine(h->recording);
    return 1;
}

static void push_data_table(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&data_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

/* Stops the recording of the handle at index 1 and pushes its data. Returns: 0 or the error of writing the output;
 * then nothing is pushed where there is no data at all. */
static int stop(lua_State *L, handle *h)
{
    cprof_snapshot **box = cprof__data_push(L);
    int status = cprof_recording_stop(h->recording, box);
    if (h->running) {
        h->running = false;
        set_anchor(L, h, false);
    }
    if (!*box) {
        lua_pop(L, 1);
        return status;
    }
    push_data_table(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return status;
}

static int recording_stop(lua_State *L)
{
    handle *h = check_handle(L);
    lua_settop(L, 1);
    push_data_table(L);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    lua_settop(L, 1);
    if (!h->recording) {
        return luaL_error(L, "cprof: this recording was collected");
    }
    return stop(L, h) == 0 ? 1 : cprof__push_failure(L);
}

static int recording_gc(lua_State *L)
{
    handle *h = check_handle(L);
    cprof_recording *recording = h->recording;
    h->recording = NULL;
    h->running = false;
    cprof_recording_free(recording);
    return 0;
}

static int recording_tostring(lua_State *L)
{
    const handle *h = check_handle(L);
    lua_pushfstring(L, "cprof.recording: engine %s%s", h->engine, h->running ? "" : " (stopped)");
    return 1;
}

/* recording.engine is a value; recording.stop is the method. */
static int recording_index(lua_State *L)
{
    const handle *h = check_handle(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "engine") == 0) {
        lua_pushstring(L, h->engine);
    } else if (strcmp(name, "stop") == 0) {
        lua_pushcfunction(L, recording_stop);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

void cprof__recording_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"__index", recording_index},       {"__gc", recording_gc}, {"__close", recording_stop},
        {"__tostring", recording_tostring}, {NULL, NULL},
    };
    cprof__new_type(L, CPROF__RECORDING_TYPE, functions, NULL);
    lua_pop(L, 1);
    lua_pushlightuserdata(L, (void *)&data_key);
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}
