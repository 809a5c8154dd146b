/* SPDX-License-Identifier: MIT
 *
 * See jitlayout.h. The scratch state has an allocator of its own: LuaJIT calls it from the interpreter and
 * from the collector, so it is where these two kinds of work can be seen from within. The state has no
 * libraries, so that nothing in it is compiled.
 */
#define _GNU_SOURCE
#include "luavm/jitlayout.h"

#include "base/lock.h"
#include "cprof_vm.h"
#include "luavm/levels.h"

#include <link.h>
#include <pthread.h>
#include <stdlib.h>

cprof__jit_layout cprof__jit;

/* The global state is followed in the same block by several kilobytes of the compiler's. */
#define SEARCHED_BYTES 1024

/* The main thread stands just before the global state in one block. */
#define MAIN_BYTES_MAX 512

/* Of a lua_State, that the cframe is looked for in. */
#define STATE_FROM 64
#define STATE_UP_TO 128

/* Of the stack of a C function that Lua called: our own, and the interpreter's. */
#define PROBED_FRAMES 4

/* Of the interpreter's frame, that its lua_State is looked for in: no frame is smaller. */
#define FRAME_WORDS 10

/* Which offsets, in units of 1 to 8 bytes, still fit all that was seen. */
typedef struct candidates {
    unsigned char out[SEARCHED_BYTES];
} candidates;

enum watch { WATCH_NOTHING, WATCH_INTERPRETER, WATCH_COLLECTOR };

typedef struct trial {
    const char *global;
    const char *L; /* the main thread */
    enum watch watch;
    int interpreter_seen, collector_seen, probes;
    bool wrong;
    uint32_t cframe;
    bool no_thread[FRAME_WORDS]; /* of the interpreter's frame: what is not where it keeps its lua_State */
    uint64_t interpreter, interpreter_start;
    candidates vmstate, running, hook_mask, hook_left;
} trial;

static void want(candidates *c, const char *from, size_t size, uint64_t value)
{
    for (size_t at = 0; at < SEARCHED_BYTES; at += size) {
        uint64_t found = 0;
        memcpy(&found, from + at, size); /* little-endian */
        c->out[at] |= found != value;
    }
}

/* The only one left. Returns: whether there is just one. */
static bool only(const candidates *c, size_t size, uint32_t *offset)
{
    int count = 0;
    for (uint32_t at = 0; at < SEARCHED_BYTES; at += (uint32_t)size) {
        if (!c->out[at]) {
            *offset = at;
            count++;
        }
    }
    return count == 1;
}

static void want_vmstate(trial *t, enum cprof__jit_vmstate vmstate)
{
    want(&t->vmstate, t->global, sizeof(int32_t), (uint32_t)vmstate);
}

static void *allocate(void *data, void *block, size_t old_size, size_t size)
{
    trial *t = data;
    if (t->watch == WATCH_INTERPRETER && size > old_size) {
        t->interpreter_seen++;
        want_vmstate(t, CPROF__JIT_INTERPRETED);
    } else if (t->watch == WATCH_COLLECTOR && size == 0 && block) {
        t->collector_seen++;
        want_vmstate(t, CPROF__JIT_GC);
    }
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size + STATE_UP_TO); /* what is read behind a small lua_State is there */
}

/* Where in L the address of the interpreter's frame, just outward of our own, is kept. */
static void find_cframe(trial *t, const char *L, uint64_t frame)
{
    uint32_t found = 0;
    int count = 0;
    for (uint32_t at = STATE_FROM; at < STATE_UP_TO; at += 8) {
        if ((cprof__word_at(L + at) & ~CPROF__JIT_CFRAME_FLAGS) == frame) {
            found = at;
            count++;
        }
    }
    t->wrong |= count != 1 || (t->cframe && t->cframe != found);
    t->cframe = found;
}

/* Registers of callers are saved there too: none holds the main thread and then the other. */
static void find_thread(trial *t, const lua_State *L, uint64_t frame)
{
    for (uint32_t i = 0; i < FRAME_WORDS; i++) {
        t->no_thread[i] |= cprof__word_at((const char *)(uintptr_t)frame + i * 8ul) != (uint64_t)(uintptr_t)L;
    }
}

/* Returns: the only place left, 0 where there is none, or several. */
static uint32_t thread_place(const trial *t)
{
    uint32_t place = 0, count = 0;
    for (uint32_t i = 0; i < FRAME_WORDS; i++) {
        if (!t->no_thread[i]) {
            place = i * 8;
            count++;
        }
    }
    return count == 1 ? place : 0;
}

/* The start of the interpreter's function, which called our caller; 0: not known. */
static uint64_t find_interpreter(const trial *t)
{
    uint64_t pcs[PROBED_FRAMES], starts[PROBED_FRAMES];
    size_t count = cprof_vm_native_stack(pcs, starts, PROBED_FRAMES);
    for (size_t i = 0; i < count; i++) {
        if (pcs[i] == t->interpreter) {
            return starts[i];
        }
    }
    return 0;
}

