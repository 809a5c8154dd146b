/* SPDX-License-Identifier: MIT
 *
 * See pucsignal.h. Memory of the VM is read by guarded loads: what looks like a pointer may be none.
 */
#define _GNU_SOURCE
#include "luavm/pucsignal.h"

#include "luavm/puclayout.h"
#include "luavm/runtime.h"

#include <stdatomic.h>
#include <ucontext.h>

#define TAG_AT 8 /* of an object: its type; of a value: likewise */
#define TAG_MASK 0x3f
#define TAG_C_CLOSURE 0x26
#define TAG_C_LIGHT 0x16
#define TAG_LUA 0x06
#define IS_C_AT 10

#define RED_ZONE 128
#define STACK_BYTES_MAX                                                                                      \
    (UINT64_C(256) << 10) /* that a stack may have further out, where its end is not known */

/* Bounds of a search: words that are looked at, and words among them that looked like pointers and were none, which
 * cost a fault each. A running thread is found within some dozens. */
#define WORDS_MAX 4096
#define FAULTS_MAX 16
#define POINTER_MIN UINT64_C(65536)
#define POINTER_MAX (UINT64_C(1) << 47)

/* ---- The attached states, by their global_State ---- */

#define STATES_MAX 4096u /* a power of two */
#define PROBES_MAX                                                                                           \
    64u /* in a host that makes states all the time no slot stays unused: the search has this end */

static struct listed {
    _Atomic uint64_t global; /* 0: never used; 1: free again */
    _Atomic(cprof__luavm *) vm;
} listed[STATES_MAX];

static uint32_t slot_of(uint64_t global)
{
    return (uint32_t)(global * UINT64_C(0x9e3779b97f4a7c15) >> 52) & (STATES_MAX - 1);
}

static cprof__luavm *find_state(uint64_t global)
{
    uint32_t slot = slot_of(global);
    for (uint32_t i = 0; i < PROBES_MAX; i++, slot = (slot + 1) & (STATES_MAX - 1)) {
        uint64_t found = atomic_load_explicit(&listed[slot].global, memory_order_acquire);
        if (found == global) {
            return atomic_load_explicit(&listed[slot].vm, memory_order_acquire);
        }
        if (!found) {
            break;
        }
    }
    return NULL;
}

static uint64_t global_of(const lua_State *L)
{
    uint64_t word;
    __builtin_memcpy(&word, (const char *)L + cprof__puc_layout_known()->global_at, sizeof word);
    return word;
}

cprof__luavm *cprof__puc_state_of(lua_State *L)
{
    return cprof__puc_layout_known()->known ? find_state(global_of(L)) : NULL;
}

void cprof__puc_enlist(cprof__luavm *vm, lua_State *L)
{
    if (!vm->puc || !cprof__puc_layout_learn()->known) {
        return;
    }
    uint64_t global = global_of(L);
    uint32_t slot = slot_of(global);
    for (uint32_t i = 0; i < PROBES_MAX; i++, slot = (slot + 1) & (STATES_MAX - 1)) {
        uint64_t found = atomic_load(&listed[slot].global);
        /* Claimed by a value that no state has, then given its own, so that no reader sees half of it. */
        if (found <= 1 && atomic_compare_exchange_strong(&listed[slot].global, &found, 2)) {
            atomic_store(&listed[slot].vm, vm);
            atomic_store(&listed[slot].global, global);
            return;
        }
    }
}

void cprof__puc_delist(cprof__luavm *vm)
{
    for (uint32_t i = 0; i < STATES_MAX; i++) {
        if (atomic_load_explicit(&listed[i].vm, memory_order_relaxed) == vm) {
            atomic_store(&listed[i].vm, NULL);
            atomic_store(&listed[i].global, 1);
        }
    }
}

/* ---- Looking ---- */

/* Words that looked like pointers and were none. The same ones lie on a stack in sample after sample, and each look
 * costs a fault, as long as all the rest of a sample. A thread may be made at such an address later, so now and then a
 * search asks anew. Threads of all states write here; a word that gets lost costs a fault. */
