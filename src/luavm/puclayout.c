/* SPDX-License-Identifier: MIT
 *
 * See puclayout.h.
 */
#include "luavm/puclayout.h"

#include "cprof_vm.h"
#include "luavm/runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_BYTES 256 /* of a lua_State that are searched: none is smaller */
#define STACK_MAX 64
#define TRIES_MAX 40000

static cprof__puc_layout layout; /* written once, before it is known */

/* The functions on the native stack of a moment, from the caller outward to the VM's API. */
typedef struct native {
    uint64_t pcs[STACK_MAX], starts[STACK_MAX];
    size_t count;
} native;

static bool is_api(uint64_t start)
{
    const cprof_vm_native one = {&start, &start, 1};
    return cprof__lua_entered(&one, 1);
}

static void take_native(native *n)
{
    size_t all = cprof_vm_native_stack(n->pcs, n->starts, STACK_MAX);
    for (n->count = 0; n->count < all && !is_api(n->starts[n->count]); n->count++) {}
}

typedef struct lesson {
    cprof__puc_layout learnt;
    native in_call, in_hook;
    uintptr_t stack_top; /* of whoever called lua_resume */
    bool watching;       /* what is freed now is freed by the collector */
    int collectors, watched;
} lesson;

static uint64_t word_at(const void *base, size_t at)
{
    uint64_t word;
    memcpy(&word, (const char *)base + at, sizeof word);
    return word;
}

static int32_t int_at(const void *base, size_t at)
{
    int32_t value;
    memcpy(&value, (const char *)base + at, sizeof value);
    return value;
}

/* ---- The collector's functions ---- */

static bool collects(const lesson *l, uint64_t start)
{
    for (int i = 0; i < l->collectors; i++) {
        if (l->learnt.collectors[i] == start) {
            return true;
        }
    }
    return false;
}

static void make_garbage(lua_State *L);

/* The last function before the interpreter or the API is the one by which both enter the collector. (Where the API
 * left by a tail call into it, we who called the API come next.) */
static void learn_collector(lesson *l)
{
    native n;
    take_native(&n);
    size_t i = 1;
    while (i < n.count && n.starts[i] != l->learnt.interpreter &&
           n.starts[i] != (uint64_t)(uintptr_t)make_garbage) {
        i++;
    }
    uint64_t start = i > 1 ? n.starts[i - 1] : 0;
    if (start && !collects(l, start) && l->collectors < CPROF__PUC_COLLECTORS_MAX) {
        l->learnt.collectors[l->collectors++] = start;
    }
    l->watched += start != 0;
}

static void *allocate(void *context, void *memory, size_t old_size, size_t size)
{
    lesson *l = context;
    (void)old_size;
    if (size == 0) {
        if (memory && l->watching) {
            learn_collector(l);
        }
        free(memory);
        return NULL;
    }
    return realloc(memory, size + THREAD_BYTES); /* what is read behind a small lua_State is there */
}

static __attribute__((noinline)) void make_garbage(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_pop(L, 1);
}

/* Makes garbage until some of it has been freed, by the API and by Lua code; only tables, of which nothing is freed
 * but by the collector. */
static bool learn_collectors(lesson *l, lua_State *L)
{
    l->learnt.collectors[l->collectors++] = (uint64_t)(uintptr_t)lua_gc;
    l->watching = true;
    for (int i = 0; i < TRIES_MAX && l->watched == 0; i++) {
        make_garbage(L);
    }
    bool by_api = l->watched > 0;
    l->watching = false;
    l->watched = 0;
    if (luaL_loadstring(L, "for i = 1, 4000 do local t = {} end") != 0) {
        return false;
    }
    for (int i = 0; i < TRIES_MAX / 4000 && l->watched == 0; i++) {
        lua_pushvalue(L, -1);
        l->watching = true;
        bool ran = lua_pcall(L, 0, 0, 0) == 0;
        l->watching = false;
        if (!ran) {
            return false;
        }
    }
    lua_pop(L, 1);
    return by_api && l->watched > 0;
}

/* ---- Fields ---- */

/* The global state is what all threads of a state point to and what holds the allocator. */
static bool learn_global(lesson *l, const lua_State *a, const lua_State *b, const lua_State *c)
{
    for (size_t at = 16; at < THREAD_BYTES; at += 8) {
        uint64_t word = word_at(a, at);
        if (!word || word != word_at(b, at) || word != word_at(c, at) || word % 8 != 0 || word < 65536) {
            continue;
        }
        for (size_t i = 0; i <= 48; i += 8) {
            const void *global = (const void *)(uintptr_t)word;
            if (word_at(global, i) == (uint64_t)(uintptr_t)allocate &&
                word_at(global, i + 8) == (uint64_t)(uintptr_t)l) {
                l->learnt.global_at = (uint32_t)at;
                return true;
            }
        }
    }
    return false;
}

