/* SPDX-License-Identifier: MIT
 *
 * Labels of Lua threads as a C host, and whoever puts hooks of our own in their place, meet them.
 * Compiled for each Lua (lualabels_test.cmake).
 */
#include "test.h"

#include "cprof.h"
#include "cprof_lua.h"
#include "luavm/labels.h"
#include "luavm/pucsignal.h"

#include "../resume.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <stdio.h>
#include <string.h>

static cprof_profile *profile;

static const cprof_labels *set_of(const char *key, int64_t value)
{
    cprof_label label = {key, NULL, value, NULL};
    const cprof_labels *set;
    assert_int_equal(cprof_labels_intern(&label, 1, &set), 0);
    return set;
}

/* Writes SET as "key=1 key=2". */
static const char *text_of(const cprof_labels *set, char *text, size_t size)
{
    size_t count, length = 0;
    const cprof_label *list = cprof_labels_list(set, &count);
    text[0] = 0;
    for (size_t i = 0; i < count && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s=%lld", i ? " " : "", list[i].key,
                                   (long long)list[i].num);
    return text;
}

static int push_labels(lua_State *L)
{
    char text[256];
    cprof_snapshot *snapshot;
    cprof_sample sample;
    assert_int_equal(cprof_profile_snapshot(profile, &snapshot), 0);
    assert_int_equal(cprof_snapshot_sample(snapshot, 0, &sample), 0);
    lua_pushstring(L, text_of(sample.labels, text, sizeof text));
    cprof_snapshot_free(snapshot);
    return 1;
}

/* A C function of the host, which knows nothing of Lua: adds an entry, and returns the labels that it got. */
static int now(lua_State *L)
{
    assert_int_equal(cprof_profile_add(profile, &profile, 1), 0);
    push_labels(L);
    assert_int_equal(cprof_profile_remove(profile, &profile), 0);
    return 1;
}

/* The same of one that does. */
static int here(lua_State *L)
{
    cprof_vm_state *state = cprof_lua_state(L);
    uint64_t key = cprof_vm_next_key(state);
    assert_int_equal(cprof_vm_add(state, L, profile, key, NULL), 0);
    push_labels(L);
    assert_int_equal(cprof_vm_remove(state, profile, key), 0);
    return 1;
}

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    lua_pushcfunction(L, now);
    lua_setglobal(L, "now");
    lua_pushcfunction(L, here);
    lua_setglobal(L, "here");
    return L;
}

static lua_State *open_attached(void)
{
    lua_State *L = open_state();
    lua_pushcfunction(L, luaopen_cprof_core);
    lua_call(L, 0, 1);
    lua_setglobal(L, "cprof");
    return L;
}

static void run(lua_State *L, const char *code)
{
    if (luaL_loadstring(L, code) != 0 || lua_pcall(L, 0, 0, 0) != 0)
        fail_msg("%s", lua_tostring(L, -1));
}

static void assert_labels(const cprof_labels *set, const char *wanted)
{
    char text[256];
    assert_string_equal(text_of(set, text, sizeof text), wanted);
}

/* ---- Hosts ---- */

static void test_native_entries(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    cprof_set_labels(set_of("thread", 1), NULL);
    run(L, "assert(now() == 'thread=1')"
           "cprof.with_labels({lua = 2}, function() assert(now() == 'lua=2 thread=1', now()) end)"
           "cprof.with_labels({thread = 3}, function() assert(now() == 'thread=3', now()) end)"
           "local co = coroutine.wrap(function()"
           "  cprof.set_labels {co = 4} assert(now() == 'co=4 thread=1') coroutine.yield() return now() end)"
           "co() cprof.set_labels {main = 5} local seen = co() assert(seen == 'co=4 thread=1', seen)"
           "assert(now() == 'main=5 thread=1')");
    cprof_set_labels(NULL, NULL);
    run(L, "assert(now() == 'main=5')");
    lua_close(L);
}

