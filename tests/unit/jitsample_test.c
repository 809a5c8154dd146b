/* SPDX-License-Identifier: MIT
 *
 * CPU profiles of LuaJIT: known splits of the time between functions, compiled, interpreted, in coroutines, in C, in
 * the collector; which state holds LuaJIT's profiler, and a program that uses the profiler itself. JITSAMPLE_SECONDS
 * makes the last test, which throws everything together at 4 kHz, last longer.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof.h"
#include "cprof_lua.h"
#include "luavm/jitlayout.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Of <luajit.h>. */
void luaJIT_profile_start(lua_State *L, const char *mode, void (*callback)(void *, lua_State *, int, int),
                          void *data);
void luaJIT_profile_stop(lua_State *L);

/* ---- A host ---- */

static double cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* Burns CPU time; the FFI calls it too. */
__attribute__((visibility("default"), noinline)) void jitsample_spin(double ms);

void jitsample_spin(double ms)
{
    double end = cpu_ms() + ms;
    while (cpu_ms() < end) {}
}

__attribute__((noinline)) static int burn(lua_State *L)
{
    jitsample_spin(lua_tonumber(L, 1));
    return lua_toboolean(L, 2) ? luaL_error(L, "as asked") : 0;
}

/* Runs the function at 1 in a thread of its own, as hosts do. */
static int run_thread(lua_State *L)
{
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, thread, 1);
    lua_pushinteger(L, lua_resume(thread, 0));
    return 1;
}

static int now_ms(lua_State *L)
{
    lua_pushnumber(L, cpu_ms());
    return 1;
}

/* Of the test that runs: one that fails leaves its states open, of which one may hold the profiler. */
static lua_State *open_states[2];

static void close_state(lua_State *L)
{
    for (int i = 0; i < 2; i++)
        if (open_states[i] == L)
            open_states[i] = NULL;
    lua_close(L);
}

static int close_states(void **unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++)
        if (open_states[i])
            close_state(open_states[i]);
    return 0;
}

static lua_State *open_thread_state(void)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    lua_register(L, "burn", burn);
    lua_register(L, "run_thread", run_thread);
    lua_register(L, "now", now_ms);
    assert_int_equal(cprof_lua_attach(L), 0);
    return L;
}

static lua_State *open_state(void)
{
    lua_State *L = open_thread_state();
    open_states[open_states[0] != NULL] = L;
    return L;
}

static void run(lua_State *L, const char *code)
{
    lua_settop(L, 0);
    if (luaL_loadbuffer(L, code, strlen(code), "=jit") || lua_pcall(L, 0, 0, 0))
        fail_msg("%s", lua_tostring(L, -1));
}

/* ---- Recordings ---- */

static cprof_recording *start_at(int hz)
{
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    cprof_recording *recording;
    options.hz = hz;
    assert_int_equal(cprof_start_cpu_profile(&options, &recording), 0);
    return recording;
}

static cprof_snapshot *stop(cprof_recording *recording)
{
    cprof_snapshot *data;
    assert_int_equal(cprof_recording_stop(recording, &data), 0);
    cprof_recording_free(recording);
    return data;
}

static cprof_snapshot *record(lua_State *L, const char *code)
{
    cprof_recording *recording = start_at(1000);
    run(L, code);
    return stop(recording);
}

static bool holds(const cprof_sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->frame_count; i++)
        if (strcmp(sample->frames[i].name, name) == 0)
            return true;
    return false;
}

/* How much of DATA, in percent, is in stacks with NAMES, ended by NULL; with LEAF, the first is the leaf. */
static double share(cprof_snapshot *data, bool leaf, const char *const *names)
{
    int64_t all = 0, with = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(data); i++) {
        cprof_sample sample;
        assert_int_equal(cprof_snapshot_sample(data, i, &sample), 0);
        bool fits = !leaf || (sample.frame_count && strcmp(sample.frames[0].name, names[0]) == 0);
        for (size_t k = 0; names[k]; k++)
            fits = fits && holds(&sample, names[k]);
        all += sample.values[1];
        with += fits ? sample.values[1] : 0;
    }
    return all ? 100.0 * (double)with / (double)all : 0;
}

