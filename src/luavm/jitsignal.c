/* SPDX-License-Identifier: MIT
 *
 * See jitsignal.h. A state runs on the interrupted thread where the place at which native code entered the VM
 * lies on this thread's stack. Until that is known, the state's memory may vanish under our feet (its thread
 * closes it), so it is read by guarded loads.
 */
#define _GNU_SOURCE
#include "luavm/jitsignal.h"

#include "luavm/jitlayout.h"

#include <ucontext.h>

cprof__jit_slot cprof__jit_slots[CPROF__JIT_SLOTS];
_Atomic uint32_t cprof__jit_slots_used;
cprof__jit_profiler cprof__jit_profiler_state;

/* Where the end of the stack is not known (a host's coroutines): how far out it is believed to be this one. */
#define STACK_BYTES_UNKNOWN (UINT64_C(256) << 10)

/* Requests in a row that running code did not see, after which the interpreter's dispatch is put right. */
#define UNANSWERED_MAX 16

cprof__jit_slot *cprof__jit_slot_of_state(const void *state)
{
    uint32_t used = atomic_load_explicit(&cprof__jit_slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        cprof__jit_slot *slot = &cprof__jit_slots[i];
        if (atomic_load_explicit(&slot->global, memory_order_acquire) &&
            atomic_load_explicit(&slot->state, memory_order_relaxed) == state) {
            return slot;
        }
    }
    return NULL;
}

cprof__jit_slot *cprof__jit_slot_of_global(uint64_t global)
{
    uint32_t used = atomic_load_explicit(&cprof__jit_slots_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        if (atomic_load_explicit(&cprof__jit_slots[i].global, memory_order_acquire) == global) {
            return &cprof__jit_slots[i];
        }
    }
    return NULL;
}

/* ---- Looking ---- */

static uint64_t stack_limit(const cprof_vm_signal *signal, uint64_t sp)
{
    return signal->stack_high > sp ? signal->stack_high : sp + STACK_BYTES_UNKNOWN;
}

/* Whether L, of the VM GLOBAL, entered the VM on the stack from LOW to HIGH. */
static bool runs(const cprof_vm_signal *signal, uint64_t global, uint64_t L, uint64_t low, uint64_t high,
                 uint64_t *cframe)
{
    uint64_t owner;
    if (!L || L % 8 || !signal->load(L + CPROF__JIT_GLOBAL_AT, &owner) || owner != global ||
        !signal->load(L + cprof__jit.cframe, cframe)) {
        return false;
    }
    *cframe &= ~CPROF__JIT_CFRAME_FLAGS;
    return *cframe >= low && *cframe < high;
}

/* The thread that the innermost frame of the interpreter belongs to; 0: not known. */
static uint64_t innermost_thread(const cprof_vm_signal *signal)
{
    uint64_t L = 0, start = cprof__jit.thread ? cprof__jit.interpreter_start : 0;
    size_t i = 0;
    while (start && i < signal->count && signal->start(signal->pcs[i]) != start) {
        i++;
    }
    uint64_t sp = start && i < signal->count ? signal->frame_sp(signal, i) : 0;
    return sp && signal->load(sp + cprof__jit.thread, &L) ? L : 0;
}

static uint64_t once(uint64_t *thread, bool *known, const cprof_vm_signal *signal)
{
    if (!*known) {
        *thread = innermost_thread(signal);
        *known = true;
    }
    return *thread;
}

bool cprof__jit_find(const cprof_vm_signal *signal, uint64_t low, uint64_t high, cprof__jit_found *best)
{
    uint32_t used = atomic_load_explicit(&cprof__jit_slots_used, memory_order_acquire);
    uint64_t innermost = 0;
    bool innermost_known = false;
    best->cframe = 0;
    for (uint32_t i = 0; i < used; i++) {
        cprof__jit_slot *slot = &cprof__jit_slots[i];
        uint64_t global = atomic_load_explicit(&slot->global, memory_order_acquire), L, cframe;
        if (!global || !signal->load(global + cprof__jit.running, &L)) {
            continue;
        }
        /* After a host's C function has resumed a thread, that one is still noted as running. */
        bool noted = runs(signal, global, L, low, high, &cframe);
        if (!noted &&
            !runs(signal, global, L = once(&innermost, &innermost_known, signal), low, high, &cframe) &&
            !runs(signal, global, L = global - cprof__jit.main, low, high, &cframe)) {
            continue;
        }
        cprof__luavm *state = atomic_load_explicit(&slot->state, memory_order_relaxed);
        if ((!best->cframe || cframe < best->cframe) &&
            atomic_load_explicit(&slot->global, memory_order_acquire) == global) {
            *best = (cprof__jit_found){global, L, cframe, state, noted};
        }
    }
    return best->cframe != 0;
}

