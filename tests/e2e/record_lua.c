/* SPDX-License-Identifier: MIT
 *
 * A host of Lua that knows nothing of cprof (record_test.sh): runs the script that its argument names. Before that it
 * makes states whose allocator gives so little memory that the state itself finds room and not all that we put there.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static size_t used, most;

static void *allocate(void *context, void *block, size_t old_size, size_t size)
{
    (void)context;
    old_size = block ? old_size : 0; /* else it tells what for */
    if (size > old_size && used + size - old_size > most)
        return NULL;
    used += size - old_size;
    if (size)
        return realloc(block, size);
    free(block);
    return NULL;
}

/* LuaJIT's own lua_newstate does not survive it. */
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));

static void make_small_states(void)
{
    for (most = 1000; most < 20000; most += 100) {
        lua_State *L = lua_newstate(allocate, NULL);
        if (L)
            lua_close(L);
    }
}

int main(int argc, char **argv)
{
    if (!luaJIT_setmode)
        make_small_states();
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    int failed = argc < 2 || luaL_dofile(L, argv[1]);
    if (failed)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return failed;
}