#define SHARE(DATA, LEAF, ...) share(DATA, LEAF, (const char *const[]){__VA_ARGS__, NULL})

/* What DATA holds most of. */
static void show(cprof_snapshot *data)
{
    for (size_t i = 0; i < cprof_snapshot_sample_count(data) && i < 10; i++) {
        cprof_sample sample;
        assert_int_equal(cprof_snapshot_sample(data, i, &sample), 0);
        print_message("%6.1f ms", (double)sample.values[1] * 1e-6);
        for (size_t k = 0; k < sample.frame_count && k < 8; k++)
            print_message(" < %s:%d", sample.frames[k].name, (int)sample.frames[k].line);
        print_message("\n");
    }
}

/* Other tests run beside us, and runs are short: splits are asked for within 6 points here. */
#define ASSERT_SHARE(DATA, WANTED, LEAF, ...)                                                                \
    do {                                                                                                     \
        double share_ = SHARE(DATA, LEAF, __VA_ARGS__);                                                      \
        if (fabs(share_ - (WANTED)) > 6) {                                                                   \
            show(DATA);                                                                                      \
            fail_msg("%.1f%% where %.1f%% are wanted", share_, (double)(WANTED));                            \
        }                                                                                                    \
    } while (0)

static double lost(cprof_snapshot *data)
{
    return SHARE(data, false, "[lua: no safepoint]");
}

/* How much of DATA, in percent, has the label vm=VALUE. */
static double labelled(cprof_snapshot *data, const char *value)
{
    int64_t all = 0, with = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(data); i++) {
        cprof_sample sample;
        size_t count;
        assert_int_equal(cprof_snapshot_sample(data, i, &sample), 0);
        const cprof_label *list = cprof_labels_list(sample.labels, &count);
        for (size_t k = 0; k < count; k++)
            if (strcmp(list[k].key, "vm") == 0 && list[k].str && strcmp(list[k].str, value) == 0)
                with += sample.values[1];
        all += sample.values[1];
    }
    return all ? 100.0 * (double)with / (double)all : 0;
}

#define ASSERT_LABELLED(DATA, LEAST, MOST, VALUE)                                                            \
    do {                                                                                                     \
        double share_ = labelled(DATA, VALUE);                                                               \
        if (share_ < (LEAST) || share_ > (MOST)) {                                                           \
            show(DATA);                                                                                      \
            fail_msg("%.1f%% are vm=%s", share_, VALUE);                                                     \
        }                                                                                                    \
    } while (0)

/* ---- Splits ---- */

/* Two functions, to be given shares of the time by share(function, ms). */
static const char work[] =
    "function light(n) local x = 0 for i = 1, n do\n x = x + i % 7\n end return x end\n"
    "function heavy(n) local x = 0 for i = 1, n do x = x + i % 7 end return x end\n"
    "function share(f, ms) local t = now() while now() - t < ms do f(20000) end end\n";

static void test_compiled(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    cprof_snapshot *data = record(L, "for i = 1, 30 do share(light, 10) share(heavy, 23.4) end");
    ASSERT_SHARE(data, 30, true, "light", "share");
    ASSERT_SHARE(data, 70, true, "heavy", "share");
    ASSERT_LABELLED(data, 80, 100, "compiled");
    cprof_snapshot_free(data);
    close_state(L);
}

static void test_interpreted(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, "jit.off()");
    run(L, work);
    cprof_snapshot *data = record(L, "for i = 1, 30 do share(light, 23.4) share(heavy, 10) end");
    ASSERT_SHARE(data, 70, true, "light", "share");
    ASSERT_SHARE(data, 30, true, "heavy", "share");
    ASSERT_LABELLED(data, 80, 100, "interpreted");
    cprof_snapshot_free(data);
    close_state(L);
}

