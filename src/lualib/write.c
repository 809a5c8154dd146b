/* SPDX-License-Identifier: MIT
 *
 * source:write(target [, options]) and source:encode([options]), for profiles and for data. A target is a
 * path, an open file of the io library, or a function that is called with one piece of the bytes after the
 * other.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include "base/error.h"

#include <errno.h>

static void read_options(lua_State *L, int arg, cprof_write_options *options)
{
    static const char *const names[] = {"debug", "gzip_level", "symbolize", NULL};
    *options = (cprof_write_options)CPROF_WRITE_OPTIONS_INIT;
    if (cprof__options_check(L, arg, names)) {
        options->debug = (int)cprof__options_integer(L, arg, "debug", 0, 1, options->debug);
        options->gzip_level = (int)cprof__options_integer(L, arg, "gzip_level", 0, 9, options->gzip_level);
        options->symbolize = cprof__options_boolean(L, arg, "symbolize", options->symbolize);
    }
}

static int write_to(cprof__source source, cprof_write_fn write, void *context,
                    const cprof_write_options *options)
{
    return source.profile ? cprof_profile_write_to(source.profile, write, context, options)
                          : cprof_snapshot_write_to(source.snapshot, write, context, options);
}

/* ---- To a file handle ---- */

typedef struct file_target {
    FILE *file;
    int error; /* an errno */
} file_target;

static int write_file(void *context, const void *bytes, size_t length)
{
    file_target *target = context;
    errno = 0;
    if (fwrite(bytes, 1, length, target->file) == length) {
        return 0;
    }
    target->error = errno ? errno : EIO;
    return 1;
}

static int write_to_file(lua_State *L, cprof__source source, FILE *file, const cprof_write_options *options)
{
    file_target target = {file, 0};
    int status = write_to(source, write_file, &target, options);
    /* What stdio holds back may fail too, and the caller is to hear of it. */
    if (status == 0 && fflush(file) != 0) {
        target.error = errno;
    }
    if (target.error) {
        status = cprof__fail_errno(target.error, "write");
    }
    if (status != 0) {
        return cprof__push_failure(L);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- To a function ---- */

/* Stack slots during a write to a function. */
enum { SLOT_TARGET = 2, SLOT_CALL = 4, SLOT_RESULT, SLOT_MESSAGE };

typedef struct piece {
    const void *bytes;
    size_t length;
} piece;

typedef struct function_target {
    lua_State *L;
    bool raised;
} function_target;

/* call(target, piece): in a call of its own since making the string may raise. */
static int call_target(lua_State *L)
{
    const piece *chunk = lua_touserdata(L, 2);
    lua_settop(L, 1);
    lua_pushlstring(L, chunk->bytes, chunk->length);
    lua_call(L, 1, 2);
    return 2;
}

static int write_function(void *context, const void *bytes, size_t length)
{
    function_target *target = context;
    lua_State *L = target->L;
    piece chunk = {bytes, length};
    lua_pushvalue(L, SLOT_CALL);
    lua_pushvalue(L, SLOT_TARGET);
    lua_pushlightuserdata(L, &chunk);
    if (lua_pcall(L, 2, 2, 0) != 0) {
        target->raised = true;
        lua_replace(L, SLOT_RESULT);
        return 1;
    }
    /* nil or false and a message, as io functions return them, stop the write. */
    bool stop = !lua_toboolean(L, -2) && !lua_isnil(L, -1);
    lua_replace(L, SLOT_MESSAGE);
    lua_replace(L, SLOT_RESULT);
    return stop;
}

static int write_to_function(lua_State *L, cprof__source source, const cprof_write_options *options)
{
    function_target target = {L, false};
    lua_settop(L, SLOT_CALL - 1);
    lua_pushcfunction(L, call_target);
    lua_pushnil(L);
    lua_pushnil(L);
    luaL_checkstack(L, 10, "cprof");
    int status = write_to(source, write_function, &target, options);
    if (target.raised) {
        lua_settop(L, SLOT_RESULT);
        return lua_error(L);
    }
    if (status == CPROF_ECANCELED) {
        lua_settop(L, SLOT_MESSAGE);
        lua_pushnil(L); /* where the function may have returned false */
        lua_replace(L, SLOT_RESULT);
        lua_pushstring(L, "ECANCELED");
        return 3;
    }
    if (status != 0) {
        return cprof__push_failure(L);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- All ---- */

int cprof__write(lua_State *L, cprof__source source)
{
    cprof_write_options options;
    read_options(L, 3, &options);
    if (lua_type(L, 2) == LUA_TFUNCTION) {
        return write_to_function(L, source, &options);
    }
    if (lua_type(L, 2) == LUA_TUSERDATA) {
        FILE *file = cprof__lua_file(L, 2);
        luaL_argcheck(L, file, 2, "not an open file");
        return write_to_file(L, source, file, &options);
    }
    if (lua_type(L, 2) != LUA_TSTRING) {
        return luaL_argerror(
            L, 2, lua_pushfstring(L, "path, file or function expected, got %s", luaL_typename(L, 2)));
    }
    const char *path = cprof__arg_text(L, 2);
    int status = source.profile ? cprof_profile_write(source.profile, path, &options)
                                : cprof_snapshot_write(source.snapshot, path, &options);
    if (status != 0) {
        return cprof__push_failure(L);
    }
    lua_pushboolean(L, 1);
    return 1;
}

int cprof__encode(lua_State *L, cprof__source source)
{
    cprof_write_options options;
    size_t length;
    read_options(L, 2, &options);
    void **box = cprof__push_box(L);
    int status = source.profile ? cprof_profile_encode(source.profile, &options, box, &length)
                                : cprof_snapshot_encode(source.snapshot, &options, box, &length);
    if (status != 0) {
        return cprof__push_failure(L);
    }
    lua_pushlstring(L, *box, length);
    cprof_free(*box);
    *box = NULL;
    return 1;
}