#define NOWHERE_SLOTS 64u /* a power of two */
#define ASK_ANEW_EVERY 64u

static _Atomic uint64_t nowhere[NOWHERE_SLOTS];
static _Atomic uint32_t searches;

static _Atomic uint64_t *nowhere_slot(uint64_t word)
{
    return &nowhere[word * UINT64_C(0x9e3779b97f4a7c15) >> 58 & (NOWHERE_SLOTS - 1)];
}

typedef struct search {
    const cprof_vm_signal *signal;
    const cprof__puc_layout *layout;
    bool anew;          /* asks again of words that were no pointers */
    uint64_t low, high; /* the stack that is searched */
    uint64_t thread, error_jmp, rejected;
    uint64_t unprotected; /* a main thread that runs without any protected call */
    int faults_left;
    cprof__luavm *vm;
} search;

/* Whether WORD is a thread that runs further in than the one found. */
static void consider(search *s, uint64_t word)
{
    uint64_t global, tag, error_jmp, main;
    if ((word & 7) || word < POINTER_MIN || word >= POINTER_MAX || (word >= s->low && word < s->high) ||
        word == s->thread || word == s->rejected) {
        return;
    }
    s->rejected = word;
    _Atomic uint64_t *slot = nowhere_slot(word);
    if (!s->anew && atomic_load_explicit(slot, memory_order_relaxed) == word) {
        return;
    }
    if (!s->signal->load(word + s->layout->global_at, &global)) {
        atomic_store_explicit(slot, word, memory_order_relaxed);
        s->faults_left--;
        return;
    }
    if (global < POINTER_MIN || (global & 7)) {
        return;
    }
    cprof__luavm *vm = find_state(global);
    if (!vm || !s->signal->load(word + TAG_AT, &tag) || (tag & 0xff) != LUA_TTHREAD ||
        !s->signal->load(word + s->layout->error_jmp_at, &error_jmp)) {
        return;
    }
    if (error_jmp > s->low && error_jmp < s->high && (!s->thread || error_jmp < s->error_jmp)) {
        s->thread = word;
        s->error_jmp = error_jmp;
        s->vm = vm;
    } else if (!error_jmp && !s->unprotected && s->signal->load((uint64_t)(uintptr_t)&vm->main, &main) &&
               main == word) {
        s->unprotected = word; /* VM was loaded as well: another thread may close its state this moment */
    }
}

/* Where the VM's own frames begin: what a C function has on the stack, called by it, is left out. The registers that
 * the interpreter has in use are saved by what it called. */
static uint64_t first_sp(const search *s, uint64_t sp)
{
    size_t i = 0;
    while (i < s->signal->entered && s->signal->start(s->signal->pcs[i]) != s->layout->interpreter) {
        i++;
    }
    uint64_t found = i > 1 ? s->signal->frame_sp(s->signal, i - 1) : 0;
    return found > sp ? found : sp - RED_ZONE;
}

static void search_all(search *s, const ucontext_t *context)
{
    static const int registers[] = {REG_RBX, REG_R12, REG_R13, REG_R14, REG_R15, REG_RBP, REG_RDI,
                                    REG_RSI, REG_RDX, REG_RCX, REG_RAX, REG_R8,  REG_R9};
    const greg_t *gregs = context->uc_mcontext.gregs;
    uint64_t sp = (uint64_t)gregs[REG_RSP], word;
    for (size_t i = 0; i < sizeof registers / sizeof registers[0]; i++) {
        consider(s, (uint64_t)gregs[registers[i]]);
    }
    /* What runs further in than what was found lies before its protected call. */
    uint64_t at = first_sp(s, sp) & ~UINT64_C(7);
    for (int i = 0; i < WORDS_MAX && s->faults_left > 0; i++, at += 8) {
        if (at >= (s->thread ? s->error_jmp : s->high) || !s->signal->load(at, &word)) {
            break;
        }
        consider(s, word);
    }
    if (!s->thread && s->unprotected) {
        s->thread = s->unprotected;
        s->error_jmp = 0;
        s->vm = ((void)s->signal->load(s->thread + s->layout->global_at, &word), find_state(word));
    }
}

