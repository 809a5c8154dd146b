/* SPDX-License-Identifier: MIT
 *
 * Hosts that enter LuaJIT by lua_call and lua_resume without a protected call around it, as ngx_lua does: both leave by
 * a jump into the interpreter, so that of LuaJIT nothing but that is on the native stack. CPU profiles and custom ones.
 */
#define _GNU_SOURCE
#include "test.h"

#include "cprof.h"
#include "cprof_lua.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

/* At the end of a function that is to be seen: its last call is no jump. */
#define STAYS __asm__ volatile("")

/* ---- A host ---- */

static cprof_profile *added;
static char keys[64];
static int used;

static double cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static NOINLINE void spin(double ms)
{
    double end = cpu_ms() + ms;
    while (cpu_ms() < end) {}
}

static NOINLINE int burn(lua_State *L)
{
    spin(lua_tonumber(L, 1));
    return 0;
}

static int now_ms(lua_State *L)
{
    lua_pushnumber(L, cpu_ms());
    return 1;
}

static NOINLINE void add_helper(void)
{
    assert_int_equal(cprof_profile_add(added, &keys[used++ % 64], 0), 0);
    STAYS;
}

static NOINLINE int add(lua_State *L)
{
    (void)L;
    add_helper();
    STAYS;
    return 0;
}

/* Calls the function on top of the stack. */
static NOINLINE void call_helper(lua_State *L)
{
    lua_call(L, 0, 0);
    STAYS;
}

static NOINLINE int call(lua_State *L)
{
    lua_settop(L, 1);
    call_helper(L);
    STAYS;
    return 0;
}

static NOINLINE void resume_helper(lua_State *thread)
{
    (void)lua_resume(thread, 0);
    STAYS;
}

static NOINLINE void rest(double ms)
{
    spin(ms);
    STAYS;
}

/* nest(f, ms): f runs in a thread until that yields or ends; then there is the rest of this. */
static NOINLINE int nest(lua_State *L)
{
    lua_State *thread = lua_newthread(L);
    lua_insert(L, 1);
    lua_pushvalue(L, 2);
    lua_xmove(L, thread, 1);
    resume_helper(thread);
    rest(lua_tonumber(L, 3));
    STAYS;
    return 0;
}

static lua_State *state;

/* Runs the main function of CODE as a host does. */
static NOINLINE void host_call(const char *code)
{
    assert_int_equal(luaL_loadbuffer(state, code, strlen(code), "=jit"), 0);
    lua_call(state, 0, 0);
    STAYS;
}

static NOINLINE void host_resume(const char *code)
{
    lua_State *thread = lua_newthread(state);
    assert_int_equal(luaL_loadbuffer(thread, code, strlen(code), "=jit"), 0);
    int status;
    do
        status = lua_resume(thread, 0);
    while (status == LUA_YIELD);
    assert_int_equal(status, 0);
    lua_settop(state, 0);
}

static NOINLINE void host_pcall(const char *code)
{
    if (luaL_loadbuffer(state, code, strlen(code), "=jit") || lua_pcall(state, 0, 0, 0))
        fail_msg("%s", lua_tostring(state, -1));
}

typedef struct entrance {
    const char *name;
    void (*enter)(const char *code);
} entrance;

static const entrance entrances[] = {
    {"host_call", host_call}, {"host_resume", host_resume}, {"host_pcall", host_pcall}};

/* run() of another state, which is entered by lua_call. */
static lua_State *second;

static NOINLINE int in_second(lua_State *L)
{
    (void)L;
    lua_getglobal(second, "run");
    call_helper(second);
    STAYS;
    return 0;
}

static const char work[] = "function light(n) local x = 0 for i = 1, n do x = x + i % 7 end return x end\n"
                           "function share(f, ms) local t = now() while now() - t < ms do f(20000) end end\n";

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_register(L, "burn", burn);
    lua_register(L, "now", now_ms);
    lua_register(L, "add", add);
    lua_register(L, "nest", nest);
    lua_register(L, "call", call);
    lua_register(L, "in_second", in_second);
    assert_int_equal(cprof_lua_attach(L), 0);
    return L;
}

static int set_up(void **unused)
{
    (void)unused;
    state = open_state();
    host_pcall(work);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    lua_close(state);
    if (second)
        lua_close(second);
    second = NULL;
    return 0;
}

/* ---- Stacks ---- */

