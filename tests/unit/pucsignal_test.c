/* SPDX-License-Identifier: MIT
 *
 * What signals find out of PUC Lua, and the hooks that they leave behind, as a C host meets them.
 * Compiled for each Lua (pucsignal_test.cmake).
 */
#define _GNU_SOURCE
#include "test.h"

#include "base/thread.h"
#include "cprof.h"
#include "cprof_lua.h"
#include "cprof_vm.h"
#include "luavm/puclayout.h"
#include "luavm/pucsignal.h"

#include "signalled.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    assert_int_equal(cprof_lua_attach(L), 0);
    return L;
}

static void run(lua_State *L, const char *code)
{
    if (luaL_loadbuffer(L, code, strlen(code), "=test") != 0 || lua_pcall(L, 0, 0, 0) != 0)
        fail_msg("%s", lua_tostring(L, -1));
}

/* ---- The search for the running thread (PUC; LuaJIT has none) ---- */

/* A stack on which words lie that look like pointers, and what is asked of it. */
#define NO_ADDRESS UINT64_C(0x3b9aca00)
static uint64_t searched[32];
static int loads_that_fault;

static int load_searched(uint64_t address, uint64_t *word)
{
    loads_that_fault += address >= NO_ADDRESS && address < NO_ADDRESS + 4096;
    if (address < (uint64_t)(uintptr_t)searched || address >= (uint64_t)(uintptr_t)(searched + 32))
        return 0;
    memcpy(word, (const void *)(uintptr_t)address, sizeof *word);
    return 1;
}

/* A fault costs more than all the rest of a sample, and what is no pointer stays on the stack. */
static void test_words_that_are_no_pointers_are_remembered(void **state)
{
    (void)state;
    lua_State *L = open_state();
    bool searches = cprof__puc_layout_learn()->known;
    uint64_t pc = 0;
    ucontext_t context;
    memset(&context, 0, sizeof context);
    context.uc_mcontext.gregs[REG_RSP] =
        (greg_t)(uintptr_t)(searched + 16); /* the search begins a red zone before */
    const cprof_vm_signal signal = {.context = &context,
                                    .pcs = &pc,
                                    .count = 1,
                                    .entered = 1,
                                    .stack_high = (uint64_t)(uintptr_t)(searched + 32),
                                    .start = no_function,
                                    .load = load_searched,
                                    .frame_sp = no_frame};
    for (size_t i = 0; i < 32; i += 8)
        searched[i] = NO_ADDRESS + i * 8;
    loads_that_fault = 0;
    for (int i = 0; i < 640; i++) {
        cprof_vm_moment moment;
        assert_int_equal(cprof__puc_look(&signal, &moment), 0);
    }
    assert_in_range(loads_that_fault, searches ? 4 : 0, 4 * 12);
    lua_close(L);
}

/* ---- What ran last time ---- */

static int loads;

static int load_anything(uint64_t address, uint64_t *word)
{
    struct iovec here = {word, sizeof *word}, there = {(void *)(uintptr_t)address, sizeof *word};
    loads++;
    return !(address & 7) && process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof *word;
}

static uint64_t entered_sp; /* below which the VM was entered last; 0: not told */

static uint64_t entered_frame(const cprof_vm_signal *signal, size_t frame)
{
    (void)signal;
    (void)frame;
    return entered_sp;
}

/* What is found to run on this stack, where LAST ran the time before. */
static void *look_here(const void *last)
{
    ucontext_t context;
    uint64_t pc = 0;
    cprof_vm_moment moment = {0};
    getcontext(&context);
    const cprof_vm_signal signal = {.context = &context,
                                    .pcs = &pc,
                                    .count = 1,
                                    .entered = entered_sp ? 0 : 1,
                                    .stack_high = cprof__thread_self()->stack_high,
                                    .start = no_function,
                                    .load = load_anything,
                                    .frame_sp = entered_frame,
                                    .last = last};
    loads = 0;
    return cprof__puc_look(&signal, &moment) ? moment.running : NULL;
}

static lua_State *outer_thread;
static int looks;

/* Runs as a hook, where a Lua function is at the top of L: the threads around L may be what ran last. */
static void look_from_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!cprof__puc_layout_learn()->known)
        return;
    assert_ptr_equal(look_here(NULL), L);
    int searched_for = loads;
    assert_ptr_equal(look_here(outer_thread), L);
    assert_ptr_equal(look_here(&looks), L);
    assert_ptr_equal(look_here(L), L);
    assert_true(loads < searched_for);
    looks++;
}

static int hook_here(lua_State *L)
{
    lua_sethook(L, look_from_hook, LUA_MASKCOUNT, 1);
    return 0;
}