static bool load_int(const cprof_vm_signal *signal, uint64_t address, int32_t *value)
{
    uint64_t word;
    if (!signal->load(address & ~UINT64_C(7), &word)) {
        return false;
    }
    *value = (int32_t)(uint32_t)(word >> (address & 7) * 8);
    return true;
}

static uint32_t activity(const cprof__jit_slot *slot, int32_t vmstate)
{
    switch (vmstate) {
    case CPROF__JIT_INTERPRETED:
        return CPROF__JIT_DOES_INTERPRET;
    case CPROF__JIT_C:
        return CPROF__JIT_DOES_C;
    case CPROF__JIT_GC:
        return CPROF__JIT_DOES_GC;
    case CPROF__JIT_EXIT:
        return CPROF__JIT_DOES_EXIT;
    default:
        break;
    }
    if (vmstate < 0) {
        return CPROF__JIT_DOES_COMPILE;
    }
    enum cprof__jit_holder holder = cprof__jit_holder(slot);
    return holder == CPROF__JIT_SECOND    ? CPROF__JIT_DOES_COMPILED_SECOND
           : holder == CPROF__JIT_PROGRAM ? CPROF__JIT_DOES_COMPILED_TAKEN
                                          : CPROF__JIT_DOES_COMPILED;
}

static bool is_lua(const cprof_vm_signal *signal, uint64_t function)
{
    uint64_t word;
    return signal->load(function + CPROF__JIT_FFID_AT, &word) && (word >> CPROF__JIT_FFID_SHIFT & 0xff) == 0;
}

/* Where the thread is, in code that has noted it: C functions and what the VM does besides. */
static void fill_place(const cprof_vm_signal *signal, const cprof__jit_found *f, cprof_vm_moment *moment)
{
    uint64_t base, stack, function, entry;
    if (!signal->load(f->L + CPROF__JIT_BASE_AT, &base) ||
        !signal->load(f->L + CPROF__JIT_STACK_AT, &stack) || base <= stack ||
        !signal->load(base - 16, &function)) {
        return;
    }
    uint64_t frame = base - 8;
    function &= CPROF__JIT_POINTER_MASK;
    moment->place[CPROF__JIT_PLACE_FRAME] = frame - stack;
    moment->place[CPROF__JIT_PLACE_FUNCTION] = function;
    if (function == f->L || is_lua(signal, function) ||
        !signal->load(function + CPROF__JIT_ENTRY_AT, &entry)) {
        return;
    }
    moment->entry = entry;
}

/* The bytes from the frame with LINK to its caller's (levelsjit.c says how frames are linked); 0: not known. */
static uint64_t caller_distance(const cprof_vm_signal *signal, uint64_t link)
{
    uint64_t words, at = link - sizeof(uint32_t);
    if ((link & 3) != 0) {
        return link & ~UINT64_C(7);
    }
    if (!link || !signal->load(at & ~UINT64_C(7), &words)) {
        return 0;
    }
    return (2 + (words >> (at & 4) * 8 >> 8 & 0xff)) * UINT64_C(8);
}

/* In a moment's callers: a flag of the place, which is a multiple of 8. */
#define CALLER_IS_LUA UINT64_C(1)

