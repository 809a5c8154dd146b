/* SPDX-License-Identifier: MIT
 *
 * Lua states as a C host sees them: several of them, closed, detached, moved between threads, out of memory.
 * Compiled for each Lua (luavm_test.cmake).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "cprof.h"
#include "cprof_lua.h"
#include "cprof_vm.h"

#include "../resume.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- A host ---- */

static void preload(lua_State *L)
{
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_cprof_core);
    lua_setfield(L, -2, "cprof.core");
    lua_pop(L, 2);
}

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    preload(L);
    return L;
}

/* Runs CODE, in which `cprof` is the module. Returns lua_pcall's status; the message stays on the stack. */
static int try_run(lua_State *L, const char *code)
{
    lua_settop(L, 0);
    lua_pushliteral(L, "local cprof = require 'cprof.core' ");
    lua_pushstring(L, code);
    lua_concat(L, 2);
    const char *text = lua_tostring(L, -1);
    int status = luaL_loadbuffer(L, text, strlen(text), "=test");
    return status ? status : lua_pcall(L, 0, 0, 0);
}

static void run(lua_State *L, const char *code)
{
    if (try_run(L, code) != 0)
        fail_msg("%s", lua_tostring(L, -1));
}

static int64_t count(const char *profile)
{
    return cprof_profile_count(cprof_lookup(profile));
}

/* Whether the names of the only sample of PROFILE hold the COUNT names of WANTED in this order, others
 * between them allowed. */
static void assert_frames(const char *profile, const char *const *wanted, size_t wanted_count)
{
    cprof_snapshot *snapshot;
    cprof_sample sample;
    size_t found = 0;
    assert_int_equal(cprof_profile_snapshot(cprof_lookup(profile), &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample_count(snapshot), 1);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    for (size_t i = 0; i < sample.frame_count && found < wanted_count; i++)
        if (strcmp(sample.frames[i].name, wanted[found]) == 0)
            found++;
    if (found < wanted_count)
        fail_msg("%s: no frame %s where it should be", profile, wanted[found]);
    cprof_snapshot_free(snapshot);
}

#define ASSERT_FRAMES(PROFILE, ...)                                                                          \
    do {                                                                                                     \
        static const char *const wanted[] = {__VA_ARGS__};                                                   \
        assert_frames(PROFILE, wanted, sizeof wanted / sizeof *wanted);                                      \
    } while (0)

/* ---- Closing and detaching ---- */

static void test_close_takes_entries_along(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "local p = cprof.new_profile('close') for i = 1, 10 do p:add({}) p:add(i) end");
    assert_int_equal(count("close"), 20);
    lua_close(L);
    assert_int_equal(count("close"), 0);

    L = open_state();
    run(L, "local p = cprof.new_profile('close') p:add(1)");
    assert_int_equal(count("close"), 1);
    lua_close(L);
    assert_int_equal(count("close"), 0);
}

static void test_states_share_profiles_not_keys(void **unused)
{
    (void)unused;
    lua_State *a = open_state(), *b = open_state();
    run(a, "p = cprof.new_profile('shared') p:add('key') p:add(1)");
    run(b, "p = cprof.new_profile('shared') p:add('key') assert(not p:remove(1)) assert(p:count() == 3)");
    run(b, "assert(not pcall(cprof.new_profile, 'shared'))");
    run(a, "assert(p:remove('key')) assert(not p:remove('key'))");
    assert_int_equal(count("shared"), 2);
    lua_close(a);
    assert_int_equal(count("shared"), 1);
    run(b, "assert(p:remove('key'))");
    assert_int_equal(count("shared"), 0);
    lua_close(b);

    lua_State *c = open_state();
    run(c, "local ok, text = pcall(cprof.new_profile, 'shared', {sample_types = {{'a', 'b'}}})"
           "assert(not ok and text:find('other sample types'), text)");
    lua_close(c);
}

static void test_finalizers_of_a_closing_state(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "local p = cprof.new_profile('finalizers')"
           "local function finalize(self) p:remove(self) pcall(p.add, p, 1) p:count() end "
           "keep = {} for i = 1, 50 do "
           "  local object = newproxy and newproxy(true) or setmetatable({}, {__gc = finalize})"
           "  if newproxy then getmetatable(object).__gc = finalize end "
           "  p:add(object) keep[i] = object "
           "end");
    assert_int_equal(count("finalizers"), 50);
    lua_close(L);
    assert_int_equal(count("finalizers"), 0);
}

