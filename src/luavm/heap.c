/* SPDX-License-Identifier: MIT
 *
 * See heap.h. Lua tells its allocator nothing of who asks; the core finds that out (cprof_vm_heap_sample).
 */
#include "luavm/heap.h"

#include "base/thread.h"
#include "luavm/state.h"

#include <string.h>

/* ---- What Lua says of new blocks ---- */

#if LUA_VERSION_NUM >= 502

/* From 5.2 on the old size of no block is the type of the object that it is for. */
#if LUA_VERSION_NUM >= 504
static const char *const type_names[] = {NULL,       NULL,       NULL,     NULL,      "string",   "table",
                                         "function", "userdata", "thread", "upvalue", "prototype"};
#else
static const char *const type_names[] = {NULL,    NULL,       NULL,       NULL,     "string",
                                         "table", "function", "userdata", "thread", "prototype"};
#endif
#define TYPES (sizeof type_names / sizeof type_names[0])

static const cprof_labels
    *type_labels[TYPES]; /* written when sampling is turned on: interned sets, always the same */

static void prepare_labels(void)
{
    for (size_t i = 0; i < TYPES; i++) {
        const cprof_label label = {"lua_type", type_names[i], 0, NULL};
        const cprof_labels *set;
        if (type_names[i] && !type_labels[i] && cprof_labels_intern(&label, 1, &set) == 0) {
            type_labels[i] = set;
        }
    }
}

static const cprof_labels *labels_of(size_t type)
{
    return type < TYPES ? type_labels[type] : NULL;
}

#else

static void prepare_labels(void)
{
}

static const cprof_labels *labels_of(size_t type)
{
    (void)type;
    return NULL;
}

#endif

/* ---- The allocator ---- */

static bool may_hold(const cprof__luaheap *h, const void *block)
{
    return h->places[cprof_vm_heap_place(block)] != 0;
}

static void *call(const cprof__luaheap *h, void *block, size_t old, size_t size)
{
    if (!*h->view->native) {
        return h->allocate(h->context, block, old, size);
    }
    cprof__thread_begin_quiet();
    void *result = h->allocate(h->context, block, old, size);
    cprof__thread_end_quiet();
    return result;
}

/* Resizes BLOCK and samples that: another one is taken, looked at, and filled. What asks may be a stack of the VM,
 * which can be read as long as the old block is there, and not once it has been moved. */
static inline __attribute__((always_inline)) void *resize_sampled(cprof__luavm *vm, void *block, size_t old,
                                                                  size_t size)
{
    cprof__luaheap *h = &vm->heap;
    void *result = call(h, NULL, 0, size);
    cprof_vm_heap_sample(vm->state, &h->count, result, size, NULL);
    if (!result) {
        return call(h, block, old, size); /* a block that shrinks must not fail */
    }
    memcpy(result, block, old < size ? old : size);
    call(h, block, old, 0);
    return result;
}

/* Whatever is to be done about a block: it was sampled, or is to be. */
static __attribute__((noinline)) void *allocate_slowly(cprof__luavm *vm, void *block, size_t old, size_t size)
{
    cprof__luaheap *h = &vm->heap;
    cprof_vm_heap_block kept;
    bool taken = block && may_hold(h, block) && cprof_vm_heap_take(block, &kept);
    bool due = h->count.left < 0;
    void *result = due && block && size ? resize_sampled(vm, block, old, size) : call(h, block, old, size);
    if (!result && size && taken) {
        cprof_vm_heap_put_back(block, &kept);
    }
    if (due && !block) {
        cprof_vm_heap_sample(vm->state, &h->count, result, size, labels_of(old));
    }
    h->native = *h->view->native != 0;
    return result;
}

/* The state's allocator while allocations are sampled: some instructions, then the one that was there before. */
static void *allocate(void *context, void *block, size_t old, size_t size)
{
    cprof__luavm *vm = context;
    cprof__luaheap *h = &vm->heap;
    h->count.left = (int64_t)((uint64_t)h->count.left - size);
    if (__builtin_expect(h->count.left < 0 || h->native || (block && may_hold(h, block)), 0)) {
        return allocate_slowly(vm, block, old, size);
    }
    return h->allocate(h->context, block, old, size);
}

/* ---- On and off ---- */

void cprof__lua_heap_give_back(cprof__luavm *vm, lua_State *L)
{
    cprof__luaheap *h = &vm->heap;
    void *context;
    /* Where the program has put another before ours, ours stays behind it, and does nothing but pass on. */
    if (h->on && lua_getallocf(L, &context) == allocate && context == vm) {
        lua_setallocf(L, h->allocate, h->context);
        h->on = false;
    }
}

void cprof__lua_heap_switch(cprof__luavm *vm, lua_State *L)
{
    cprof__luaheap *h = &vm->heap;
    void *context;
    h->view = cprof_vm_heap_look();
    bool wanted = *h->view->on != 0;
    h->native = *h->view->native != 0;
    if (h->epoch != *h->view->epoch) {
        h->epoch = *h->view->epoch;
        h->count = (cprof_vm_countdown){0};
    }
    if (!vm->state || h->on == wanted) {
        return;
    }
    if (!wanted) {
        cprof__lua_heap_give_back(vm, L);
        return;
    }
    prepare_labels();
    h->allocate = lua_getallocf(L, &context);
    h->context = context;
    h->places = h->view->places;
    h->on = true;
    lua_setallocf(L, allocate, vm);
}
