/* SPDX-License-Identifier: MIT
 *
 * A C program that embeds Lua 5.4. Four threads open blobs in C, a script opens blobs through a function that
 * C gives it, 800 stay open, and anyone may ask over HTTP who opened them:
 *
 *     example_c_host [PORT [SCRIPT]]      8888 and script.lua where not given; port 0 is any free one
 */
#define _GNU_SOURCE
#include "blobstore.h"
#include "cprof.h"
#include "cprof_lua.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, BLOBS_PER_THREAD = 100 };

static blob *thread_blobs[THREADS][BLOBS_PER_THREAD];

/* ---- Blobs that C threads open ---- */

static void upload(blob **out, int number)
{
    char name[32];
    snprintf(name, sizeof name, "upload-%d", number);
    *out = blobstore_open(name);
}

static void *upload_worker(void *argument)
{
    blob **blobs = argument;
    for (int i = 0; i < BLOBS_PER_THREAD; i++)
        upload(&blobs[i], i);
    return NULL;
}

static int run_workers(void)
{
    pthread_t threads[THREADS];
    int started = 0;
    while (started < THREADS &&
           pthread_create(&threads[started], NULL, upload_worker, thread_blobs[started]) == 0)
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return started == THREADS ? 0 : -1;
}

/* ---- Blobs that the script opens: open_blob(name) and blob:close() ---- */

static const char *const BLOB_TYPE = "blobstore.blob";

static int lua_close_blob(lua_State *L)
{
    blob **slot = luaL_checkudata(L, 1, BLOB_TYPE);
    blobstore_close(*slot);
    *slot = NULL;
    return 0;
}

static int lua_open_blob(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    blob **slot = lua_newuserdatauv(L, sizeof *slot, 0);
    *slot = NULL;
    luaL_setmetatable(L, BLOB_TYPE);
    *slot = blobstore_open(name);
    if (!*slot)
        return luaL_error(L, "cannot open %s", name);
    return 1;
}

static lua_State *open_lua(void)
{
    static const luaL_Reg methods[] = {{"close", lua_close_blob}, {"__gc", lua_close_blob}, {NULL, NULL}};
    lua_State *L = luaL_newstate();
    if (!L)
        return NULL;
    luaL_openlibs(L);
    luaL_newmetatable(L, BLOB_TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_register(L, "open_blob", lua_open_blob);
    if (cprof_lua_attach(L) != 0) { /* from now on C stacks show the Lua code that called */
        fprintf(stderr, "cprof: %s\n", cprof_last_error());
        lua_close(L);
        return NULL;
    }
    return L;
}

/* ---- The program ---- */

static void wait_for_ctrl_c(const sigset_t *signals)
{
    int number;
    sigwait(signals, &number);
}

static int run(lua_State *L, int port, const char *script, const sigset_t *signals)
{
    if (luaL_dofile(L, script) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    cprof_http_options options = CPROF_HTTP_OPTIONS_INIT;
    options.port = port;
    cprof_http *server;
    if (cprof_http_start(&options, &server) != 0) {
        fprintf(stderr, "cprof: %s\n", cprof_last_error());
        return 1;
    }
    printf("blobs are open; now try\n\n    go tool pprof -top "
           "http://localhost:%d/debug/pprof/blobstore.Open\n\n",
           cprof_http_port(server));
    fflush(stdout);
    wait_for_ctrl_c(signals);
    cprof_http_stop(server);
    return 0;
}

int main(int argc, char **argv)
{
    /* Blocked before the first thread starts, so that all threads inherit it and sigwait gets the signal. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    if (blobstore_init() != 0) {
        fprintf(stderr, "cprof: %s\n", cprof_last_error());
        return 1;
    }
    lua_State *L = open_lua();
    if (!L || run_workers() != 0)
        return 1;
    int status = run(L, argc > 1 ? atoi(argv[1]) : 8888, argc > 2 ? argv[2] : EXAMPLE_SCRIPT, &signals);
    lua_close(L);
    for (int i = 0; i < THREADS * BLOBS_PER_THREAD; i++)
        blobstore_close(thread_blobs[i / BLOBS_PER_THREAD][i % BLOBS_PER_THREAD]);
    return status;
}
