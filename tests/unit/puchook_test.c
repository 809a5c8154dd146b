/* SPDX-License-Identifier: MIT
 *
 * The hook that PUC Lua is asked with for a safepoint, and the host's own: whatever the host does with hooks, it keeps
 * its own. Requests are made as the signal handler makes them. Compiled for each Lua but LuaJIT, which has no such hook
 * (puchook_test.cmake).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/thread.h"
#include "cprof_lua.h"
#include "luavm/puclayout.h"
#include "luavm/pucsignal.h"

#include "signalled.h"

#include "../resume.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- A host ---- */

static int counts; /* of the host's hook */

static void host_hook(lua_State *L, lua_Debug *ar)
{
    (void)L;
    (void)ar;
    counts++;
}

static int other_counts;

static void other_hook(lua_State *L, lua_Debug *ar)
{
    (void)L;
    (void)ar;
    other_counts++;
}

/* A signal comes while L runs. */
static void request(lua_State *L)
{
    const cprof_vm_moment moment = {.state = cprof__luavm_of(L), .running = L};
    assert_int_equal(cprof__puc_request(&moment, UINT64_C(0xffffff) << 32 | 1), 1);
    assert_ptr_equal(lua_gethook(L), cprof__puc_hook);
}

/* borrow(f): sets a hook of its own while it calls F. Signals come before and after. */
static int borrow(lua_State *L)
{
    request(L);
    lua_Hook hook = lua_gethook(L);
    int mask = lua_gethookmask(L), count = lua_gethookcount(L), before = other_counts;
    lua_sethook(L, other_hook, LUA_MASKCOUNT, 10);
    lua_pushvalue(L, 1);
    lua_call(L, 0, 0);
    assert_true(other_counts > before);
    request(L);
    lua_sethook(L, hook, mask, count);
    return 0;
}

