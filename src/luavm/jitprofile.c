/* SPDX-License-Identifier: MIT
 *
 * See jitprofile.h. LuaJIT's profiler wants to own SIGPROF and its timer. It is started, asked by way of
 * sigaction which function it would run at the signal, and then both are given back: our own signals call that
 * function (jitsignal.c). What it has noted of who started it is found in its memory, by the three pointers
 * that it was given; before each request they are compared, for the program may take the profiler over.
 */
#define _GNU_SOURCE
#include "luavm/jitprofile.h"

#include "base/lock.h"
#include "luavm/jitlayout.h"
#include "luavm/jitsafepoint.h"
#include "luavm/jitsignal.h"
#include "luavm/names.h"
#include "luavm/runtime.h"
#include "luavm/threads.h"
#include "luavm/walk.h"

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of <luajit.h>; LuaJIT's alone, and some builds have no profiler. */
typedef void (*profile_callback)(void *data, lua_State *L, int samples, int vmstate);
extern int luaJIT_setmode(lua_State *L, int index, int mode) __attribute__((weak));
extern void luaJIT_profile_start(lua_State *L, const char *mode, profile_callback callback, void *data)
    __attribute__((weak));
extern void luaJIT_profile_stop(lua_State *L) __attribute__((weak));

/* "l" makes compiled code look for requests wherever the line changes; with "f" loops within one function would
 * never look. The interval is long, for the timer is not wanted. */
#define PROFILE_MODE "li2000000"

/* LUAJIT_MODE_FUNC | LUAJIT_MODE_OFF */
#define MODE_FUNCTION_OFF 2

/* Orders changes of who holds the profiler, and of slots. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* A fork finds the mutex free, and the loader's lock, which is taken under it. */
static void take_mutex(void)
{
    cprof__fork_hold_off();
    pthread_mutex_lock(&mutex);
}

static void give_mutex(void)
{
    pthread_mutex_unlock(&mutex);
    cprof__fork_allow();
}

static const char *const activities[] = {
    [CPROF__JIT_DOES_INTERPRET - 1] = "interpreted",
    [CPROF__JIT_DOES_COMPILED - 1] = "compiled",
    [CPROF__JIT_DOES_C - 1] = "C",
    [CPROF__JIT_DOES_GC - 1] = "gc",
    [CPROF__JIT_DOES_COMPILE - 1] = "compiler",
    [CPROF__JIT_DOES_EXIT - 1] = "exit",
    [CPROF__JIT_DOES_COMPILED_SECOND - 1] = "compiled: second VM",
    [CPROF__JIT_DOES_COMPILED_TAKEN - 1] = "compiled: profiler in use",
    NULL,
};

static uint64_t global_of(const lua_State *L)
{
    return cprof__word_at((const char *)L + CPROF__JIT_GLOBAL_AT);
}

static void at_safepoint(void *data, lua_State *L, int samples, int vmstate)
{
    (void)samples;
    (void)vmstate;
    cprof__jit_deliver(data, L, false);
}

/* ---- Who holds the profiler ---- */

typedef struct search {
    uintptr_t code; /* in the object to search */
    uint64_t record[3];
    _Atomic uint64_t *found;
    int count;
} search;

static void search_segment(search *s, uint64_t *from, size_t words)
{
    for (size_t i = 0; i + 3 <= words; i++) {
        if (memcmp(from + i, s->record, sizeof s->record) == 0) {
            s->found = (_Atomic uint64_t *)(from + i);
            s->count++;
        }
    }
}

static bool in_segment(const struct dl_phdr_info *info, const ElfW(Phdr) * segment, uintptr_t address)
{
    uintptr_t start = info->dlpi_addr + segment->p_vaddr;
    return segment->p_type == PT_LOAD && address >= start && address - start < segment->p_memsz;
}

static bool holds(const struct dl_phdr_info *info, uintptr_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (in_segment(info, &info->dlpi_phdr[i], address)) {
            return true;
        }
    }
    return false;
}

static int search_object(struct dl_phdr_info *info, size_t size, void *data)
{
    search *s = data;
    (void)size;
    if (!holds(info, s->code)) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr, aligned = (start + 7) & ~(uintptr_t)7;
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_W && segment->p_memsz > aligned - start) {
            search_segment(s, (uint64_t *)aligned, (segment->p_memsz - (aligned - start)) / 8);
        }
    }
    return 1;
}

/* Whether ADDRESS lies in the object that holds LuaJIT. */
typedef struct neighbour {
    uintptr_t code, address;
    bool yes;
} neighbour;

static int compare_object(struct dl_phdr_info *info, size_t size, void *data)
{
    neighbour *n = data;
    (void)size;
    n->yes |= holds(info, n->code) && holds(info, n->address);
    return 0;
}

static bool is_luajits(void (*handler)(int))
{
    neighbour n = {(uintptr_t)luaJIT_profile_start, (uintptr_t)handler, false};
    dl_iterate_phdr(compare_object, &n);
    return n.yes;
}

static int32_t vmstate_of(uint64_t global)
{
    return *(volatile int32_t *)(uintptr_t)(global + cprof__jit.vmstate);
}