/* The frames outward of the moment's. A stack that is being moved has none any more where it is looked for. */
static void read_callers(const cprof_vm_signal *signal, const cprof__jit_found *f, cprof_vm_moment *moment)
{
    uint64_t stack, link, function, kind;
    if (!moment->place[CPROF__JIT_PLACE_FRAME] || !signal->load(f->L + CPROF__JIT_STACK_AT, &stack)) {
        return;
    }
    uint64_t frame = stack + moment->place[CPROF__JIT_PLACE_FRAME];
    for (int i = 0; i < CPROF__JIT_CALLERS; i++) {
        uint64_t distance = signal->load(frame, &link) ? caller_distance(signal, link) : 0;
        if (!distance || distance >= frame - stack - 8) {
            return;
        }
        frame -= distance;
        if (!signal->load(frame - 8, &function) || function >> 47 != CPROF__JIT_TAG_FUNCTION) {
            return;
        }
        function &= CPROF__JIT_POINTER_MASK;
        if (!signal->load(function + CPROF__JIT_FFID_AT, &kind)) {
            return;
        }
        bool is_lua_function = (kind >> CPROF__JIT_FFID_SHIFT & 0xff) == 0;
        moment->callers[2 * i] = (frame - stack) | (is_lua_function ? CALLER_IS_LUA : 0);
        moment->callers[2 * i + 1] = function;
    }
}

/* Where the VM called native code by itself (the FFI), from compiled code or by a function of LuaJIT's for the purpose:
 * the start of what it called; else 0. */
static uint64_t called_by_ffi(const cprof_vm_signal *signal)
{
    uint64_t interpreter = signal->start(cprof__jit.interpreter), before = 0;
    for (size_t i = 0; i < signal->count && interpreter; i++) {
        uint64_t pc = signal->pcs[i], start = signal->start(pc);
        bool compiled = !start && i + 1 == signal->count;
        /* That function follows the interpreter. */
        if (compiled || (start && start != interpreter && signal->start(start - 1) == interpreter)) {
            bool own = before >= cprof__jit.code_low && before < cprof__jit.code_high;
            return compiled && own ? 0 : before;
        }
        if (start == interpreter) {
            return 0;
        }
        before = start;
    }
    return 0;
}

int cprof__jit_look(const cprof_vm_signal *signal, cprof_vm_moment *moment)
{
    const ucontext_t *context = signal->context;
    uint64_t sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP], jit_base;
    int32_t vmstate;
    cprof__jit_found f;
    if (!cprof__jit.known || !cprof__jit_find(signal, sp, stack_limit(signal, sp), &f) ||
        !load_int(signal, f.global + cprof__jit.vmstate, &vmstate) ||
        !signal->load(f.global + cprof__jit.jit_base, &jit_base)) {
        return 0;
    }
    const cprof__jit_slot *slot = cprof__jit_slot_of_state(f.state);
    if (!slot) {
        return 0;
    }
    /* A thread that yielded to it leaves a host's C function under the name of the interpreter. */
    if (!f.noted && vmstate == CPROF__JIT_INTERPRETED) {
        vmstate = CPROF__JIT_C;
    }
    *moment = (cprof_vm_moment){.state = f.state, .running = (void *)(uintptr_t)f.L};
    moment->activity = activity(slot, vmstate);
    moment->place[CPROF__JIT_PLACE_CFRAME] = f.cframe;
    /* The interpreter keeps its place in registers, compiled code nowhere. */
    if (vmstate < CPROF__JIT_INTERPRETED && vmstate != CPROF__JIT_EXIT && !jit_base) {
        fill_place(signal, &f, moment);
    }
    /* After a hook has run Lua code, the interpreter goes on under the name of C. */
    if (vmstate == CPROF__JIT_C && !moment->entry) {
        moment->activity = CPROF__JIT_DOES_INTERPRET;
        moment->place[CPROF__JIT_PLACE_FRAME] = 0;
    }
    uint64_t ffi = vmstate == CPROF__JIT_C || vmstate >= 0 ? called_by_ffi(signal) : 0;
    if (ffi) {
        moment->activity = CPROF__JIT_DOES_C;
        moment->entry = ffi;
    }
    read_callers(signal, &f, moment);
    return 1;
}

/* No assembler code of LuaJIT is longer. */
#define INTERPRETER_BYTES_MAX (UINT64_C(64) << 10)

/* How many frames there are up to the one in compiled code or in the interpreter, of which unwind rows tell nothing or,
 * where it has put down more than they know of (when compiled code ends), the wrong. */
static size_t place_in_vm(const cprof_vm_signal *signal)
{
    uint64_t start = signal->start(cprof__jit.interpreter);
    for (size_t i = 0; start && i < signal->count; i++) {
        uint64_t pc = signal->pcs[i];
        if (pc >= start && pc - start < INTERPRETER_BYTES_MAX && signal->start(pc) == start) {
            return i + 1;
        }
    }
    return signal->count && !signal->start(signal->pcs[signal->count - 1]) ? signal->count : 0;
}