static void test_coroutines(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    cprof_snapshot *data =
        record(L, "local resume, yield = coroutine.resume, coroutine.yield\n"
                  "local function one() while true do share(light, 3) yield() end end\n"
                  "local function two() while true do share(heavy, 5) yield() end end\n"
                  "local a, b = coroutine.create(one), coroutine.wrap(two)\n"
                  "for i = 1, 100 do resume(a) b() run_thread(function() share(light, 2) end) end");
    ASSERT_SHARE(data, 50, true, "light");
    ASSERT_SHARE(data, 30, true, "light", "coroutine.resume");
    ASSERT_SHARE(data, 50, true, "heavy");
    ASSERT_SHARE(data, 20, true, "light", "run_thread");
    cprof_snapshot_free(data);
    close_state(L);
}

/* Switching is all that they do; what ran is on a stack that is suspended when the safepoint comes. */
static void test_coroutines_that_only_switch(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    cprof_snapshot *data = record(L, "local resume, yield = coroutine.resume, coroutine.yield\n"
                                     "local co = coroutine.create(function() while true do yield() end end)\n"
                                     "for i = 1, 5e6 do resume(co) end\n"
                                     "for i = 1, 1e6 do resume(coroutine.create(yield)) end");
    assert_true(lost(data) < 5);
    cprof_snapshot_free(data);
    close_state(L);
}

static void test_c_functions(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    cprof_snapshot *data = record(L, "local function plain() burn(2) return 1 end\n"
                                     "local function tail() return burn(3) end\n"
                                     "for i = 1, 100 do plain() tail() share(light, 5) end");
    ASSERT_SHARE(data, 50, false, "jitsample_spin", "burn");
    ASSERT_SHARE(data, 20, false, "burn", "plain");
    ASSERT_SHARE(data, 50, true, "light");
    ASSERT_LABELLED(data, 40, 60, "C");
    cprof_snapshot_free(data);
    close_state(L);
}

/* The function that called what threw is gone at the safepoint, which is said; its callers are there. */
static void test_errors(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    cprof_snapshot *data = record(L, "local function thrower() local x = burn(3, true) return x end\n"
                                     "local function other() local x = burn(3) return x end\n"
                                     "local function main() for i = 1, 100 do pcall(thrower) other() "
                                     "pcall(burn, 3, true) end end main()");
    ASSERT_SHARE(data, 33, false, "burn", "other", "main");
    ASSERT_SHARE(data, 33, false, "burn", "(...ended calls...)", "main");
    assert_true(lost(data) < 5);
    cprof_snapshot_free(data);
    close_state(L);
}

static void test_ffi(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    run(L, "ffi = require 'ffi' ffi.cdef 'void jitsample_spin(double);'");
    cprof_snapshot *data =
        record(L, "local C, spin = ffi.C, 0\n"
                  "local function compiled() for i = 1, 40 do C.jitsample_spin(0.1) end end\n"
                  "local function interpreted() C.jitsample_spin(4) end jit.off(interpreted)\n"
                  "for i = 1, 50 do compiled() interpreted() share(light, 8) end");
    ASSERT_SHARE(data, 25, false, "jitsample_spin", "compiled");
    ASSERT_SHARE(data, 25, false, "jitsample_spin", "interpreted");
    ASSERT_SHARE(data, 50, true, "light");
    cprof_snapshot_free(data);
    close_state(L);
}

static void test_collector(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    run(L, "keep = {} for i = 1, 2e5 do keep[i] = {i} end\n"
           "function collect(ms) local t = now() while now() - t < ms do collectgarbage() end return now() - "
           "t end");
    cprof_snapshot *data =
        record(L, "for i = 1, 15 do local spent = collect(20) share(light, spent * 7 / 3) end");
    ASSERT_SHARE(data, 30, true, "[gc]", "collect");
    ASSERT_SHARE(data, 70, true, "light");
    ASSERT_LABELLED(data, 24, 36, "gc");
    cprof_snapshot_free(data);
    close_state(L);
}

/* ---- Who holds LuaJIT's profiler ---- */