/* Finalizers run in reverse order: the data's own runs before that of an object which is older than it. */
static void test_data_in_a_closing_state(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "local p = cprof.new_profile('closing data') p:add(1) "
           "local data, samples "
           "local function finalize() "
           "  seen = not pcall(data.count, data) and not pcall(samples) and not pcall(data.encode, data) end "
           "keep = newproxy and newproxy(true) or setmetatable({}, {__gc = finalize}) "
           "if newproxy then getmetatable(keep).__gc = finalize end "
           "data = p:snapshot() samples = data:samples()");
    lua_close(L);
    assert_int_equal(count("closing data"), 0);
}

static void test_detach(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "p = cprof.new_profile('detach') key = {} p:add(key) p:add(1)");
    assert_non_null(cprof_lua_state(L));
    assert_int_equal(cprof_lua_detach(L), 0);
    assert_int_equal(cprof_lua_detach(L), 0);
    assert_null(cprof_lua_state(L));
    assert_int_equal(count("detach"), 0);
    run(L, "local ok, text = pcall(p.add, p, 2) assert(not ok and text:find('detached'), text)"
           "assert(not p:remove(key))");

    assert_int_equal(cprof_lua_attach(L), 0);
    assert_int_equal(cprof_lua_attach(L), 0);
    run(L, "assert(not p:remove(key)) p:add({}) p:add({}) p:add(key) assert(p:count() == 3)"
           "assert(p:remove(key)) assert(p:count() == 2)");
    lua_close(L);
    assert_int_equal(count("detach"), 0);
}

static void test_state_that_was_never_attached(void **unused)
{
    (void)unused;
    lua_State *L = luaL_newstate();
    assert_null(cprof_lua_state(L));
    assert_int_equal(cprof_lua_detach(L), 0);
    assert_int_equal(cprof_lua_attach(L), 0); /* no library is open */
    assert_non_null(cprof_lua_state(L));
    assert_int_equal(lua_gettop(L), 0);
    lua_close(L);
}

/* ---- Stacks ---- */

static int add_from_c(lua_State *L)
{
    static char keys[8];
    static unsigned used;
    if (cprof_profile_add(cprof_lookup(luaL_checkstring(L, 1)), &keys[used++ % 8], 0) != 0)
        return luaL_error(L, "%s", cprof_last_error());
    return 0;
}

static void test_entries_of_c_code_show_lua(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    lua_pushcfunction(L, add_from_c);
    lua_setglobal(L, "add_from_c");
    run(L, "cprof.new_profile('c entries')"
           "local function inner() add_from_c('c entries') return 1 end "
           "function outer() coroutine.wrap(function() inner() end)() return 1 end outer()");
    ASSERT_FRAMES("c entries", "add_from_c", "inner", "coroutine.wrap", "outer", "test (main chunk)");
    lua_close(L);
}

/* As ngx_lua does: the main thread is idle, and C resumes threads that only the registry holds. */
static void test_host_resumes_threads(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "p = cprof.new_profile('host threads')"
           "function request() coroutine.wrap(function() p:add({}) end)() return 1 end");
    lua_settop(L, 0);
    lua_State *thread = lua_newthread(L);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(thread, "request");
    assert_int_equal(resume(thread, L, 0), 0);
    ASSERT_FRAMES("host threads", "coroutine.wrap", "request");
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    assert_int_equal(lua_gettop(L), 0);
    lua_close(L);
}

static int add_and_return(lua_State *L)
{
    static char key;
    cprof_profile *profile = cprof_lookup("full registry");
    lua_pushliteral(L, "mine");
    if (cprof_profile_add(profile, &key, 0) != 0 || cprof_profile_remove(profile, &key) != 0)
        return luaL_error(L, "%s", cprof_last_error());
    return 1;
}