static void test_what_ran_last_time_is_believed_only_where_it_runs(void **state)
{
    (void)state;
    lua_State *L = open_state();
    lua_register(L, "hook_here", hook_here);
    looks = 0;
    outer_thread = NULL;
    run(L,
        "local function busy() hook_here() local x = 0 for i = 1, 10 do x = x + i end return x end busy()");
    outer_thread = L;
    run(L, "local function busy() hook_here() local x = 0 for i = 1, 10 do x = x + i end return x end "
           "coroutine.wrap(busy)() coroutine.wrap(function() coroutine.wrap(busy)() end)()");
    assert_int_equal(looks, cprof__puc_layout_learn()->known ? 3 : 0);
    lua_close(L);
}

static lua_State *main_thread;

/* A host whose hook calls back into the main thread, while a coroutine runs. */
static void run_from_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    outer_thread = L;
    entered_sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    run(main_thread, "hook_here() local x = 0 for i = 1, 10 do x = x + i end");
    entered_sp = 0;
}

static int run_here(lua_State *L)
{
    lua_sethook(L, run_from_hook, LUA_MASKCOUNT, 1);
    return 0;
}

static void test_what_ran_last_time_may_be_in_a_hook(void **state)
{
    (void)state;
    if (!cprof__puc_layout_learn()->known)
        return; /* LuaJIT, whose running thread is not searched for */
    lua_State *L = main_thread = open_state();
    lua_register(L, "hook_here", hook_here);
    lua_register(L, "run_here", run_here);
    looks = 0;
    run(L, "coroutine.wrap(function() run_here() local x = 0 for i = 1, 10 do x = x + i end end)()");
    assert_int_equal(looks, 1);
    lua_close(L);
}

/* ---- Hooks of a host's ---- */

static void watch(lua_State *L, lua_Debug *ar)
{
    (void)L;
    (void)ar;
}

/* Runs while the hook of a safepoint is set, as where a signal has just come. */
static int detach(lua_State *L)
{
    cprof__luavm *vm = cprof__puc_state_of(L);
    cprof_vm_moment moment = {.state = vm, .running = L};
    assert_int_equal(cprof__puc_request(&moment, 1), 1);
    assert_true(lua_gethook(L) == cprof__puc_hook);
    assert_int_equal(cprof_lua_detach(L), 0);
    return 0;
}

static void test_detaching_gives_hooks_back(void **state)
{
    (void)state;
    if (!cprof__puc_layout_learn()->known)
        return;
    static const char *const codes[] = {"detach() local x = 1 x = x + 1",
                                        "coroutine.wrap(function() detach() local x = 1 x = x + 1 end)()"};
    for (int i = 0; i < 2; i++) {
        lua_State *L = open_state();
        lua_register(L, "detach", detach);
        lua_sethook(L, watch, LUA_MASKCOUNT | LUA_MASKLINE, 1000);
        run(L, codes[i]);
        assert_true(lua_gethook(L) == watch);
        assert_int_equal(lua_gethookmask(L), LUA_MASKCOUNT | LUA_MASKLINE);
        assert_int_equal(lua_gethookcount(L), 1000);
        lua_close(L);
    }
}

/* ---- What is made meanwhile ---- */

static void arm(lua_State *L)
{
    cprof_vm_moment moment = {.state = cprof__puc_state_of(L), .running = L};
    assert_int_equal(cprof__puc_request(&moment, 1), 1);
}

static void label(lua_State *L, int64_t number)
{
    const cprof_label one = {"number", NULL, number, NULL};
    const cprof_labels *set = NULL;
    assert_int_equal(number ? cprof_labels_intern(&one, 1, &set) : 0, 0);
    assert_int_equal(cprof_lua_set_labels(L, set, NULL), 0);
}

static void expect_label(lua_State *L, int64_t number)
{
    size_t count = 0;
    const cprof_label *list = cprof_labels_list(cprof_lua_labels(L), &count);
    assert_int_equal(count, number != 0);
    assert_true(!number || list[0].num == number);
}

/* A thread that is made while its maker has our hook has it too, and its maker's labels, whoever had it last. */
static void test_labels_of_what_is_made_meanwhile(void **state)
{
    (void)state;
    if (!cprof__puc_layout_learn()->known)
        return;
    lua_State *L = open_state(), *makers[3], *made[3];
    for (int i = 0; i < 3; i++) {
        makers[i] = lua_newthread(L);
        label(makers[i], i);
    }
    for (int i = 0; i < 3; i++) {
        arm(makers[i]);
        made[i] = lua_newthread(makers[i]);
    }
    label(makers[2], 7);
    lua_State *later = lua_newthread(makers[2]);
    for (int i = 0; i < 3; i++) {
        expect_label(made[i], i);
        run(made[i], "local x = 1 for i = 1, 100 do x = x + i end");
        assert_null(lua_gethook(made[i]));
        expect_label(made[i], i);
    }
    expect_label(makers[2], 7);
    expect_label(later, 7);
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_that_are_no_pointers_are_remembered),
        cmocka_unit_test(test_what_ran_last_time_is_believed_only_where_it_runs),
        cmocka_unit_test(test_what_ran_last_time_may_be_in_a_hook),
        cmocka_unit_test(test_detaching_gives_hooks_back),
        cmocka_unit_test(test_labels_of_what_is_made_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
