/* SPDX-License-Identifier: MIT
 *
 * A module for Lua 5.4 that knows nothing of cprof and has threads (threads_test.sh): early(ms) and late(ms) start one
 * that uses so much CPU time in burn_early or burn_late; join() waits for all.
 */
#define _GNU_SOURCE
#include <lauxlib.h>
#include <lua.h>

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { THREADS_MAX = 64 };

static pthread_t threads[THREADS_MAX];
static int count;
static volatile uint64_t sink;

static int64_t used_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static NOINLINE void *burn_early(void *ms)
{
    while (used_ms() < (intptr_t)ms)
        for (int i = 0; i < 20000; i++)
            sink += (uint64_t)i;
    return NULL;
}

static NOINLINE void *burn_late(void *ms)
{
    while (used_ms() < (intptr_t)ms)
        for (int i = 0; i < 20000; i++)
            sink -= (uint64_t)i;
    return NULL;
}

static int begin(lua_State *L, void *(*function)(void *))
{
    intptr_t ms = (intptr_t)luaL_checkinteger(L, 1);
    if (count == THREADS_MAX || pthread_create(&threads[count], NULL, function, (void *)ms) != 0)
        return luaL_error(L, "no more threads");
    count++;
    return 0;
}

static int early(lua_State *L)
{
    return begin(L, burn_early);
}

static int late(lua_State *L)
{
    return begin(L, burn_late);
}

static int join(lua_State *L)
{
    (void)L;
    while (count > 0)
        pthread_join(threads[--count], NULL);
    return 0;
}

__attribute__((visibility("default"))) int luaopen_thread_module(lua_State *L);

int luaopen_thread_module(lua_State *L)
{
    static const luaL_Reg functions[] = {{"early", early}, {"late", late}, {"join", join}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