/* Writes SAMPLE's stack, up to the entrance, to TEXT. */
static void write_stack(const cprof_sample *sample, char *text, size_t size)
{
    size_t length = 0;
    *text = 0;
    for (size_t i = 0; i < sample->frame_count && length < size; i++) {
        length +=
            (size_t)snprintf(text + length, size - length, "%s%s", i ? " < " : "", sample->frames[i].name);
        if (strncmp(sample->frames[i].name, "host_", 5) == 0)
            break;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

static bool shows_vm(const char *text, const char *unused)
{
    (void)unused;
    return strstr(text, "luajit") || strstr(text, "lua_call") || strstr(text, "lua_resume");
}

/* How much of DATA, in percent, is in stacks that FIT, up to the entrance. */
static double share_of(cprof_snapshot *data, bool (*fits)(const char *text, const char *end), const char *end)
{
    int64_t all = 0, with = 0;
    for (size_t i = 0; i < cprof_snapshot_sample_count(data); i++) {
        cprof_sample sample;
        char text[2048];
        assert_int_equal(cprof_snapshot_sample(data, i, &sample), 0);
        write_stack(&sample, text, sizeof text);
        all += sample.values[1];
        with += fits(text, end) ? sample.values[1] : 0;
    }
    return all ? 100.0 * (double)with / (double)all : 0;
}

static void show(cprof_snapshot *data)
{
    for (size_t i = 0; i < cprof_snapshot_sample_count(data) && i < 20; i++) {
        cprof_sample sample;
        char text[2048];
        assert_int_equal(cprof_snapshot_sample(data, i, &sample), 0);
        write_stack(&sample, text, sizeof text);
        print_message("%6.1f ms  %s\n", (double)sample.values[1] * 1e-6, text);
    }
}

/* Other tests run beside us, and runs are short. */
static void expect_share(cprof_snapshot *data, double wanted, const char *inner, const char *outer,
                         const char *entrance_name)
{
    char end[512];
    snprintf(end, sizeof end, "%s%s < %s", inner, outer, entrance_name);
    double found = share_of(data, ends_with, end), own = share_of(data, shows_vm, NULL);
    /* What is sampled in our safepoints themselves is a sample or two. */
    if (fabs(found - wanted) > 7 || own > 2) {
        show(data);
        fail_msg("%.1f%% where %.1f%% are wanted in %s; LuaJIT's own: %.1f%%", found, wanted, end, own);
    }
}

static cprof_snapshot *record(const entrance *e, const char *code)
{
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    cprof_recording *recording;
    cprof_snapshot *data;
    options.hz = 1000;
    assert_int_equal(cprof_start_cpu_profile(&options, &recording), 0);
    e->enter(code);
    assert_int_equal(cprof_recording_stop(recording, &data), 0);
    cprof_recording_free(recording);
    return data;
}

/* ---- CPU profiles ---- */

static const char *const modes[] = {"jit.on()", "jit.off() jit.flush()"};

static void test_entrances(void **unused)
{
    (void)unused;
    static const char code[] = "function plain() burn(4) return 1 end\n"
                               "function run() for i = 1, 50 do plain() share(light, 4) end end run()";
    for (int i = 0; i < 6; i++) {
        const entrance *e = &entrances[i / 2];
        host_pcall(modes[i % 2]);
        cprof_snapshot *data = record(e, code);
        expect_share(data, 50, "spin < burn < plain", " < run < jit (main chunk)", e->name);
        expect_share(data, 50, "light < share", " < run < jit (main chunk)", e->name);
        cprof_snapshot_free(data);
    }
}

/* A C function resumes a thread, which yields, and goes on; so does the thread that called it. */
static void test_nested(void **unused)
{
    (void)unused;
    static const char code[] =
        "function inner() burn(4) share(light, 4) coroutine.yield() end\n"
        "function outer() nest(inner, 4) burn(4) end\n"
        "function switch() for i = 1, 40 do outer() coroutine.yield() end end\n"
        "if coroutine.running() then switch() return end\n"
        "local co = coroutine.create(switch) for i = 1, 41 do coroutine.resume(co) end";
    for (int i = 0; i < 6; i++) {
        const entrance *e = &entrances[i / 2];
        bool resumed = e->enter == host_resume;
        const char *outer = resumed ? "outer < switch < jit (main chunk)"
                                    : "outer < switch < coroutine.resume < jit (main chunk)";
        host_pcall(modes[i % 2]);
        cprof_snapshot *data = record(e, code);
        expect_share(data, 25, "spin < burn < inner < resume_helper < nest < ", outer, e->name);
        expect_share(data, 25, "light < share < inner < resume_helper < nest < ", outer, e->name);
        expect_share(data, 25, "spin < rest < nest < ", outer, e->name);
        expect_share(data, 25, "spin < burn < ", outer, e->name);
        cprof_snapshot_free(data);
    }
}

/* Lua code starts a recording of its own. */
static cprof_recording *begun[2];

static int begin(lua_State *L)
{
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    (void)L;
    assert_int_equal(cprof_start_cpu_profile(&options, &begun[begun[0] != NULL]), 0);
    return 0;
}

static double share_of_light(void)
{
    cprof_snapshot *data = record(&entrances[0], "share(light, 300)");
    double share = share_of(data, ends_with, "light < share < jit (main chunk) < host_call");
    cprof_snapshot_free(data);
    return share;
}

/* A reload of nginx whose init_by_lua records: the new state is there before the old one is closed, and workers are
 * forked then. */
static void test_state_made_anew(void **unused)
{
    (void)unused;
    static const char init[] = "begin() share(light, 50)";
    lua_State *old = state;
    lua_register(state, "begin", begin);
    host_pcall(init);
    state = open_state();
    lua_register(state, "begin", begin);
    host_pcall(work);
    host_pcall(init);
    lua_close(old);
    pid_t worker = fork();
    if (worker == 0)
        _exit(share_of_light() > 80 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(worker, &status, 0), worker);
    double share = share_of_light();
    for (int i = 0; i < 2; i++)
        cprof_recording_free(begun[i]);
    assert_int_equal(status, 0);
    assert_true(share > 80);
}

/* ---- Custom profiles ---- */

/* The only stack in the profile that CODE adds to, entered by each entrance, is WANTED. */
static void expect_stack(const char *code, const char *wanted)
{
    for (size_t i = 0; i < sizeof entrances / sizeof *entrances; i++) {
        char text[2048], whole[2048];
        cprof_snapshot *data;
        cprof_sample sample;
        used = 0;
        entrances[i].enter(code);
        assert_int_equal(used, 1);
        assert_int_equal(cprof_profile_snapshot(added, &data), 0);
        assert_int_equal(cprof_snapshot_sample_count(data), 1);
        assert_int_equal(cprof_snapshot_sample(data, 0, &sample), 0);
        write_stack(&sample, text, sizeof text);
        snprintf(whole, sizeof whole, "cprof_profile_add < add_helper < add < %s < %s", wanted,
                 entrances[i].name);
        assert_string_equal(text, whole);
        cprof_snapshot_free(data);
        assert_int_equal(cprof_profile_remove(added, &keys[0]), 0);
    }
}

static void test_custom(void **unused)
{
    (void)unused;
    assert_int_equal(cprof_profile_new("jithost", NULL, &added), 0);
    host_pcall("function f() add() return 1 end");
    expect_stack("f()", "f < jit (main chunk)");
    expect_stack("call(f)", "f < call_helper < call < jit (main chunk)");
    expect_stack("nest(f, 0)", "f < resume_helper < nest < jit (main chunk)");
    expect_stack("function g() call(f) end nest(g, 0)",
                 "f < call_helper < call < g < resume_helper < nest < jit (main chunk)");
}

/* The collector calls a finalizer: its own functions lie between two of the interpreter. */
static void test_custom_in_finalizers(void **unused)
{
    (void)unused;
    host_pcall("jit.off() function final() add() done = true end\n"
               "function make() done = false getmetatable(newproxy(true)).__gc = final end\n"
               "function collect() make() collectgarbage() return 1 end\n"
               "function step() make() while not done do kept = {} end end");
    expect_stack("collect()", "final < collectgarbage < collect < jit (main chunk)");
    expect_stack("step()", "final < step < jit (main chunk)");
    expect_stack("call(step)", "final < step < call_helper < call < jit (main chunk)");
}

/* What lies between two states is the host's. */
static void test_custom_in_second_state(void **unused)
{
    (void)unused;
    second = open_state();
    assert_int_equal(luaL_dostring(second, "function run() add() end"), 0);
    host_pcall("function f() in_second() return 1 end");
    expect_stack("f()", "run < call_helper < in_second < f < jit (main chunk)");
    expect_stack("nest(f, 0)", "run < call_helper < in_second < f < resume_helper < nest < jit (main chunk)");
}

/* ---- Forks ---- */

#ifdef __SANITIZE_ADDRESS__
#define FORKS 0 /* its own locks may be held in a child */
#else
#define FORKS 300
#endif
static atomic_bool forked;

static lua_State *open_bare_state(void)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    assert_int_equal(cprof_lua_attach(L), 0);
    return L;
}

static void *attach_states(void *unused)
{
    while (!atomic_load(&forked)) {
        lua_State *L = open_bare_state();
        assert_int_equal(luaL_dostring(L, "for i = 1, 1e5 do local x = i % 7 end"), 0);
        lua_close(L);
    }
    return unused;
}

/* A child finds no lock held by a thread that it does not have. */
static void test_forks(void **unused)
{
    (void)unused;
    pthread_t thread;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    cprof_recording *recording;
    options.hz = CPROF_CPU_HZ_MAX;
    assert_int_equal(cprof_start_cpu_profile(&options, &recording), 0);
    atomic_store(&forked, false);
    assert_int_equal(pthread_create(&thread, NULL, attach_states, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(30); /* for one that hangs */
            lua_close(open_bare_state());
            _exit(0);
        }
        while (waitpid(pid, &status, 0) < 0) {}
        assert_int_equal(status, 0);
    }
    atomic_store(&forked, true);
    pthread_join(thread, NULL);
    cprof_recording_free(recording);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_entrances, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nested, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_custom, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_custom_in_finalizers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_custom_in_second_state, set_up, tear_down),
        cmocka_unit_test(test_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