/* The start of the C function whose closure or value lies at SLOT, 0 where it is a Lua function. *FUNCTION gets the
 * value. */
static uint64_t c_function(const cprof_vm_signal *signal, uint64_t slot, uint64_t *function)
{
    uint64_t tag, value, head, entry = 0;
    *function = 0;
    if (!signal->load(slot, &value) || !signal->load(slot + TAG_AT, &tag)) {
        return 0;
    }
    *function = value;
#if LUA_VERSION_NUM == 501
    bool is_c = (tag & 0xff) == LUA_TFUNCTION && signal->load(value + TAG_AT, &head) &&
                (head >> (IS_C_AT - TAG_AT) * 8 & 0xff);
#else
    (void)head;
    if ((tag & TAG_MASK) == TAG_C_LIGHT) {
        return value;
    }
    bool is_c = (tag & TAG_MASK) == TAG_C_CLOSURE;
#endif
    return is_c && signal->load(value + CPROF__CLOSURE_C_AT, &entry) ? entry : 0;
}

/* The place of the function that starts at ENTRY. */
static size_t place_of(const cprof_vm_signal *signal, uint64_t entry)
{
    size_t i = 0;
    while (i < signal->count && signal->start(signal->pcs[i]) != entry) {
        i++;
    }
    return i;
}

/* Where the record of place CI lies, and the place of its caller: 5.1's records move, so there they are numbered. */
#if LUA_VERSION_NUM == 501
static bool read_base(const search *s, uint64_t *base)
{
    return s->signal->load(s->thread + CPROF__BASE_CI_AT, base);
}

static uint64_t record_at(uint64_t base, uint64_t ci)
{
    return base + ci * CPROF__CI_BYTES;
}

static bool read_current(const search *s, uint64_t base, uint64_t *ci)
{
    bool read = s->signal->load(s->thread + s->layout->ci_at, ci) && *ci >= base;
    *ci = (*ci - base) / CPROF__CI_BYTES;
    return read;
}

static bool read_caller(const search *s, uint64_t base, uint64_t ci, uint64_t *caller)
{
    (void)s;
    (void)base;
    *caller = ci - 1;
    return ci > 0;
}
#else
static bool read_base(const search *s, uint64_t *base)
{
    (void)s;
    *base = 0;
    return true;
}

static uint64_t record_at(uint64_t base, uint64_t ci)
{
    return base + ci;
}

static bool read_current(const search *s, uint64_t base, uint64_t *ci)
{
    (void)base;
    return s->signal->load(s->thread + s->layout->ci_at, ci);
}

static bool read_caller(const search *s, uint64_t base, uint64_t ci, uint64_t *caller)
{
    return s->signal->load(record_at(base, ci) + CPROF__CI_PREVIOUS_AT, caller);
}
#endif

/* Whether the call at the top of the thread is one of a Lua function: but for hooks, only a C function can have resumed
 * another. */
static bool runs_lua(const search *s)
{
    uint64_t base, ci, slot, tag;
    if (!read_base(s, &base) || !read_current(s, base, &ci) ||
        !s->signal->load(record_at(base, ci) + CPROF__CI_FUNC_AT, &slot) ||
        !s->signal->load(slot + TAG_AT, &tag)) {
        return false;
    }
#if LUA_VERSION_NUM == 501
    uint64_t value, head;
    return (tag & 0xff) == LUA_TFUNCTION && s->signal->load(slot, &value) &&
           s->signal->load(value + TAG_AT, &head) && !(head >> (IS_C_AT - TAG_AT) * 8 & 0xff);
#else
    return (tag & TAG_MASK) == TAG_LUA;
#endif
}

/* Whether the VM was entered further in than the thread's protected call. A host's hook may have done so, which has no
 * record of its own: it may run another thread, under a Lua function that looks as if it ran. */
static bool entered_since(const search *s)
{
    const cprof_vm_signal *signal = s->signal;
    return signal->entered < signal->count && signal->frame_sp(signal, signal->entered) <= s->error_jmp;
}