static void test_second_state(void **unused)
{
    (void)unused;
    lua_State *first = open_state(), *second = open_state();
    run(first, work);
    run(second, work);
    cprof_snapshot_free(record(first, "share(light, 100)"));
    cprof_snapshot *data =
        record(second, "share(light, 300) jit.off() jit.flush() share(heavy, 300) jit.on()\n"
                       "local function plain() for i = 1, 100 do burn(3) end end plain()");
    ASSERT_SHARE(data, 33, false, "[lua: no safepoint]");
    ASSERT_SHARE(data, 33, true, "heavy");
    ASSERT_SHARE(data, 33, false, "burn", "plain");
    ASSERT_LABELLED(data, 27, 40, "compiled: second VM");
    cprof_snapshot_free(data);

    close_state(first);
    data = record(second, "share(light, 300)");
    assert_true(SHARE(data, true, "light") > 80);
    cprof_snapshot_free(data);
    close_state(second);
}

static void ignore(int number)
{
    (void)number;
}

/* SIGPROF and its timer are the program's. */
static void test_what_is_borrowed(void **unused)
{
    (void)unused;
    struct sigaction own = {.sa_handler = ignore, .sa_flags = SA_RESTART}, seen;
    struct itimerval timer = {{1000, 0}, {1000, 0}}, left;
    sigaction(SIGPROF, &own, NULL);
    setitimer(ITIMER_PROF, &timer, NULL);
    lua_State *L = open_state();
    run(L, work);
    cprof_snapshot_free(record(L, "share(light, 100)"));
    for (int i = 0; i < 2; i++) {
        sigaction(SIGPROF, NULL, &seen);
        getitimer(ITIMER_PROF, &left);
        assert_ptr_equal(seen.sa_handler, ignore);
        assert_in_range(left.it_value.tv_sec, 900, 1000);
        if (i == 0)
            close_state(L);
    }
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_PROF, &timer, NULL);
    signal(SIGPROF, SIG_DFL);
}

/* Starting and stopping throws away no compiled code but the first time. */
static void test_many_recordings(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    run(L, work);
    run(L, "flushes = 0 jit.attach(function(what) if what == 'flush' then flushes = flushes + 1 end end, "
           "'trace')");
    for (int i = 0; i < 20; i++)
        cprof_snapshot_free(record(L, "share(light, 20)"));
    lua_getglobal(L, "flushes");
    assert_in_range(lua_tointeger(L, -1), 0, 1);
    close_state(L);
}

static void count_samples(void *data, lua_State *L, int samples, int vmstate)
{
    (void)L;
    (void)vmstate;
    *(int *)data += samples;
}

/* The program profiles by itself: its samples are its own, and afterwards we have ours again. */
static void test_program_uses_profiler(void **unused)
{
    (void)unused;
    int samples = 0;
    lua_State *L = open_state();
    run(L, work);
    cprof_snapshot_free(record(L, "share(light, 50)"));
    luaJIT_profile_start(L, "fi10", count_samples, &samples);
    cprof_snapshot *data = record(L, "share(light, 500)");
    luaJIT_profile_stop(L);
    assert_in_range(samples, 1, 75); /* one in 10 ms; fewer where the machine is busy */
    assert_true(lost(data) > 50);
    cprof_snapshot_free(data);
    data = record(L, "share(light, 300)");
    assert_true(SHARE(data, true, "light") > 80);
    cprof_snapshot_free(data);
    close_state(L);
}

static int fired;

static void count_hook(lua_State *L, lua_Debug *ar)
{
    (void)L;
    (void)ar;
    fired++;
}

static const char steps[] = "local x = 0 for i = 1, 3e7 do x = x + i end";

/* Our hooks, which serve the second state, take nothing from the program's. */
static void test_program_hooks(void **unused)
{
    (void)unused;
    lua_State *first = open_state(), *second = open_state();
    cprof_snapshot_free(record(first, "burn(20)"));
    run(second, "jit.off()");
    for (int count = 1000; count <= 1000000; count *= 1000) {
        lua_sethook(second, count_hook, LUA_MASKCOUNT, count);
        fired = 0;
        run(second, steps);
        int alone = fired;
        fired = 0;
        cprof_snapshot_free(record(second, steps));
        if (abs(fired - alone) > alone / 10 + 1)
            fail_msg("%d calls where there are %d without samples", fired, alone);
        assert_ptr_equal(lua_gethook(second), count_hook);
        assert_int_equal(lua_gethookcount(second), count);
    }
    close_state(second);
    close_state(first);
}

