/* SPDX-License-Identifier: MIT
 *
 * What tests/bench/cpu_worker.lua needs of C, for each Lua: clocks, C functions that burn a known time, native frames
 * below Lua ones, and states of their own on threads of their own. Times are in nanoseconds.
 */
#define _GNU_SOURCE
#include "load.h"
#include "lua_module.h"

#include <execinfo.h>
#include <lualib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

LOAD_BURNER(c_beta, 6)
LOAD_BURNER(c_gamma, 7)

static int thread_ns(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)load_thread_ns());
    return 1;
}

static int process_ns(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)load_process_ns());
    return 1;
}

/* process_clock(): as process_ns, to the nanosecond. */
static int process_clock(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec * 1e9 + (lua_Number)now.tv_nsec);
    return 1;
}

/* burn_beta(ns), burn_gamma(ns): what it took. */
static int burn_beta(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)c_beta((int64_t)luaL_checknumber(L, 1)));
    return 1;
}

static int burn_gamma(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)c_gamma((int64_t)luaL_checknumber(L, 1)));
    return 1;
}

/* sleep(ms) */
static int sleep_ms(lua_State *L)
{
    int64_t ms = (int64_t)luaL_checknumber(L, 1);
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    return 0;
}

__attribute__((noinline)) static void call_deep(lua_State *L, int levels)
{
    if (levels > 1)
        call_deep(L, levels - 1);
    else
        lua_call(L, lua_gettop(L) - 2, 0);
    __asm__ volatile("" ::: "memory");
}

/* call_deep(levels, f, ...): calls f with so many native frames more below it. */
static int call_deep_down(lua_State *L)
{
    call_deep(L, (int)luaL_checkinteger(L, 1));
    return 0;
}

/* resume(f, x): what f(x) returns, run in a new coroutine that only this C function knows. */
static int resume_new(lua_State *L)
{
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_xmove(L, thread, 2);
#if LUA_VERSION_NUM >= 504
    int count, status = lua_resume(thread, L, 1, &count);
#elif LUA_VERSION_NUM >= 502
    int status = lua_resume(thread, L, 1);
#else
    int status = lua_resume(thread, 1);
#endif
    lua_settop(thread, status == 0 ? 1 : lua_gettop(thread));
    lua_xmove(thread, L, 1);
    return status == 0 ? 1 : lua_error(L);
}

/* native_frames(): how many there are here. */
static int native_frames(lua_State *L)
{
    void *pcs[256];
    lua_pushinteger(L, backtrace(pcs, 256));
    return 1;
}

/* ---- threads(count, code, numbers…): runs the code in count new states at once, with the numbers ---- */

#define THREADS_MAX 8

typedef struct task {
    pthread_t thread;
    lua_State *L;
    const char *error;
} task;

static void *run_task(void *context)
{
    task *t = context;
    if (lua_pcall(t->L, lua_gettop(t->L) - 1, 0, 0) != 0)
        t->error = lua_tostring(t->L, -1);
    return NULL;
}

static bool prepare(task *t, lua_State *from, const char *code)
{
    t->error = NULL;
    t->L = luaL_newstate();
    if (!t->L) {
        t->error = "no memory";
        return false;
    }
    luaL_openlibs(t->L);
    if (luaL_loadstring(t->L, code) != 0) {
        t->error = lua_tostring(t->L, -1);
        return false;
    }
    for (int i = 3; i <= lua_gettop(from); i++)
        lua_pushnumber(t->L, luaL_checknumber(from, i));
    return true;
}

static int run_threads(lua_State *L)
{
    int count = (int)luaL_checkinteger(L, 1);
    const char *code = luaL_checkstring(L, 2), *error = NULL;
    task tasks[THREADS_MAX];
    if (count < 1 || count > THREADS_MAX)
        return luaL_error(L, "threads");
    for (int i = 0; i < count; i++)
        if (!prepare(&tasks[i], L, code))
            return luaL_error(L, "%s", tasks[i].error);
    for (int i = 0; i < count; i++)
        pthread_create(&tasks[i].thread, NULL, run_task, &tasks[i]);
    for (int i = 0; i < count; i++) {
        pthread_join(tasks[i].thread, NULL);
        error = tasks[i].error ? tasks[i].error : error;
    }
    if (error)
        return luaL_error(L, "%s", error);
    for (int i = 0; i < count; i++)
        lua_close(tasks[i].L);
    return 0;
}

void bench_add_cpu(lua_State *L)
{
    static const struct {
        const char *name;
        lua_CFunction function;
    } functions[] = {
        {"thread_ns", thread_ns},         {"process_ns", process_ns}, {"process_clock", process_clock},
        {"burn_beta", burn_beta},         {"burn_gamma", burn_gamma}, {"sleep", sleep_ms},
        {"native_frames", native_frames}, {"threads", run_threads},   {"call_deep", call_deep_down},
        {"resume", resume_new},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        lua_pushcfunction(L, functions[i].function);
        lua_setfield(L, -2, functions[i].name);
    }
}
