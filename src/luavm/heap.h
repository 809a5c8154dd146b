/* SPDX-License-Identifier: MIT
 *
 * Samples what a Lua state allocates, by standing before its allocator (lua_setallocf). Threads: the one that runs the
 * state. Signals: unsafe.
 */
#ifndef CPROF_LUAVM_HEAP_H
#define CPROF_LUAVM_HEAP_H

#include "cprof_vm.h"

#include <lua.h>

#include <stdbool.h>

/* Of a state. */
typedef struct cprof__luaheap {
    lua_Alloc allocate; /* the state's own */
    void *context;
    cprof_vm_countdown count;
    const volatile uint8_t *places; /* of VIEW */
    const cprof_vm_heap_view *view;
    uint16_t epoch; /* of the rate that COUNT is of */
    bool native;    /* what it takes from malloc is not to be counted again, as of the last look */
    bool on;
} cprof__luaheap;

struct cprof__luavm;

/* Takes over the allocator of VM, which L belongs to, or gives it back, where sampling was turned on or off since the
 * last call. Quick where it was not. */
void cprof__lua_heap_switch(struct cprof__luavm *vm, lua_State *L);

#define cprof__lua_heap_follow(vm, L)                                                                        \
    do {                                                                                                     \
        const cprof_vm_heap_view *view_ = (vm)->heap.view;                                                   \
        if (!view_ || (vm)->heap.on != (*view_->on != 0) || (vm)->heap.native != (*view_->native != 0) ||    \
            (vm)->heap.epoch != *view_->epoch) {                                                             \
            cprof__lua_heap_switch(vm, L);                                                                   \
        }                                                                                                    \
    } while (0)

/* VM ends. */
void cprof__lua_heap_give_back(struct cprof__luavm *vm, lua_State *L);

#endif