/* What LuaJIT changes besides its own: SIGPROF and its timer. */
typedef struct borrowed {
    struct sigaction action;
    struct itimerval timer;
} borrowed;

static void borrow(borrowed *b)
{
    sigaction(SIGPROF, NULL, &b->action);
    getitimer(ITIMER_PROF, &b->timer);
}

/* *LEFT gets what LuaJIT had put there. */
static void give_back(const borrowed *b, struct sigaction *left)
{
    sigaction(SIGPROF, &b->action, left);
    setitimer(ITIMER_PROF, &b->timer, NULL);
}

static void stop_profiler(lua_State *L)
{
    borrowed b;
    struct sigaction left;
    borrow(&b);
    luaJIT_profile_stop(L);
    give_back(&b, &left);
}

/* Under the mutex, on L's thread, where compiled code of L's VM does not run, and nobody holds the profiler. */
static bool start_profiler(cprof__jit_slot *slot, lua_State *L)
{
    cprof__jit_profiler *p = &cprof__jit_profiler_state;
    borrowed b;
    struct sigaction left;
    if (!luaJIT_profile_start || !luaJIT_profile_stop) {
        return false;
    }
    borrow(&b);
    if (is_luajits(b.action.sa_handler)) {
        return false; /* the program uses it */
    }
    atomic_store_explicit(&p->holder, NULL, memory_order_release);
    luaJIT_profile_start(L, PROFILE_MODE, at_safepoint, slot);
    give_back(&b, &left);
    if (left.sa_handler == b.action.sa_handler || !is_luajits(left.sa_handler)) {
        return false;
    }
    search s = {(uintptr_t)luaJIT_profile_start,
                {global_of(L), (uint64_t)(uintptr_t)at_safepoint, (uint64_t)(uintptr_t)slot},
                NULL,
                0};
    dl_iterate_phdr(search_object, &s);
    if (s.count != 1) {
        stop_profiler(L);
        return false;
    }
    p->trigger = left.sa_handler;
    p->record = s.found;
    p->callback = s.record[1];
    atomic_store_explicit(&p->record[0], 0, memory_order_relaxed);
    atomic_store_explicit(&p->holder, slot, memory_order_release);
    return true;
}

static void start(cprof__jit_slot *slot, lua_State *L)
{
    take_mutex();
    enum cprof__jit_holder holder = cprof__jit_holder(slot);
    bool started = holder == CPROF__JIT_NOBODY && start_profiler(slot, L);
    give_mutex();
    /* Where it cannot be had now, it need not be tried each time. Where another holds it, that is seen by itself, and
     * the end of it, too. */
    if (holder == CPROF__JIT_NOBODY) {
        atomic_store_explicit(&slot->refused, started ? 0 : CPROF__JIT_REFUSED_REQUESTS,
                              memory_order_relaxed);
    }
}

static int load_word(uint64_t address, uint64_t *word)
{
    struct iovec here = {word, sizeof *word}, there = {(void *)(uintptr_t)address, sizeof *word};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof *word;
}

/* Where the calling thread's stack ends; 0: not known. */
static uint64_t stack_high(void)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &low, &size);
        pthread_attr_destroy(&attributes);
    }
    return (uint64_t)(uintptr_t)low + size;
}

/* Sampling begins. Where a state runs on the calling thread (its Lua code asked for it), the profiler is started
 * here: compiled code that is entered before the first signal could not be sampled before it ends. */
static void prepare(void)
{
    cprof_vm_signal here = {.stack_high = stack_high(), .load = load_word};
    uint64_t low = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    cprof__jit_found found;
    if (!cprof__jit.known || !cprof__jit_find(&here, low, here.stack_high, &found)) {
        return;
    }
    int32_t vmstate = vmstate_of(found.global);
    cprof__jit_slot *slot = cprof__jit_slot_of_global(found.global);
    /* Started underneath compiled code, it would throw away what is returned to. */
    if (slot && (vmstate == CPROF__JIT_C || vmstate == CPROF__JIT_INTERPRETED)) {
        start(slot, (lua_State *)(uintptr_t)found.L);
    }
}

/* ---- The hook ---- */

/* A hook, and a change of hooks, tell LuaJIT's compiler to give up what it is recording; it does so at the next
 * instruction, and then still looks at the trace that the recording came from. Starting the profiler throws all traces
 * away, so an instruction is run before. */
static bool end_recording(const cprof__jit_slot *slot, lua_State *L)
{
    const cprof__luavm *vm = atomic_load_explicit(&slot->state, memory_order_relaxed);
    if (!vm->nothing_ref || !cprof__jit_make_room(L)) {
        return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->nothing_ref);
    if (lua_pcall(L, 0, 0, 0) != 0) {
        lua_pop(L, 1);
        return false;
    }
    return true;
}