/* A host gives each request's coroutine labels before it resumes it. */
static void test_host_sets(void **unused)
{
    (void)unused;
    lua_State *L = open_attached(), *requests[3];
    const cprof_labels *old = set_of("none", 0);
    for (int i = 0; i < 3; i++) {
        requests[i] = lua_newthread(L);
        assert_int_equal(luaL_loadstring(requests[i], "for i = 1, 3 do coroutine.yield(here()) end"), 0);
        assert_int_equal(cprof_lua_set_labels(requests[i], set_of("request", i), &old), 0);
        assert_null(old);
    }
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 3; i++) {
            char wanted[32];
            snprintf(wanted, sizeof wanted, "request=%d", i);
            assert_int_equal(resume(requests[i], L, 0), LUA_YIELD);
            assert_string_equal(lua_tostring(requests[i], -1), wanted);
            lua_settop(requests[i], 0);
        }
    assert_int_equal(cprof_lua_set_labels(requests[0], NULL, &old), 0);
    assert_ptr_equal(old, set_of("request", 0));
    assert_null(cprof_lua_labels(requests[0]));
    assert_ptr_equal(cprof_lua_labels(requests[1]), set_of("request", 1));
    assert_null(cprof_lua_labels(L));
    lua_close(L);
}

/* ---- Coroutines ---- */

/* Whoever cached the functions before cprof was loaded creates coroutines that inherit. */
static void test_cached(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "local create, wrap, resume = coroutine.create, coroutine.wrap, coroutine.resume "
           "function check(cprof)"
           "  local co, wrapped "
           "  cprof.with_labels({creator = 1}, function()"
           "    co, wrapped = create(function() return here() end), wrap(function() return here() end) end)"
           "  cprof.with_labels({resumer = 1}, function()"
           "    assert(select(2, resume(co)) == 'creator=1' and wrapped() == 'creator=1') end)"
           "  local ok, message = pcall(create, 1) assert(not ok and message:find(\"bad argument #1 to '\"), "
           "message)"
           "  assert(coroutine.create == create and coroutine.wrap == wrap) "
           "end");
    lua_pushcfunction(L, luaopen_cprof_core);
    lua_call(L, 0, 1);
    lua_setglobal(L, "cprof");
    run(L, "check(cprof) for i = 1, 200 do check(cprof) end");
    assert_int_equal(cprof_lua_detach(L), 0);
    run(L, "assert(coroutine.resume(coroutine.create(function() return 1 end)))");
    assert_int_equal(cprof_lua_attach(L), 0);
    run(L, "check(cprof)");
    lua_close(L);
}

/* A library's function in Lua in the place of coroutine.create, and one of C that is nobody's (as in ngx_lua). */
static void test_replaced(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    run(L, "local create = coroutine.create "
           "coroutine._create, coroutine.create = create, function(...) return create(...) end "
           "local replaced, co = coroutine.create "
           "cprof.with_labels({creator = 1}, function() co = replaced(function() return here() end) end)"
           "assert(select(2, coroutine.resume(co)) == 'creator=1' and coroutine.create == replaced)");
    lua_close(L);
    L = open_attached();
    run(L,
        "local wrap = coroutine.wrap "
        "coroutine.create = function(f) return wrap(f) end "
        "local co "
        "cprof.with_labels({creator = 1}, function() co = coroutine.create(function() return here() end) end)"
        "assert(co() == 'creator=1')");
    lua_close(L);
}

/* ---- Threads that a host uses again, as ngx_lua does for each request ---- */

#if LUA_VERSION_NUM == 501
extern void lua_resetthread(lua_State *L, lua_State *thread) __attribute__((weak)); /* OpenResty's LuaJIT */
#endif