/* A C function that Lua calls. */
static int probe(lua_State *L)
{
    trial *t = lua_touserdata(L, lua_upvalueindex(1));
    const char *state = (const char *)L;
    uint64_t entry = (uint64_t)(uintptr_t)probe;
    const char *base = cprof__pointer_at(state + CPROF__JIT_BASE_AT);
    const char *stack = cprof__pointer_at(state + CPROF__JIT_STACK_AT);
    const char *max = cprof__pointer_at(state + CPROF__JIT_MAX_AT);
    t->probes++;
    /* Our frame pointer points at the caller's, above which is the return address. */
    uint64_t frame = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 16;
    find_cframe(t, state, frame);
    find_thread(t, L, frame);
    t->interpreter = (uint64_t)(uintptr_t)__builtin_return_address(0) - 1;
    uint64_t start = find_interpreter(t);
    t->interpreter_start = t->probes == 1 || t->interpreter_start == start ? start : 0;
    want(&t->running, t->global, 8, (uint64_t)(uintptr_t)L);
    want_vmstate(t, CPROF__JIT_C);
    if (cprof__pointer_at(state + CPROF__JIT_GLOBAL_AT) != t->global || stack >= base || base > max) {
        t->wrong = true;
        return 0;
    }
    uint64_t function = cprof__word_at(base - 16) & CPROF__JIT_POINTER_MASK;
    t->wrong |= cprof__word_at((const char *)(uintptr_t)function + CPROF__JIT_ENTRY_AT) != entry;
    return 0;
}

static void nothing(lua_State *L, lua_Debug *ar)
{
    (void)L;
    (void)ar;
}

static void try_hooks(trial *t, lua_State *L)
{
    static const int masks[] = {LUA_MASKCALL,  LUA_MASKRET, LUA_MASKLINE,
                                LUA_MASKCOUNT, 0,           LUA_MASKLINE | LUA_MASKRET};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        int count = 0x5a1cbe01 + (int)i;
        lua_sethook(L, nothing, masks[i], count);
        want(&t->hook_mask, t->global, 1, (uint64_t)masks[i]);
        want(&t->hook_left, t->global, 4, (uint64_t)count);
        /* The count that it starts from again follows. */
        want(&t->hook_left, t->global + 4, 4, (uint64_t)count);
    }
    lua_sethook(L, NULL, 0, 0);
}

static void push_probe(trial *t, lua_State *L)
{
    lua_pushlightuserdata(L, t);
    lua_pushcclosure(L, probe, 1);
}

/* All of it, protected from errors by lua_cpcall. */
static int run_trial(lua_State *L)
{
    static const char joins[] = "local s = '' for i = 1, 20 do s = s .. i .. 'x' end";
    static const char calls[] = "local probe = ... local r = probe() return probe()";
    trial *t = lua_touserdata(L, 1);
    lua_gc(L, LUA_GCSTOP, 0);
    if (luaL_loadbuffer(L, joins, sizeof joins - 1, "=cprof") != 0) {
        return lua_error(L);
    }
    t->watch = WATCH_INTERPRETER;
    lua_call(L, 0, 0);
    t->watch = WATCH_COLLECTOR;
    lua_gc(L, LUA_GCCOLLECT, 0);
    t->watch = WATCH_NOTHING;

    lua_State *thread = lua_newthread(L);
    if (luaL_loadbuffer(L, calls, sizeof calls - 1, "=cprof") != 0) {
        return lua_error(L);
    }
    lua_pushvalue(L, -1);
    lua_xmove(L, thread, 1);
    push_probe(t, thread);
    t->wrong |= lua_resume(thread, 1) != 0;
    push_probe(t, L);
    lua_call(L, 1, 0);
    try_hooks(t, L);
    return 0;
}

static bool evaluate(const trial *t, cprof__jit_layout *layout)
{
    uint32_t running = 0, vmstate = 0, mask = 0, left = 0;
    if (t->wrong || t->probes != 4 || !t->interpreter_seen || !t->collector_seen ||
        !only(&t->running, 8, &running) || !only(&t->vmstate, 4, &vmstate) ||
        !only(&t->hook_mask, 1, &mask) || !only(&t->hook_left, 4, &left) || running + 8 >= SEARCHED_BYTES) {
        return false;
    }
    layout->cframe = t->cframe;
    layout->thread = thread_place(t);
    layout->running = running;
    layout->jit_base = running + 8;
    layout->vmstate = vmstate;
    layout->hook_mask = mask;
    layout->hook_left = left;
    layout->main = (uint32_t)(t->global - t->L);
    layout->interpreter = t->interpreter;
    layout->interpreter_start = t->interpreter_start;
    /* Nothing is compiled in the trial. */
    return cprof__word_at(t->global + layout->jit_base) == 0;
}

static int find_code(struct dl_phdr_info *info, size_t size, void *data)
{
    cprof__jit_layout *layout = data;
    uint64_t low = UINT64_MAX, high = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD) {
            uint64_t start = info->dlpi_addr + segment->p_vaddr;
            low = start < low ? start : low;
            high = start + segment->p_memsz > high ? start + segment->p_memsz : high;
        }
    }
    if (layout->interpreter < low || layout->interpreter >= high) {
        return 0;
    }
    layout->code_low = low;
    layout->code_high = high;
    layout->in_library = info->dlpi_name && *info->dlpi_name;
    return 1;
}

static bool find_file(cprof__jit_layout *layout)
{
    cprof__fork_hold_off();
    bool found = dl_iterate_phdr(find_code, layout) == 1;
    cprof__fork_allow();
    return found;
}

static void learn(void)
{
    trial *t = calloc(1, sizeof *t);
    lua_State *L = t ? lua_newstate(allocate, t) : NULL;
    if (L) {
        t->L = (const char *)L;
        t->global = cprof__pointer_at(t->L + CPROF__JIT_GLOBAL_AT);
        if (t->global > t->L && t->global - t->L < MAIN_BYTES_MAX && lua_cpcall(L, run_trial, t) == 0) {
            cprof__jit.known = evaluate(t, &cprof__jit) && find_file(&cprof__jit);
        }
        lua_close(L);
    }
    free(t);
}

bool cprof__jit_learn(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, learn);
    return cprof__jit.known;
}
