/* SPDX-License-Identifier: MIT
 *
 * Walks Lua stacks: by the VM's own records where they are known to be read right (levels.h), which tells
 * which function is where, and by the debug API for all that was not met before. Nothing here runs Lua code
 * or allocates in the Lua state: the core calls it from the middle of an add.
 */
#include "luavm/walk.h"

#include "luavm/functions.h"
#include "luavm/heap.h"
#include "luavm/levels.h"
#include "luavm/names.h"
#include "luavm/threads.h"

/* Functions are popped in batches. Besides them, looking for a name pushes some values. */
#define BATCH 10
#define SLOTS (BATCH + 8)

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
    const void *closure = lua_topointer(L, -1);
    if (!closure) {
        return write_tail_calls(w);
    }
    if (w->count == w->max) {
        return false;
    }
    int line = ar->currentline;
    cprof__lua_function *function = cprof__lua_function_find(w->vm, L, ar, closure);
    if (function->line != line) {
        function->line = line;
        function->address = cprof_vm_function_address(function->function, line);
    }
    cprof_vm_frame *frame = &w->frames[w->count++];
    frame->address = function->address;
    frame->entry = function->entry;
    frame->flags = function->flags;
    w->after_tail_call = false;
    return !cprof__lua_tail_called(ar) || write_tail_calls(w);
}

/* All by the debug API; one unknown frame where L's stack can grow no more. Returns whether all of L's frames
 * found room. */
static bool ask_thread(writer *w, lua_State *L)
{
    lua_Debug ar;
    if (!cprof__lua_room(L, SLOTS)) {
        if (w->count < w->max) {
            w->frames[w->count++] = (cprof_vm_frame){.address = cprof_vm_function_address(w->vm->unknown, 0)};
            return true;
        }
        return false;
    }
    int top = lua_gettop(L), pushed = 0;
    bool room = true;
    for (int level = 0; room && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, CPROF__LUA_WALK, &ar);
        room = write_frame(w, L, &ar);
        if (++pushed == BATCH) {
            lua_settop(L, top);
            pushed = 0;
        }
    }
    lua_settop(L, top);
    return room;
}

/* The frame of LEVEL by the debug API; what it tells is remembered where the place is known. Needs SLOTS free
 * slots. */
static bool ask_level(writer *w, lua_State *L, const cprof__level *level)
{
    lua_Debug ar;
    if (w->count == w->max) {
        return false;
    }
    if (!lua_getstack(L, level->number, &ar)) {
        return true;
    }
    lua_getinfo(L, "fl", &ar);
    cprof__lua_function *function = cprof__lua_function_find(w->vm, L, &ar, level->closure);
    cprof__lua_place place = {.closure = level->closure,
                              .pc = level->pc,
                              .address = cprof_vm_function_address(function->function, ar.currentline),
                              .entry = function->entry,
                              .naming = function->naming,
                              .generation = w->vm->generation,
                              .flags = function->flags};
    lua_pop(L, 1);
    if (!level->is_lua || level->pc_known) {
        *cprof__lua_place_at(w->vm, level->closure, level->pc) = place;
    }
    w->frames[w->count++] = (cprof_vm_frame){place.address, place.entry, place.flags};
    return true;
}

/* The frame of LEVEL, as it was when its place was last met. */
static bool write_level(writer *w, lua_State *L, const cprof__level *level)
{
    const cprof__lua_place *place = cprof__lua_place_at(w->vm, level->closure, level->pc);
    if (place->closure != level->closure || place->pc != level->pc ||
        place->generation != w->vm->generation || (level->is_lua && !level->pc_known) ||
        (place->naming && cprof__naming_sighted(place->naming))) {
        return ask_level(w, L, level);
    }
    if (w->count == w->max) {
        return false;
    }
    w->frames[w->count++] = (cprof_vm_frame){place->address, place->entry, place->flags};
    return true;
}

/* Returns whether all of L's frames found room. */
static bool write_thread(writer *w, lua_State *L)
{
    cprof__level level;
    bool room = true;
    w->after_tail_call = false;
    /* Room is made before the first level is read: it may move LuaJIT's stack, where its levels lie. */
    if (!w->vm->places || !cprof__lua_room(L, SLOTS) || !w->vm->levels->first(L, &level)) {
        return ask_thread(w, L);
    }
    do {
        room = write_level(w, L, &level);
        w->after_tail_call = false;
        if (room && level.tail_calls) {
            room = write_tail_calls(w);
        }
    } while (room && w->vm->levels->next(&level));
    return room;
}

size_t cprof__lua_walk(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                       size_t frames_max, int *truncated)
{
    cprof__luavm *vm = state;
    lua_State *chain[CPROF__CHAIN_MAX];
    writer w = {vm, frames, 0, frames_max, false};
    size_t threads = cprof__lua_chain(vm, running, native, chain);
    vm->walked = threads > 0 ? chain[threads - 1] : NULL;
    if (threads > 0 && cprof__lua_room(chain[threads - 1], 4)) {
        cprof__luavm_follow_collector(vm, chain[threads - 1]);
        cprof__lua_heap_follow(vm, chain[threads - 1]);
    }
    while (threads > 0) {
        if (!write_thread(&w, chain[--threads])) {
            *truncated = 1;
            break;
        }
    }
    return w.count;
}