/* Whatever THREAD was about ends here, in the middle of a call where Lua allows it. */
static void reset(lua_State *L, lua_State *thread)
{
#if LUA_VERSION_NUM == 501
    if (lua_resetthread) {
        lua_resetthread(L, thread);
        return;
    }
#elif LUA_VERSION_NUM == 504
    lua_resetthread(thread);
    lua_settop(thread, 0);
    return;
#endif
    while (lua_status(thread) == LUA_YIELD)
        assert_true(resume(thread, L, 0) <= LUA_YIELD);
    lua_settop(thread, 0);
}

static const char *begin(lua_State *L, lua_State *thread, const char *code)
{
    assert_int_equal(luaL_loadstring(thread, code), 0);
    int status = resume(thread, L, 0);
    if (status > LUA_YIELD)
        fail_msg("%s", lua_tostring(thread, -1));
    return lua_gettop(thread) ? lua_tostring(thread, -1) : NULL;
}

#define ABANDONED                                                                                            \
    "cprof.with_labels({a = 1}, function()"                                                                  \
    "  cprof.with_labels({b = 2}, here)"                                                                     \
    "  coroutine.yield(cprof.with_labels({c = 3}, function(...)"                                             \
    "    coroutine.yield(here()) cprof.set_labels {d = 4} return here() end)) coroutine.yield() end)"

static void test_abandoned(void **unused)
{
    (void)unused;
    lua_State *L = open_attached(), *thread = lua_newthread(L);
    static const char *const after[] = {
        "return here()",
        "return (function(...) return here() end)(1, 2, 3)",
        "return cprof.with_labels({e = 5}, here)",
        "coroutine.yield() return cprof.with_labels({e = 5}, function() return here() end)",
        "cprof.with_labels({e = 5}, here) return here()",
        "return cprof.with_labels({}, function() return here() end)",
    };
    static const char *const wanted[] = {"", "", "e=5", "e=5", "", ""};
    for (int deep = 0; deep < 2; deep++)
        for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
            assert_string_equal(begin(L, thread, ABANDONED), "a=1 c=3");
            if (deep) {
                assert_int_equal(resume(thread, L, 0), LUA_YIELD);
                assert_string_equal(lua_tostring(thread, -1), "d=4");
            }
            reset(L, thread);
            begin(L, thread, after[i]);
            if (lua_status(thread) == LUA_YIELD)
                assert_int_equal(resume(thread, L, 0), 0);
            assert_string_equal(lua_tostring(thread, -1), wanted[i]);
            reset(L, thread);
        }
    lua_close(L);
}