/* Where the table of instructions was written while the request came, the request is only noted. */
static int forget_dispatch(lua_State *L)
{
    uint64_t global;
    memcpy(&global, (const char *)L + CPROF__JIT_GLOBAL_AT, sizeof global);
    volatile uint8_t *mask = (volatile uint8_t *)(uintptr_t)(global + cprof__jit.hook_mask);
    mask[0] |= 0x80; /* a request */
    mask[1] |= 0x44; /* the table looks for it */
    return 0;
}

static void test_lost_request(void **unused)
{
    (void)unused;
    lua_State *L = open_state();
    lua_register(L, "forget_dispatch", forget_dispatch);
    run(L, work);
    run(L, "jit.off() jit.flush()");
    cprof_snapshot_free(record(L, "share(light, 50)"));
    cprof_snapshot *data = record(L, "forget_dispatch() share(light, 1000)");
    assert_true(SHARE(data, true, "light") > 80);
    cprof_snapshot_free(data);
    close_state(L);
}

/* ---- All together ---- */

static const char churn[] =
    "local proxies = 0\n"
    "local function finalized() local p = newproxy(true)\n"
    "  getmetatable(p).__gc = function() proxies = proxies + 1 for i = 1, 100 do proxies = proxies + i % 2 "
    "end end end\n"
    "local function thrower(n) if n == 0 then error{n} end thrower(n - 1) end\n"
    "local function compare(a, b) return a < b end\n"
    "local t = now()\n"
    "while now() - t < 200 do\n"
    "  for i = 1, 20 do\n"
    "    finalized() pcall(thrower, i) share(light, 0.2)\n"
    "    local co = coroutine.wrap(function(...) coroutine.yield(...) pcall(thrower, 3) return "
    "run_thread(light) end)\n"
    "    co(i) co() pcall(burn, 0.05, true)\n"
    "    run_thread(function() burn(0.02) coroutine.yield() end)\n"
    "    local list = {} for k = 1, 50 do list[k] = (k * 7919) % 101 end table.sort(list, compare)\n"
    "    ;('x'):rep(100):gsub('x', function(c) return c end)\n"
    "  end\n"
    "  collectgarbage('step', 100)\n"
    "  if math.random() < 0.1 then jit.flush() end\n"
    "end";

static void *churn_states(void *seconds)
{
    for (double end = cpu_ms() + *(double *)seconds * 1e3; cpu_ms() < end;) {
        lua_State *L = open_thread_state();
        run(L, work);
        run(L, churn);
        lua_close(L);
    }
    return NULL;
}

static void test_churn(void **unused)
{
    (void)unused;
    const char *asked = getenv("JITSAMPLE_SECONDS");
    double seconds = asked ? atof(asked) : 1;
    pthread_t threads[3];
    cprof_recording *recording = start_at(CPROF_CPU_HZ_MAX);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn_states, &seconds), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cprof_snapshot *data = stop(recording);
    assert_true(cprof_snapshot_sample_count(data) > 10);
    cprof_snapshot_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_compiled, close_states),
        cmocka_unit_test_teardown(test_interpreted, close_states),
        cmocka_unit_test_teardown(test_coroutines, close_states),
        cmocka_unit_test_teardown(test_coroutines_that_only_switch, close_states),
        cmocka_unit_test_teardown(test_c_functions, close_states),
        cmocka_unit_test_teardown(test_errors, close_states),
        cmocka_unit_test_teardown(test_ffi, close_states),
        cmocka_unit_test_teardown(test_collector, close_states),
        cmocka_unit_test_teardown(test_second_state, close_states),
        cmocka_unit_test_teardown(test_what_is_borrowed, close_states),
        cmocka_unit_test_teardown(test_many_recordings, close_states),
        cmocka_unit_test_teardown(test_program_uses_profiler, close_states),
        cmocka_unit_test_teardown(test_program_hooks, close_states),
        cmocka_unit_test_teardown(test_lost_request, close_states),
        cmocka_unit_test_teardown(test_churn, close_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