size_t cprof__jit_outward(const cprof_vm_signal *signal, uint64_t regs[3])
{
    const ucontext_t *context = signal->context;
    size_t place = cprof__jit.known ? place_in_vm(signal) : 0;
    uint64_t sp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
    uint64_t high = stack_limit(signal, sp);
    cprof__jit_found f;
    if (!place || !cprof__jit_find(signal, sp, high, &f)) {
        return 0;
    }
    /* Where the walk met the interpreter as its unwind rows describe it, it is right. */
    if (signal->start(signal->pcs[place - 1]) && signal->frame_sp(signal, place - 1) == f.cframe) {
        return 0;
    }
    regs[0] = cprof__jit.interpreter;
    regs[1] = f.cframe;
    return place;
}

/* ---- Asking ---- */

enum cprof__jit_holder cprof__jit_holder(const cprof__jit_slot *slot)
{
    const cprof__jit_profiler *p = &cprof__jit_profiler_state;
    const cprof__jit_slot *holder = atomic_load_explicit(&p->holder, memory_order_acquire);
    if (!holder) {
        bool refused = atomic_load_explicit(&slot->refused, memory_order_relaxed) > 0;
        return refused ? CPROF__JIT_PROGRAM : CPROF__JIT_NOBODY;
    }
    /* The program may have started the profiler for itself, and stopped it again; then our callback is gone. */
    uint64_t global = atomic_load_explicit(&p->record[0], memory_order_relaxed);
    bool ours = atomic_load_explicit(&p->record[1], memory_order_relaxed) == p->callback &&
                atomic_load_explicit(&p->record[2], memory_order_relaxed) == (uint64_t)(uintptr_t)holder;
    if (!ours) {
        return global ? CPROF__JIT_PROGRAM : CPROF__JIT_NOBODY;
    }
    return holder == slot ? CPROF__JIT_SELF : CPROF__JIT_SECOND;
}

/* LuaJIT's records on this thread, where the state is known to run. */
static volatile uint8_t *hook_mask_of(uint64_t global)
{
    return (volatile uint8_t *)(uintptr_t)(global + cprof__jit.hook_mask);
}

static volatile int32_t *hook_left_of(uint64_t global)
{
    return (volatile int32_t *)(uintptr_t)(global + cprof__jit.hook_left);
}

/* What had called the moment's frame, as it was read then. */
static void note_callers(cprof__jit_slot *slot, const cprof_vm_moment *moment)
{
    uint32_t count = 0;
    for (; count < CPROF__JIT_CALLERS && moment->callers[2 * count]; count++) {
        uint64_t place = moment->callers[2 * count];
        slot->callers[count] =
            (cprof__jit_frame){place & ~CALLER_IS_LUA, moment->callers[2 * count + 1], place & CALLER_IS_LUA};
    }
    slot->caller_count = count;
}

static void note(cprof__jit_slot *slot, const cprof_vm_moment *moment, uint64_t ticket)
{
    note_callers(slot, moment);
    slot->moment = *moment;
    slot->ticket = ticket;
    slot->generation = atomic_load_explicit(&slot->state, memory_order_relaxed)->generation;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_fetch_add_explicit(&slot->requested, 1, memory_order_relaxed);
}

/* Where a signal comes while LuaJIT writes its table of instructions anew, what the trigger wrote is lost, and
 * LuaJIT believes it to be there. A change of hooks without the request makes it write the table again. */
static void put_dispatch_right(lua_State *L, uint64_t global)
{
    int32_t left = *hook_left_of(global);
    *hook_mask_of(global) &= (uint8_t)~CPROF__JIT_HOOK_PROFILE;
    lua_sethook(L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L));
    *hook_left_of(global) = left;
}

/* Whether MOMENT lies between the end of the native function that the pending request is for and the safepoint: it is
 * that call's. A request of its own would leave all samples of the function without an answer. */
static bool is_return(const cprof__jit_slot *slot, const cprof_vm_moment *moment)
{
    return slot->moment.entry && !moment->place[CPROF__JIT_PLACE_FRAME] &&
           slot->moment.running == moment->running &&
           slot->moment.place[CPROF__JIT_PLACE_CFRAME] == moment->place[CPROF__JIT_PLACE_CFRAME] &&
           atomic_load_explicit(&slot->requested, memory_order_relaxed) !=
               atomic_load_explicit(&slot->answered, memory_order_relaxed);
}