/* What set_labels left is the host's to take back, but where LuaJIT tells that another chunk began. */
static void test_left(void **unused)
{
    (void)unused;
    lua_State *L = open_attached(), *thread = lua_newthread(L);
    static const char *const leaving[] = {
        "cprof.set_labels {a = 1} return here()",
        "cprof.set_labels {a = 1} return (function() coroutine.yield(here()) end)()",
        "local function f() cprof.set_labels {a = 1} end f() collectgarbage() coroutine.yield(here())",
        "cprof.with_labels({b = 2}, function() end) cprof.set_labels {a = 1}"
        "return cprof.with_labels({}, function() return here() end)",
    };
    for (size_t i = 0; i < sizeof leaving / sizeof *leaving; i++) {
        assert_string_equal(begin(L, thread, leaving[i]), "a=1");
        reset(L, thread);
        lua_gc(L, LUA_GCCOLLECT, 0);
        if (!cprof__luavm_of(L)->is_jit)
            assert_int_equal(cprof_lua_set_labels(thread, NULL, NULL), 0);
        assert_string_equal(begin(L, thread, "local seen = here() return seen"), "");
        reset(L, thread);
    }
    /* Those of the host's stay for what it runs next. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cprof_lua_set_labels(thread, set_of("host", i), NULL), 0);
        assert_string_equal(begin(L, thread, "return (function() return here() end)()"),
                            i ? "host=1" : "host=0");
        reset(L, thread);
    }
    lua_close(L);
}

/* ---- The life of a state ---- */

static void test_not_attached(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    assert_int_equal(cprof_lua_set_labels(L, set_of("a", 1), NULL), CPROF_ECLOSED);
    assert_null(cprof_lua_labels(L));
    lua_close(L);
}

static void test_detached(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    run(L, "create, wrap = coroutine.create, coroutine.wrap "
           "pending = wrap(function() cprof.with_labels({a = 1}, coroutine.yield) return now() end) pending()"
           "cprof.set_labels {main = 1}");
    assert_int_equal(cprof_lua_detach(L), 0);
    run(L, "assert(coroutine.create == create and coroutine.wrap == wrap)"
           "assert(cprof.set_labels {a = 2} == cprof.labels {main = 1})"
           "cprof.with_labels({a = 3}, function() assert(now() == '') end)"
           "wrap(function() cprof.set_labels {b = 1} end)()"
           "assert(pending() == '')");
    assert_int_equal(cprof_lua_attach(L), 0);
    run(L,
        "assert(now() == 'a=2')"
        "cprof.with_labels({b = 3}, function() inherited = coroutine.wrap(function() return now() end) end)"
        "assert(inherited() == 'a=2 b=3')");
    lua_close(L);
}

static void test_closing(void **unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        lua_State *L = open_attached();
        run(L, "local keep = {}"
               "for i = 1, 50 do"
               "  local co = coroutine.create(function() cprof.with_labels({i = i}, coroutine.yield) end)"
               "  coroutine.resume(co) keep[i] = co"
               "  if coroutine.close and i % 2 == 0 then assert(coroutine.close(co)) end "
               "end "
               "kept = keep "
               "if not newproxy then"
               "  last = setmetatable({}, {__gc = function()"
               "    cprof.with_labels({closing = 1}, function() cprof.set_labels {b = 2} end) end})"
               "else"
               "  last = newproxy(true)"
               "  getmetatable(last).__gc = function()"
               "    cprof.with_labels({closing = 1}, function() cprof.set_labels {b = 2} end) end "
               "end "
               "cprof.set_labels {main = 1}");
        lua_close(L);
    }
}

/* ---- Allocation ---- */

static void test_no_allocation(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    run(L, "local set, other = cprof.labels {a = 1}, cprof.labels {b = 2}"
           "local p = cprof.new_profile('lualabels_test.allocation')"
           "local function inner() p:record() end "
           "local function outer() cprof.with_labels(other, inner) end "
           "function round(n) for i = 1, n do"
           "  cprof.with_labels(set, outer) cprof.set_labels(set) p:record() cprof.set_labels(nil) end end "
           "round(100) collectgarbage() collectgarbage('stop')");
    long ours = -1;
    for (int i = 0; i < 2; i++) {
        int before = lua_gc(L, LUA_GCCOUNT, 0);
        cprof__alloc_fail_after(-1);
        run(L, "round(10000)");
        ours = cprof__alloc_fail_after(-1);
        assert_true(lua_gc(L, LUA_GCCOUNT, 0) - before <= 4); /* the chunk itself, in KB */
    }
    assert_int_equal(ours, 0);
    lua_close(L);
}

/* ---- The sampler's hook ---- */

/* Asks for a safepoint of L as a signal's handler does, so that L has the sampler's hook until this returns; meanwhile
 * reads its labels, gives it those at index 1, and creates a thread. Returns what it read, what it read after that,
 * and what the thread has. */
static int with_hook(lua_State *L)
{
    char text[256];
    cprof__luavm *vm = cprof__luavm_of(L);
    const cprof_labels *before = cprof_lua_labels(L);
    cprof_vm_moment moment = {.state = vm, .running = L};
    if (!vm->is_jit) {
        assert_int_equal(cprof__puc_request(&moment, 1), 1);
        assert_ptr_equal(lua_gethook(L), cprof__puc_hook);
    }
    assert_ptr_equal(cprof_lua_labels(L), before);
    if (lua_isnumber(L, 1))
        cprof_lua_set_labels(L, set_of("given", lua_tointeger(L, 1)), NULL);
    lua_pushstring(L, text_of(before, text, sizeof text));
    lua_pushstring(L, text_of(cprof_lua_labels(L), text, sizeof text));
    lua_State *thread = lua_newthread(L);
    lua_pop(L, 1);
    lua_pushstring(L, text_of(cprof_lua_labels(thread), text, sizeof text));
    return 3;
}

