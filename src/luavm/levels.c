/* SPDX-License-Identifier: MIT
 *
 * See levels.h: puts readers to the test.
 */
#include "luavm/levels.h"

#define LEVELS_MAX 64

/* Calls of every kind: plain, on different lines of one function, tail calls, through C, from a coroutine.
 * Each line has one call, so that lines tell places apart. */
static const char test_calls[] = "local probe, pcall, wrap = ...\n"
                                 "local down\n"
                                 "local function step(n, ...)\n"
                                 "  if n % 4 == 0 then\n"
                                 "    local r = down(n - 1)\n"
                                 "    return r\n"
                                 "  elseif n % 4 == 1 then\n"
                                 "    local r, s = pcall(down, n - 1)\n"
                                 "    return s\n"
                                 "  elseif n % 4 == 2 then\n"
                                 "    local r = down(n - 1)\n"
                                 "    return r\n"
                                 "  end\n"
                                 "  return down(n - 1)\n"
                                 "end\n"
                                 "function down(n)\n"
                                 "  if n > 0 then\n"
                                 "    local r = step(n)\n"
                                 "    return r\n"
                                 "  end\n"
                                 "  probe()\n"
                                 "  probe()\n"
                                 "  return probe()\n"
                                 "end\n"
                                 "down(9)\n"
                                 "wrap(down)(6)\n";

#define PROBES 6

typedef struct test {
    const cprof__levels *levels;
    int agreed, probes;
} test;

typedef struct told {
    const void *closure;
    uint64_t pc;
    int line;
} told;

/* Whether places differ just where lines do, in each function. */
static bool places_agree(const told *list, int count)
{
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < i; j++) {
            bool comparable = list[i].closure == list[j].closure && list[i].pc && list[j].pc;
            if (comparable && (list[i].pc == list[j].pc) != (list[i].line == list[j].line)) {
                return false;
            }
        }
    }
    return true;
}

/* Tail calls at LEVEL as the API tells them: 5.1 as levels without a function, which are passed over. */
static int api_tail_calls(lua_State *L, const lua_Debug *ar, int *number)
{
    int count = cprof__lua_tail_called(ar);
    lua_Debug next;
    while (lua_getstack(L, *number + 1, &next) && lua_getinfo(L, "f", &next) && lua_isnil(L, -1)) {
        lua_pop(L, 1);
        count++;
        ++*number;
    }
    if (lua_getstack(L, *number + 1, &next)) {
        lua_pop(L, 1);
    }
    return count;
}

static bool levels_agree(lua_State *L, const cprof__levels *levels)
{
    told list[LEVELS_MAX];
    cprof__level level;
    lua_Debug ar;
    int number = 0, count = 0;
    bool more = levels->first(L, &level);
    while (count < LEVELS_MAX && lua_getstack(L, number, &ar)) {
        if (!more || level.number != number) {
            return false;
        }
        lua_getinfo(L, CPROF__LUA_WALK, &ar);
        bool same = lua_topointer(L, -1) == level.closure && !lua_iscfunction(L, -1) == level.is_lua;
        lua_pop(L, 1);
        if (!same || api_tail_calls(L, &ar, &number) != level.tail_calls) {
            return false;
        }
        list[count++] = (told){level.closure, level.is_lua && level.pc_known ? level.pc : 0, ar.currentline};
        number++;
        more = levels->next(&level);
    }
    return !more && places_agree(list, count);
}

static int probe(lua_State *L)
{
    test *t = lua_touserdata(L, lua_upvalueindex(1));
    luaL_checkstack(L, 4, "cprof");
    t->probes++;
    t->agreed += levels_agree(L, t->levels);
    return 0;
}

static void push_field(lua_State *L, const char *module, const char *name)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, module);
        lua_remove(L, -2);
    }
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, name);
        lua_remove(L, -2);
    }
}

static bool fits(lua_State *L, const cprof__levels *levels)
{
    test t = {levels, 0, 0};
    if (luaL_loadbuffer(L, test_calls, sizeof test_calls - 1, "=cprof") != 0) {
        return false;
    }
    lua_pushlightuserdata(L, &t);
    lua_pushcclosure(L, probe, 1);
    push_field(L, "_G", "pcall");
    push_field(L, "coroutine", "wrap");
    /* A state without pcall or coroutines fails here, and keeps the debug API. */
    return lua_pcall(L, 3, 0, 0) == 0 && t.probes == PROBES && t.agreed == PROBES;
}

const cprof__levels *cprof__levels_choose(lua_State *L)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, 10, "cprof");
    const cprof__levels *found = NULL;
    for (int i = 0; cprof__levels_known[i] && !found; i++) {
        found = fits(L, cprof__levels_known[i]) ? cprof__levels_known[i] : NULL;
        lua_settop(L, top);
    }
    return found;
}