/* The search for a thread that nothing leads to ends within its bound, and leaves each stack as it was. */
static void test_registry_with_much_in_it(void **unused)
{
    (void)unused;
    for (int size = 200; size < 300; size++) {
        lua_State *L = open_state();
        run(L, "cprof.new_profile('full registry')");
        lua_settop(L, 0);
        lua_createtable(L, 0, 0);
        for (int i = 1; i <= size; i++) {
            lua_pushboolean(L, 1);
            lua_rawseti(L, -2, i);
        }
        luaL_ref(L, LUA_REGISTRYINDEX);
        lua_State *thread = lua_newthread(L);
        lua_pushvalue(L, -1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "thread");
        lua_replace(L, 1); /* kept, but where nobody looks: in a table in a slot */
        lua_settop(L, 1);
        lua_pushcfunction(thread, add_and_return);
        assert_int_equal(resume(thread, L, 0), 0);
        assert_string_equal(lua_tostring(thread, -1), "mine");
        assert_int_equal(lua_gettop(L), 1);
        lua_close(L);
    }
}

static void test_attach_in_a_coroutine(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "coroutine.wrap(function() p = require('cprof.core').new_profile('attached') p:add(1) end)()"
           "p:remove(1) local function leaf() p:add(2) return 1 end "
           "function root() coroutine.wrap(function() leaf() end)() return 1 end root()");
    ASSERT_FRAMES("attached", "leaf", "coroutine.wrap", "root", "test (main chunk)");
    lua_close(L);
}

/* ---- Threads ---- */

static void *use_state(void *state)
{
    run(state, "local function on_thread() p:add({}) return 1 end on_thread()");
    return NULL;
}

static void test_a_state_moves_to_another_thread(void **unused)
{
    (void)unused;
    pthread_t thread;
    lua_State *L = open_state();
    run(L, "p = cprof.new_profile('moves')");
    assert_int_equal(pthread_create(&thread, NULL, use_state, L), 0);
    pthread_join(thread, NULL);
    ASSERT_FRAMES("moves", "on_thread", "test (main chunk)");
    run(L, "p:add({})");
    lua_close(L);
    assert_int_equal(count("moves"), 0);
}

static void *own_state(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        lua_State *L = open_state();
        run(L, "local p = cprof.new_profile('many states')"
               "for i = 1, 50 do p:add({}) p:add(i) p:remove(i) end p:encode()");
        lua_close(L);
    }
    return NULL;
}

static void test_states_on_threads(void **unused)
{
    (void)unused;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, own_state, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(count("many states"), 0);
}

/* ---- Memory ---- */

static const char memory_script[] =
    "local p = cprof.lookup('memory') or cprof.new_profile('memory')"
    "local set = cprof.labels {a = 1}"
    "for i = 1, 20 do local key = {} p:add(key, {labels = set}) p:add(i) p:remove(i) end "
    "coroutine.wrap(function() pcall(function() p:add('s') end) end)() p:remove('s')"
    "cprof.with_labels({b = 2}, function()"
    "  cprof.set_labels(set) coroutine.wrap(function() p:add('l') end)() end) p:remove('l')"
    "local data = p:snapshot() for s in data:samples() do assert(s.frames[1]) end "
    "assert(#data:encode() > 0) assert(#cprof.profiles() > 0)";

static void test_our_allocations_fail(void **unused)
{
    (void)unused;
    for (long n = 0; n < 400; n++) {
        lua_State *L = open_state();
        cprof__alloc_fail_after(n);
        int status = try_run(L, memory_script);
        cprof__alloc_fail_after(-1);
        lua_close(L);
        if (cprof_lookup("memory"))
            assert_int_equal(count("memory"), 0);
        if (status == 0 && n > 100)
            return;
    }
    fail_msg("the script never succeeds");
}

struct budget {
    long left; /* allocations that succeed */
};

static void *allocate(void *data, void *memory, size_t old_size, size_t size)
{
    struct budget *budget = data;
    if (size == 0) {
        free(memory);
        return NULL;
    }
    /* Lua counts on shrinking to succeed. */
    if (!memory || size > old_size) {
        if (budget->left == 0)
            return NULL;
        budget->left -= budget->left > 0;
    }
    return realloc(memory, size);
}

static void test_luas_allocations_fail(void **unused)
{
    (void)unused;
    bool succeeded = false;
    for (long n = 0; n < 2000 && !succeeded; n += 1 + n / 100) {
        struct budget budget = {-1};
        lua_State *L = lua_newstate(allocate, &budget);
        if (!L) {
            print_message("this Lua takes no allocator\n");
            return;
        }
        preload(L);
        /* Loading is not what is tested, and the string would raise outside of a call. */
        lua_pushliteral(L, "local cprof = require 'cprof.core' ");
        lua_pushstring(L, memory_script);
        lua_concat(L, 2);
        assert_int_equal(luaL_loadstring(L, lua_tostring(L, -1)), 0);
        budget.left = n;
        succeeded = lua_pcall(L, 0, 0, 0) == 0;
        budget.left = -1;
        lua_close(L);
        if (cprof_lookup("memory"))
            assert_int_equal(count("memory"), 0);
    }
    assert_true(succeeded);
}