/* The thread that ran last time, where it runs still: mostly it does, and then nothing needs to be searched. */
static bool find_last(search *s)
{
    consider(s, (uint64_t)(uintptr_t)s->signal->last);
    if (s->thread && runs_lua(s) && !entered_since(s)) {
        return true;
    }
    s->thread = s->error_jmp = s->rejected = 0;
    s->vm = NULL;
    return false;
}

static bool find_thread(search *s, const ucontext_t *context)
{
    uint64_t sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
    s->low = (sp - RED_ZONE) & ~UINT64_C(7);
    s->high = s->signal->stack_high ? s->signal->stack_high : sp + STACK_BYTES_MAX;
    s->faults_left = FAULTS_MAX;
    s->anew = atomic_fetch_add_explicit(&searches, 1, memory_order_relaxed) % ASK_ANEW_EVERY == 0;
    if (!find_last(s)) {
        search_all(s, context);
    }
    return s->thread && s->vm;
}

static void read_callers(const search *s, uint64_t base, cprof_vm_moment *moment)
{
    uint64_t ci = moment->place[0], slot, function;
    for (int i = 0; i < CPROF__CALLERS_MAX; i++) {
        if (!read_caller(s, base, ci, &ci) || !ci ||
            !s->signal->load(record_at(base, ci) + CPROF__CI_FUNC_AT, &slot) ||
            !s->signal->load(slot, &function)) {
            return;
        }
        moment->callers[2 * i] = ci;
        moment->callers[2 * i + 1] = function;
    }
}

/* Where the thread is: its place, its caller's, the protected call, the function. *ABOUT_HOOKS gets whether that reads
 * or sets hooks, also where it has not been entered yet. */
static bool read_place(const search *s, cprof_vm_moment *moment, bool *about_hooks)
{
    uint64_t base, ci, slot;
    if (!read_base(s, &base) || !read_current(s, base, &ci)) {
        return false;
    }
    moment->place[0] = ci;
    moment->place[2] = s->error_jmp;
    read_callers(s, base, moment);
    moment->place[1] = moment->callers[0];
    if (!s->signal->load(record_at(base, ci) + CPROF__CI_FUNC_AT, &slot)) {
        return false;
    }
    uint64_t entry = c_function(s->signal, slot, &moment->place[3]);
    *about_hooks = entry && (entry == s->vm->gethook_entry || entry == s->vm->sethook_entry);
    /* A record that was just begun may still name a function that was called before: only one that is on the
     * native stack runs. */
    if (entry && place_of(s->signal, entry) < s->signal->count) {
        moment->entry = entry;
    }
    return true;
}

static bool is_collector(const cprof__puc_layout *layout, uint64_t start)
{
    const uint64_t *collector = layout->collectors;
    while (*collector && *collector != start) {
        collector++;
    }
    return *collector != 0;
}

/* Whether the collector is at work from frame I outward, before the API: called by the VM or by the API, or, further
 * out, calling a finalizer. */
static bool collects(const cprof_vm_signal *signal, const cprof__puc_layout *layout, size_t i)
{
    for (bool entered = false; i < signal->count && !entered; i++) {
        uint64_t start = signal->start(signal->pcs[i]);
        if (start && is_collector(layout, start)) {
            return true;
        }
        const cprof_vm_native one = {&signal->pcs[i], &start, 1};
        entered = i == signal->entered || (i > signal->entered && cprof__lua_entered(&one, 1));
    }
    return false;
}

int cprof__puc_look(const cprof_vm_signal *signal, cprof_vm_moment *moment)
{
    search s = {.signal = signal, .layout = cprof__puc_layout_known()};
    bool about_hooks;
    if (!s.layout->known || !find_thread(&s, signal->context) || !read_place(&s, moment, &about_hooks)) {
        return 0;
    }
    moment->state = s.vm;
    moment->running = (void *)(uintptr_t)s.thread;
    bool gc = collects(signal, s.layout, 0) ||
              (moment->entry && collects(signal, s.layout, place_of(signal, moment->entry)));
    moment->activity = gc ? CPROF__LUA_GC : 0;
    /* In the middle of setting a hook, the next one would be mixed with it. A program that asks for its own would get
     * ours. */
    if (about_hooks || signal->start(signal->pcs[0]) == (uint64_t)(uintptr_t)lua_sethook) {
        moment->running = NULL;
    }
    return 1;
}

