/* SPDX-License-Identifier: MIT
 *
 * Walks Lua stacks with the public debug API alone, so that one source serves every Lua. Nothing here runs
 * Lua code or allocates in the Lua state: the core calls it from the middle of an add.
 */
#include "luavm/walk.h"

#include "luavm/functions.h"
#include "luavm/threads.h"

/* The function itself, and what looking for its name pushes. */
#define SLOTS 12

typedef struct writer {
    cprof__luavm *vm;
    cprof_vm_frame *frames;
    size_t count, max;
    bool after_tail_call; /* the last frame says so already */
} writer;

static bool write_tail_calls(writer *w)
{
    if (w->after_tail_call) {
        return true;
    }
    if (w->count == w->max) {
        return false;
    }
    w->frames[w->count++] = (cprof_vm_frame){.address = w->vm->tail_calls};
    w->after_tail_call = true;
    return true;
}

/* The frame of AR, whose function is on top of L's stack. */
static bool write_frame(writer *w, lua_State *L, lua_Debug *ar)
{
    /* 5.1 gives a level without a function for each tail call that it lost; one frame stands for them all. */
    if (lua_isnil(L, -1)) {
        return write_tail_calls(w);
    }
    if (w->count == w->max) {
        return false;
    }
    int line = ar->currentline;
    const cprof__lua_function *function = cprof__lua_function_find(w->vm, L, ar);
    w->frames[w->count++] = (cprof_vm_frame){
        .address = cprof_vm_function_address(function->function, line),
        .entry = function->entry,
        .flags = function->flags,
    };
    w->after_tail_call = false;
    return !cprof__lua_tail_called(ar) || write_tail_calls(w);
}

/* Returns whether all of L's frames found room. */
static bool write_thread(writer *w, lua_State *L)
{
    lua_Debug ar;
    if (!cprof__lua_room(L, SLOTS)) {
        return true;
    }
    w->after_tail_call = false;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, CPROF__LUA_WALK, &ar);
        bool written = write_frame(w, L, &ar);
        lua_pop(L, 1);
        if (!written) {
            return false;
        }
    }
    return true;
}

size_t cprof__lua_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                       size_t frames_max, int *truncated)
{
    cprof__luavm *vm = state;
    lua_State *chain[CPROF__CHAIN_MAX];
    writer w = {vm, frames, 0, frames_max, false};
    size_t threads = cprof__lua_chain(vm, running, native, chain);
    if (threads > 0 && cprof__lua_room(chain[threads - 1], 2) && cprof__luavm_stale(vm, chain[threads - 1])) {
        vm->generation++;
        vm->orphan = NULL;
    }
    while (threads > 0) {
        if (!write_thread(&w, chain[--threads])) {
            *truncated = 1;
            break;
        }
    }
    return w.count;
}