/* In a thread that runs, called by RUNNING's Lua code. */
static int on_call(lua_State *L)
{
    lesson *l = lua_touserdata(L, lua_upvalueindex(1));
    uintptr_t here = (uintptr_t)&l;
    lua_Debug ar;
    if (!lua_getstack(L, 0, &ar)) {
        return 0;
    }
    for (size_t at = 16; at < THREAD_BYTES; at += 8) {
        uint64_t word = word_at(L, at);
        if (word > here && word < l->stack_top && !l->learnt.error_jmp_at) {
            l->learnt.error_jmp_at = (uint32_t)at;
        }
#if LUA_VERSION_NUM == 501
        if (at == CPROF__CI_AT && ar.i_ci > 0 &&
            word == word_at(L, CPROF__BASE_CI_AT) + (uint64_t)ar.i_ci * CPROF__CI_BYTES) {
            l->learnt.ci_at = (uint32_t)at;
        }
#else
        if (word == (uint64_t)(uintptr_t)ar.i_ci && !l->learnt.ci_at) {
            l->learnt.ci_at = (uint32_t)at;
        }
#endif
    }
    take_native(&l->in_call);
    return 0;
}

/* Where a hook's context is kept: a hook gets none. */
static lesson *hooked;

static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    take_native(&hooked->in_hook);
}

static int resume(lua_State *L, lua_State *from, int arguments)
{
#if LUA_VERSION_NUM == 501
    (void)from;
    return lua_resume(L, arguments);
#elif LUA_VERSION_NUM < 504
    return lua_resume(L, from, arguments);
#else
    int results;
    return lua_resume(L, from, arguments, &results);
#endif
}

/* Two ints hold the count that a hook was set with; the one that goes down is what is left. */
static bool learn_hook_count(lesson *l, lua_State *main)
{
    static const int count = 0x5ca1ab1e;
    size_t found[4], places = 0;
    lua_State *L = lua_newthread(main);
    lua_sethook(L, on_count, LUA_MASKCOUNT, count);
    for (size_t at = 16; at < THREAD_BYTES && places < 4; at += 4) {
        if (int_at(L, at) == count) {
            found[places++] = at;
        }
    }
    if (places != 2 || luaL_loadstring(L, "local a = 1 return a + a") != 0 || resume(L, main, 0) != 0) {
        return false;
    }
    bool first = int_at(L, found[0]) != count, second = int_at(L, found[1]) != count;
    l->learnt.hook_count_at = (uint32_t)found[first ? 0 : 1];
    return first != second;
}

/* The interpreter is the innermost function that both a call of C and a hook have beneath them. */
static bool learn_interpreter(lesson *l)
{
    for (size_t i = 1; i < l->in_call.count; i++) {
        for (size_t k = 1; k < l->in_hook.count; k++) {
            if (l->in_call.starts[i] && l->in_call.starts[i] == l->in_hook.starts[k]) {
                l->learnt.interpreter = l->in_call.starts[i];
                return true;
            }
        }
    }
    return false;
}

static __attribute__((noinline)) bool run_thread(lesson *l, lua_State *main)
{
    lua_State *L = lua_newthread(main);
    if (luaL_loadstring(L, "local call = ... call() local a = 1 return a + a") != 0) {
        return false;
    }
    lua_pushlightuserdata(L, l);
    lua_pushcclosure(L, on_call, 1);
    hooked = l;
    bool ran = resume(L, main, 1) == 0;
    /* Once more, since the hook needs an instruction to come at. */
    if (ran && luaL_loadstring(L, "local a = 1 return a + a") == 0) {
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
        ran = resume(L, main, 0) == 0;
    }
    lua_sethook(L, NULL, 0, 0);
    return ran && l->learnt.error_jmp_at && l->learnt.ci_at && word_at(L, l->learnt.error_jmp_at) == 0;
}

static bool learn(lesson *l, lua_State *main)
{
    uintptr_t top = 0;
    l->stack_top = (uintptr_t)&top;
    if (!lua_checkstack(main, 10) || !learn_global(l, main, lua_newthread(main), lua_newthread(main))) {
        return false;
    }
    return run_thread(l, main) && learn_hook_count(l, main) && learn_interpreter(l) &&
           learn_collectors(l, main);
}

/* A state whose allocator fails ends the process by its panic function; ours has none that could fail but for want of
 * memory, and then learning in a protected call ends it all. */
static int learn_protected(lua_State *L)
{
    lesson *l = lua_touserdata(L, 1);
    l->learnt.known = learn(l, L);
    return 0;
}

static void learn_once(void)
{
    lesson *l = calloc(1, sizeof *l);
    lua_State *L = l ? lua_newstate(allocate, l) : NULL;
    if (L) {
#if LUA_VERSION_NUM == 501
        bool ran = lua_cpcall(L, learn_protected, l) == 0;
#else
        lua_pushcfunction(L, learn_protected);
        lua_pushlightuserdata(L, l);
        bool ran = lua_pcall(L, 1, 0, 0) == 0;
#endif
        l->watching = false;
        lua_close(L);
        if (ran && l->learnt.known) {
            layout = l->learnt;
        }
    }
    free(l);
}

const cprof__puc_layout *cprof__puc_layout_learn(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, learn_once);
    return &layout;
}

const cprof__puc_layout *cprof__puc_layout_known(void)
{
    return &layout;
}