/* ---- Asking ---- */

int *cprof__puc_left(lua_State *L)
{
    return (int *)((char *)L + cprof__puc_layout_known()->hook_count_at);
}

cprof__armed *cprof__puc_armed(cprof__puc *puc, const lua_State *L)
{
    for (int i = 0; i < CPROF__ARMED_MAX; i++) {
        if (puc->armed[i].thread == L) {
            return &puc->armed[i];
        }
    }
    return NULL;
}

static cprof__armed *new_entry(cprof__puc *puc, const lua_State *L)
{
    cprof__armed *entry =
        cprof__puc_armed(puc, L); /* the host has replaced ours, or a thread lay here before */
    if (!entry) {
        entry = cprof__puc_armed(puc, NULL);
    }
    return entry ? entry : &puc->armed[puc->next++ % CPROF__ARMED_MAX];
}

/* The number of HOST. 1 is no hook at all, for ever. */
static int number_of(cprof__puc *puc, const cprof__host_hook *host)
{
    for (int i = 0; i < CPROF__HOOKS_MAX; i++) {
        const cprof__host_hook *known = &puc->hooks[i];
        if (known->hook == host->hook && known->mask == host->mask && known->count == host->count) {
            return i + 1;
        }
    }
    uint32_t slot = 1 + puc->next_hook++ % (CPROF__HOOKS_MAX - 1);
    puc->hooks[slot] = *host;
    return (int)slot + 1;
}

/* Where the last signal came just as the interpreter was counting an instruction for the host's hook, what it then
 * stored is what is left for the host, and not our 1. (Our own count is there where it has just begun anew.) */
static void arm_again(cprof__puc *puc, lua_State *L)
{
    cprof__armed *entry = cprof__puc_armed(puc, L);
    int *left = cprof__puc_left(L);
    if (*left > 1) {
        if (entry && *left != lua_gethookcount(L)) {
            entry->left = *left;
        }
        *left = 1;
    }
}

/* A host's hook is given the events that it wants, but for counts, which are counted for it. */
#define EVENTS_PASSED_ON (LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE)

static void set_hook(cprof__puc *puc, lua_State *L)
{
    if (lua_gethook(L) == cprof__puc_hook) {
        arm_again(puc, L);
        return;
    }
    cprof__armed *entry = new_entry(puc, L);
    *entry =
        (cprof__armed){L, {lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)}, 0, *cprof__puc_left(L)};
    entry->number = number_of(puc, &entry->host);
    /* The return of the C function that runs comes before the next instruction, and may be the last that is seen of
     * its caller (return f()). The call of another comes before that runs, so debug.gethook does not find ours. */
    int mask = (entry->host.mask & EVENTS_PASSED_ON) | LUA_MASKCOUNT | LUA_MASKRET | LUA_MASKCALL;
    lua_sethook(L, cprof__puc_hook, mask, entry->number);
    *cprof__puc_left(L) = 1;
}

int cprof__puc_request(const cprof_vm_moment *moment, uint64_t ticket)
{
    cprof__luavm *vm = moment->state;
    lua_State *L = moment->running;
    if (!L || !vm->puc) {
        return 0;
    }
    vm->puc->asked = *moment;
    vm->puc->ticket = ticket;
    if (!vm->puc->held_off) {
        set_hook(vm->puc, L);
    }
    return 1;
}

void cprof__puc_hold_off(cprof__luavm *vm)
{
    if (vm->puc) {
        vm->puc->held_off = 1;
    }
}

void cprof__puc_allow(cprof__luavm *vm, lua_State *L)
{
    cprof__puc *puc = vm->puc;
    if (!puc) {
        return;
    }
    puc->held_off = 0;
    /* A handler may come between any two of these; what it finds done it leaves alone. */
    while (puc->ticket && puc->asked.running == L && lua_gethook(L) != cprof__puc_hook) {
        puc->held_off = 1;
        set_hook(puc, L);
        puc->held_off = 0;
    }
}