/* ---- Stacks that move ---- */

/* Moves whatever grows, and spoils what it leaves. */
static void *move(void *context, void *block, size_t old_size, size_t size)
{
    (void)context;
    void *moved = size ? malloc(size) : NULL;
    if (block && size && moved)
        memcpy(moved, block, old_size < size ? old_size : size);
    if (block && (moved || !size)) {
        memset(block, 0x5a, old_size);
        free(block);
    }
    return moved;
}

/* crowd(n): adds an entry, and removes it, with n values on the stack. Returns how many frames are in
 * "crowd". */
static int crowd(lua_State *L)
{
    static const char key;
    int values = (int)lua_tonumber(L, 1);
    cprof_snapshot *snapshot;
    cprof_sample sample;
    size_t frames = 0;
    luaL_checkstack(L, values, "crowd");
    for (int i = 0; i < values; i++)
        lua_pushnil(L);
    assert_int_equal(cprof_profile_add(cprof_lookup("crowd"), &key, 0), 0);
    assert_int_equal(cprof_profile_snapshot(cprof_lookup("crowd"), &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    for (size_t i = 0; i < sample.frame_count; i++)
        frames += strcmp(sample.frames[i].file, "crowd") == 0;
    cprof_snapshot_free(snapshot);
    assert_int_equal(cprof_profile_remove(cprof_lookup("crowd"), &key), 0);
    lua_pushnumber(L, (lua_Number)frames);
    return 1;
}

/* The walk needs room on the stack, which may have to grow in the middle of it. */
static void test_the_stack_moves_under_the_walk(void **unused)
{
    (void)unused;
    lua_State *L = lua_newstate(move, NULL);
    if (!L) {
        print_message("this Lua takes no allocator\n");
        return;
    }
    preload(L);
    lua_register(L, "crowd", crowd);
    run(L, "cprof.new_profile('crowd') "
           "local text = 'local self, depth, values = ... ' .. "
           "  'if depth == 0 then local n = crowd(values) return n end ' .. "
           "  'local n = self(self, depth - 1, values) return n' "
           "for values = 0, 20 do for depth = 1, 60 do "
           "  local frames = coroutine.wrap(function() "
           "    local f = assert((loadstring or load)(text, '@crowd')) " /* whose places are not known yet */
           "    local n = f(f, depth, values) return n "
           "  end)() "
           "  assert(frames == depth + 1, frames .. ' frames of ' .. depth + 1) "
           "end end");
    lua_close(L);
}

/* fill(): adds an entry with so many values on the stack that it cannot grow for a walk. */
static int fill(lua_State *L)
{
    static const char key;
    while (lua_checkstack(L, 12))
        lua_pushnil(L);
    assert_int_equal(cprof_profile_add(cprof_lookup("full"), &key, 0), 0);
    return 0;
}

static void test_a_full_stack_shows_that_frames_are_missing(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    lua_register(L, "fill", fill);
    run(L, "cprof.new_profile('full') fill()");
    ASSERT_FRAMES("full", "fill", "?", "main");
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_takes_entries_along),
        cmocka_unit_test(test_states_share_profiles_not_keys),
        cmocka_unit_test(test_finalizers_of_a_closing_state),
        cmocka_unit_test(test_data_in_a_closing_state),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_state_that_was_never_attached),
        cmocka_unit_test(test_entries_of_c_code_show_lua),
        cmocka_unit_test(test_host_resumes_threads),
        cmocka_unit_test(test_registry_with_much_in_it),
        cmocka_unit_test(test_attach_in_a_coroutine),
        cmocka_unit_test(test_a_state_moves_to_another_thread),
        cmocka_unit_test(test_states_on_threads),
        cmocka_unit_test(test_our_allocations_fail),
        cmocka_unit_test(test_luas_allocations_fail),
        cmocka_unit_test(test_the_stack_moves_under_the_walk),
        cmocka_unit_test(test_a_full_stack_shows_that_frames_are_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