/* call_late(f, ...): a signal comes just before F is called. */
static int call_late(lua_State *L)
{
    request(L);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int signal_now(lua_State *L)
{
    request(L);
    return 0;
}

static lua_State *open_state(void)
{
    static const luaL_Reg functions[] = {
        {"borrow", borrow}, {"call_late", call_late}, {"signal_now", signal_now}, {NULL, NULL}};
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    for (const luaL_Reg *f = functions; f->name; f++)
        lua_register(L, f->name, f->func);
    assert_int_equal(luaL_dostring(L, "function work() local x = 0 for i = 1, 10000 do x = x + i end end"),
                     0);
    return L;
}

static void run(lua_State *L, const char *code)
{
    if (luaL_dostring(L, code) != 0)
        fail_msg("%s", lua_tostring(L, -1));
}

static lua_State *attach(void)
{
    lua_State *L = open_state();
    assert_int_equal(cprof_lua_attach(L), 0);
    assert_true(cprof__puc_layout_learn()->known);
    return L;
}

/* L has HOOK, for so many instructions, and it is called. */
static void assert_hook(lua_State *L, lua_Hook hook, int mask, int count)
{
    counts = 0;
    run(L, "work()");
    assert_ptr_equal(lua_gethook(L), hook);
    assert_int_equal(lua_gethookmask(L), mask);
    assert_int_equal(lua_gethookcount(L), count);
    if (mask)
        assert_in_range(counts, 10000 / count, 50000 / count);
    else
        assert_int_equal(counts, 0);
}

/* ---- Tests ---- */

/* Who found our hook and sets it again later has its own hook again. */
static void test_our_hook_is_taken_for_the_hosts(void **state)
{
    (void)state;
    lua_State *L = attach();
    lua_sethook(L, host_hook, LUA_MASKCOUNT, 100);
    run(L, "borrow(work) work()");
    assert_hook(L, host_hook, LUA_MASKCOUNT, 100);
    run(L, "borrow(function() work() signal_now() work() end) work()");
    assert_hook(L, host_hook, LUA_MASKCOUNT, 100);
    run(L, "borrow(function() work() borrow(function() signal_now() work() end) work() end) work()");
    assert_hook(L, host_hook, LUA_MASKCOUNT, 100);
    lua_sethook(L, NULL, 0, 0);
    run(L, "borrow(function() signal_now() work() end) work()");
    assert_hook(L, NULL, 0, 0);
    lua_close(L);
}

/* So do threads that were made while it was there, whatever happened since. */
static void test_our_hook_is_inherited(void **state)
{
    (void)state;
    lua_State *L = attach();
    lua_sethook(L, host_hook, LUA_MASKCOUNT, 100);
    request(L);
    lua_State *thread = lua_newthread(L);
    int kept = luaL_ref(L, LUA_REGISTRYINDEX);
    assert_ptr_equal(lua_gethook(thread), cprof__puc_hook);
    assert_hook(L, host_hook, LUA_MASKCOUNT, 100);
    lua_sethook(L, other_hook, LUA_MASKCOUNT, 30);
    request(L);
    run(L, "work()");
    assert_hook(thread, host_hook, LUA_MASKCOUNT, 100);
    luaL_unref(L, LUA_REGISTRYINDEX, kept);
    lua_close(L);
}

/* debug.gethook finds the program's own hook, however late the signal. */
static void test_the_program_never_finds_our_hook(void **state)
{
    (void)state;
    lua_State *L = attach();
    run(L, "local function hook() end "
           "debug.sethook(hook, 'c', 1000) "
           "local found, mask, count = call_late(debug.gethook) "
           "assert(found == hook and mask == 'c' and count == 1000, tostring(found)) "
           "call_late(debug.sethook, found, mask, count) "
           "assert(debug.gethook() == hook) "
           "assert(not call_late(pcall, error)) "
           "assert(debug.gethook() == hook) "
           "debug.sethook() "
           "assert(call_late(debug.gethook) == nil)");
    lua_close(L);
}

/* ---- What runs ---- */

static int load(uint64_t address, uint64_t *word)
{
    struct iovec here = {word, sizeof *word}, there = {(void *)(uintptr_t)address, sizeof *word};
    return !(address & 7) && process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof *word;
}

/* Returns whether a safepoint would be asked for in the middle of this function. */
static int look(lua_State *L)
{
    ucontext_t context;
    uint64_t pc = 0;
    cprof_vm_moment moment = {0};
    getcontext(&context);
    const cprof_vm_signal signal = {.context = &context,
                                    .pcs = &pc,
                                    .count = 1,
                                    .entered = 1,
                                    .stack_high = cprof__thread_self()->stack_high,
                                    .start = no_function,
                                    .load = load,
                                    .frame_sp = no_frame};
    assert_int_equal(cprof__puc_look(&signal, &moment), 1);
    lua_pushboolean(L, moment.running == L);
    return 1;
}

static int look_too(lua_State *L)
{
    return look(L);
}

/* While debug.gethook or debug.sethook runs, no hook is set: here others have taken their places. */
static void test_nothing_is_set_while_the_program_asks_for_hooks(void **state)
{
    (void)state;
    static const char *const names[] = {"gethook", "sethook"};
    for (int i = 0; i < 2; i++) {
        lua_State *L = open_state();
        lua_register(L, "look_too", look_too);
        lua_getglobal(L, "debug");
        lua_pushcfunction(L, look);
        lua_setfield(L, -2, names[i]);
        lua_pushstring(L, names[i]);
        lua_setglobal(L, "name");
        assert_int_equal(cprof_lua_attach(L), 0);
        run(L, "local asked = look_too() assert(asked) "
               "asked = debug[name]() assert(not asked)");
        lua_close(L);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_hook_is_taken_for_the_hosts),
        cmocka_unit_test(test_our_hook_is_inherited),
        cmocka_unit_test(test_the_program_never_finds_our_hook),
        cmocka_unit_test(test_nothing_is_set_while_the_program_asks_for_hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