static void assert_no_hook(lua_State *L)
{
    assert_ptr_not_equal(lua_gethook(L), cprof__puc_hook);
}

static void test_sampler_hook(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    lua_pushcfunction(L, with_hook);
    lua_setglobal(L, "with_hook");
    run(L, "local function check(...)"
           "  local a, b, c = select(-3, ...)"
           "  local got = table.concat({with_hook((...))}, ', ')"
           "  assert(got == table.concat({a, b, c}, ', '), got) "
           "end "
           "for _, hook in ipairs {function() debug.sethook() end,"
           "    function() debug.sethook(function() end, 'c') end} do"
           "  hook() check(nil, '', '', '')"
           "  coroutine.wrap(function()"
           "    cprof.set_labels {a = 1} check(nil, 'a=1', 'a=1', 'a=1')"
           "    assert(now() == 'a=1')"
           "    check(2, 'a=1', 'given=2', 'given=2')"
           "    assert(now() == 'given=2', now())"
           "    cprof.with_labels({b = 1}, function()"
           "      check(nil, 'b=1 given=2', 'b=1 given=2', 'b=1 given=2') end)"
           "    assert(now() == 'given=2')"
           "    cprof.set_labels(nil) assert(now() == '')"
           "  end)() "
           "end "
           "debug.sethook(function() end, '', 1000) check(nil, '', '', '') check(3, '', 'given=3', 'given=3')"
           "assert(now() == 'given=3' and select(3, debug.gethook()) == 1000)"
           "debug.sethook() assert(now() == 'given=3') cprof.set_labels(nil)");
    assert_no_hook(L);
    lua_close(L);
}

static void test_decode(void **unused)
{
    (void)unused;
    for (uint32_t number = 0; number <= 65536; number++) {
        int count = cprof__lua_labels_encode(number);
        assert_true(count < 0);
        assert_int_equal(cprof__lua_labels_decode(0, count), number);
        assert_int_equal(cprof__lua_labels_decode(LUA_MASKLINE | LUA_MASKCALL, count), number);
        assert_int_equal(cprof__lua_labels_decode(LUA_MASKCOUNT, count), CPROF__LUA_LABELS_UNTOLD);
    }
    static const int others[] = {0, 1, -1, 1000, 100000000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(cprof__lua_labels_decode(0, others[i]), CPROF__LUA_LABELS_UNTOLD);
}

/* Comes last: it uses all sets up. */
static void test_full(void **unused)
{
    (void)unused;
    lua_State *L = open_attached();
    run(L, "local known = cprof.labels {known = 1}"
           "for i = 1, 70000 do cprof.set_labels {i = i} end "
           "assert(tostring(cprof.set_labels(known)) == 'cprof.labels{cprof = \"label sets full\"}')"
           "assert(now() == 'known=1')"
           "local co = coroutine.wrap(function()"
           "  return tostring(cprof.with_labels({new = 2}, cprof.set_labels, known)), now() end)"
           "local joined, after = co()"
           "assert(joined:find('label sets full') and after == 'known=1')");
    assert_labels(cprof_lua_labels(L), "known=1");
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_native_entries), cmocka_unit_test(test_host_sets),
        cmocka_unit_test(test_cached),         cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_abandoned),      cmocka_unit_test(test_left),
        cmocka_unit_test(test_not_attached),   cmocka_unit_test(test_detached),
        cmocka_unit_test(test_closing),        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_sampler_hook),   cmocka_unit_test(test_decode),
        cmocka_unit_test(test_full),
    };
    assert_int_equal(cprof_profile_new("lualabels_test.now", NULL, &profile), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