void cprof__jit_hook(lua_State *L, lua_Debug *ar)
{
    uint64_t global = global_of(L);
    cprof__jit_slot *slot = cprof__jit_slot_of_global(global);
    if (!slot || !atomic_load_explicit(&slot->armed, memory_order_relaxed)) {
        lua_sethook(L, NULL, 0, 0); /* a program has set what it had found */
        return;
    }
    lua_Hook hook = slot->hook;
    int mask = slot->hook_mask, left = slot->hook_left;
    lua_sethook(L, hook, mask, slot->hook_count);
    if (mask & LUA_MASKCOUNT) {
        /* One instruction was counted as ours. */
        *(volatile int32_t *)(uintptr_t)(global + cprof__jit.hook_left) = left > 1 ? left - 1 : 1;
    }
    atomic_store_explicit(&slot->armed, false, memory_order_relaxed);
    cprof__jit_deliver(slot, L, ar->event == LUA_HOOKCALL);
    if (cprof__jit_holder(slot) == CPROF__JIT_NOBODY && end_recording(slot, L)) {
        start(slot, L);
    }
    /* The program's other events pass through; after a count, LuaJIT looks by itself whether there is one. */
    if (hook && ar->event != LUA_HOOKCOUNT && mask & 1 << ar->event) {
        hook(L, ar);
    }
}

/* ---- States ---- */

/* What ran at the last request, where it is not on the stack any more. */
static size_t ended(void *state, void *running, uint64_t entry, cprof_vm_frame *frames)
{
    const cprof__jit_slot *slot = cprof__jit_slot_of_state(state);
    return cprof__naming_ended(state, running, entry, slot && slot->lost, frames);
}

static const cprof_vm *make_vm(void)
{
    static cprof_vm vm;
    vm = cprof__lua_vm;
    vm.name = "LuaJIT";
    vm.look = cprof__jit_look;
    vm.request = cprof__jit_request;
    vm.outward = cprof__jit_outward;
    vm.prepare = prepare;
    vm.ended = ended;
    vm.activities = activities;
    if (cprof__jit_learn()) {
        vm.interpreter = (const void *)(uintptr_t)cprof__jit.interpreter_start;
        vm.code_low = cprof__jit.in_library ? cprof__jit.code_low : 0;
        vm.code_high = cprof__jit.in_library ? cprof__jit.code_high : 0;
    }
    return &vm;
}

static const cprof_vm *jit_vm;

static void make_jit_vm(void)
{
    jit_vm = make_vm();
}

const cprof_vm *cprof__jit_vm(lua_State *L)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)L;
    if (!luaJIT_setmode) {
        return &cprof__lua_vm;
    }
    pthread_once(&once, make_jit_vm);
    return jit_vm;
}

/* The function that does nothing; not for the compiler, so that it does not become hot. */
static void make_nothing(cprof__luavm *vm, lua_State *L)
{
    if (luaL_loadstring(L, "") != 0) {
        lua_pop(L, 1);
        return;
    }
    luaJIT_setmode(L, -1, MODE_FUNCTION_OFF);
    vm->nothing_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void cprof__jit_attach(cprof__luavm *vm, lua_State *L)
{
    if (!luaJIT_setmode || !cprof__jit_learn()) {
        return;
    }
    if (!vm->nothing_ref) {
        make_nothing(vm, L);
    }
    take_mutex();
    uint32_t used = atomic_load_explicit(&cprof__jit_slots_used, memory_order_relaxed), i = 0;
    while (i < used && atomic_load_explicit(&cprof__jit_slots[i].global, memory_order_relaxed)) {
        i++;
    }
    if (i < CPROF__JIT_SLOTS) {
        cprof__jit_slot *slot = &cprof__jit_slots[i];
        atomic_store_explicit(&slot->levels, vm->levels, memory_order_relaxed);
        atomic_store_explicit(&slot->refused, 0, memory_order_relaxed);
        atomic_store_explicit(&slot->armed, false, memory_order_relaxed);
        atomic_store_explicit(&slot->answered, atomic_load(&slot->requested), memory_order_relaxed);
        atomic_store_explicit(&slot->state, vm, memory_order_relaxed);
        atomic_store_explicit(&slot->global, global_of(L), memory_order_release);
        if (i == used) {
            atomic_store_explicit(&cprof__jit_slots_used, used + 1, memory_order_release);
        }
    }
    give_mutex();
}

void cprof__jit_detach(cprof__luavm *vm, lua_State *L)
{
    cprof__jit_slot *slot = cprof__jit_slot_of_state(vm);
    if (!slot) {
        return;
    }
    take_mutex();
    bool holder = cprof__jit_holder(slot) == CPROF__JIT_SELF;
    if (atomic_load_explicit(&cprof__jit_profiler_state.holder, memory_order_relaxed) == slot) {
        atomic_store_explicit(&cprof__jit_profiler_state.holder, NULL, memory_order_release);
    }
    atomic_store_explicit(&slot->global, 0, memory_order_release);
    if (holder) {
        atomic_store_explicit(&cprof__jit_profiler_state.record[0], global_of(L), memory_order_relaxed);
        stop_profiler(L);
    }
    give_mutex();
    if (lua_gethook(L) == cprof__jit_hook) {
        lua_sethook(L, slot->hook, slot->hook_mask, slot->hook_count);
    }
}
