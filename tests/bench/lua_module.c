/* SPDX-License-Identifier: MIT
 *
 * What tests/bench/worker.lua needs of C, for each Lua: the clock, the process's memory, and the walk over
 * the running stack that is the least a Lua profiler can do with the public API: lua_getstack and
 * lua_getinfo("Sl") for each level.
 */
#define _GNU_SOURCE
#include "lua_module.h"

#include <malloc.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int luaopen_cprof_bench(lua_State *L);

/* now(): nanoseconds. */
static int bench_now(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec * 1e9 + (lua_Number)now.tv_nsec);
    return 1;
}

/* walk(): from the function that calls it outward, which is what add(key, 1) records. Returns the depth. */
static int bench_walk(lua_State *L)
{
    lua_Debug frame;
    int level = 1, lines = 0;
    while (lua_getstack(L, level, &frame)) {
        lua_getinfo(L, "Sl", &frame);
        lines += frame.currentline; /* so that nothing of it can be left out */
        level++;
    }
    lua_pushinteger(L, level - 1);
    lua_pushinteger(L, lines);
    return 2;
}

/* memory(): bytes that malloc has given out, bytes of physical memory. */
static int bench_memory(lua_State *L)
{
    struct mallinfo2 info = mallinfo2();
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%ld %ld", &total, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    lua_pushnumber(L, (lua_Number)(info.uordblks + info.hblkhd));
    lua_pushnumber(L, (lua_Number)resident * (lua_Number)sysconf(_SC_PAGESIZE));
    return 2;
}

__attribute__((visibility("default"))) int luaopen_cprof_bench(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, bench_now);
    lua_setfield(L, -2, "now");
    lua_pushcfunction(L, bench_walk);
    lua_setfield(L, -2, "walk");
    lua_pushcfunction(L, bench_memory);
    lua_setfield(L, -2, "memory");
    bench_add_cpu(L);
    return 1;
}