static int ask_profiler(cprof__jit_slot *slot, uint64_t global, const cprof_vm_moment *moment,
                        uint64_t ticket)
{
    uint8_t mask = *hook_mask_of(global);
    if (mask & (CPROF__JIT_HOOK_EVENT | CPROF__JIT_HOOK_FINALIZER)) {
        return 0;
    }
    if (!(mask & CPROF__JIT_HOOK_PROFILE) || moment->place[CPROF__JIT_PLACE_FRAME]) {
        atomic_store_explicit(&slot->unanswered, 0, memory_order_relaxed);
    } else if (atomic_fetch_add_explicit(&slot->unanswered, 1, memory_order_relaxed) == 0 &&
               is_return(slot, moment)) {
        return CPROF_VM_SERVED;
    } else if (atomic_load_explicit(&slot->unanswered, memory_order_relaxed) > UNANSWERED_MAX) {
        atomic_store_explicit(&slot->unanswered, 0, memory_order_relaxed);
        put_dispatch_right(moment->running, global);
    }
    _Atomic uint64_t *record = cprof__jit_profiler_state.record;
    uint64_t nobody = 0, self = global;
    if (!atomic_compare_exchange_strong(&record[0], &nobody, global)) {
        return 0;
    }
    note(slot, moment, ticket);
    cprof__jit_profiler_state.trigger(0);
    atomic_compare_exchange_strong(&record[0], &self, 0);
    return 1;
}

static int ask_hook(cprof__jit_slot *slot, uint64_t global, const cprof_vm_moment *moment, uint64_t ticket,
                    bool wanted)
{
    lua_State *L = moment->running;
    if (*hook_mask_of(global) &
        (CPROF__JIT_HOOK_ACTIVE | CPROF__JIT_HOOK_EVENT | CPROF__JIT_HOOK_FINALIZER)) {
        return 0;
    }
    if (wanted) {
        note(slot, moment, ticket);
    }
    if (lua_gethook(L) == cprof__jit_hook && atomic_load_explicit(&slot->armed, memory_order_relaxed)) {
        return wanted;
    }
    slot->hook = lua_gethook(L);
    slot->hook_mask = lua_gethookmask(L);
    slot->hook_count = lua_gethookcount(L);
    slot->hook_left = *hook_left_of(global);
    atomic_store_explicit(&slot->armed, true, memory_order_relaxed);
    /* Compiled code that ends in a call, and goes on after it, meets no other instruction than the call. */
    lua_sethook(L, cprof__jit_hook, slot->hook_mask | LUA_MASKCOUNT | LUA_MASKCALL, 1);
    return wanted;
}

int cprof__jit_request(const cprof_vm_moment *moment, uint64_t ticket)
{
    cprof__jit_slot *slot = cprof__jit_slot_of_state(moment->state);
    uint64_t global = slot ? atomic_load_explicit(&slot->global, memory_order_relaxed) : 0;
    if (!global) {
        return 0;
    }
    if (atomic_load_explicit(&slot->delivering, memory_order_relaxed)) {
        return CPROF_VM_SERVED;
    }
    enum cprof__jit_holder holder = cprof__jit_holder(slot);
    if (atomic_load_explicit(&slot->refused, memory_order_relaxed) > 0) {
        atomic_fetch_sub_explicit(&slot->refused, 1, memory_order_relaxed);
    }
    if (holder == CPROF__JIT_SELF) {
        return ask_profiler(slot, global, moment, ticket);
    }
    int32_t vmstate = *(volatile int32_t *)(uintptr_t)(global + cprof__jit.vmstate);
    /* Armed while a trace is recorded, a hook would throw the trace away. */
    if (vmstate < CPROF__JIT_EXIT) {
        return 0;
    }
    /* Where compiled code runs, the hook comes when it ends, which may be late; it starts the profiler then. */
    bool compiled = vmstate >= 0 || *(volatile uint64_t *)(uintptr_t)(global + cprof__jit.jit_base);
    if (compiled && holder != CPROF__JIT_NOBODY) {
        return 0;
    }
    return ask_hook(slot, global, moment, ticket, !compiled);
}
