/* SPDX-License-Identifier: MIT
 *
 * Labels of Lua threads: they belong to the coroutine, and a new one has those of its creator.
 *
 * On PUC Lua a thread keeps the number of its set, tagged, in the count of its hook. While the hook's mask has no
 * LUA_MASKCOUNT, Lua itself never looks at the count, but copies it with the hook into each thread that the
 * thread creates: so it is inherited at the very moment, allocates nothing, and nothing is patched. Tagged counts
 * are negative, so that debug.sethook(debug.gethook()) of a host with another hook keeps them.
 *
 * A hook of the host's with a count takes that place. So a table in the registry, with weak keys, holds what was
 * set for a thread as well; it also serves LuaJIT, whose hooks are not a thread's, and whose threads may begin anew
 * (jitreset.h). A thread without either, which was created under such a hook, or on LuaJIT before the state's
 * first labels were set or by a host (labelsjit.c sees to the others), has the labels of the thread that resumed it.
 *
 * Threads: the one that runs the state. Signals: unsafe but for _decode.
 */
#ifndef CPROF_LUAVM_LABELS_H
#define CPROF_LUAVM_LABELS_H

#include "luavm/state.h"

/* The count of a hook that labels are kept in: 1, a tag in 14 bits, the number in 17. */
#define CPROF__LUA_LABELS_TAG UINT32_C(0x2e95)
#define CPROF__LUA_LABELS_BITS 17

/* No number: it is not told. */
#define CPROF__LUA_LABELS_UNTOLD UINT32_MAX

static inline int cprof__lua_labels_encode(uint32_t number)
{
    return (int)(UINT32_C(1) << 31 | CPROF__LUA_LABELS_TAG << CPROF__LUA_LABELS_BITS | number);
}

/* The number that a hook's MASK and COUNT hold on PUC Lua, or CPROF__LUA_LABELS_UNTOLD. Signals: safe. */
static inline uint32_t cprof__lua_labels_decode(int mask, int count)
{
    uint32_t bits = (uint32_t)count;
    bool tagged = bits >> CPROF__LUA_LABELS_BITS == (UINT32_C(1) << 14 | CPROF__LUA_LABELS_TAG);
    return tagged && !(mask & LUA_MASKCOUNT) ? bits & ((UINT32_C(1) << CPROF__LUA_LABELS_BITS) - 1)
                                             : CPROF__LUA_LABELS_UNTOLD;
}

/* The number of the labels of L; 0: none. Allocates nothing, runs no Lua code. */
uint32_t cprof__lua_labels_of(cprof__luavm *vm, lua_State *L);

/* Gives L the labels NUMBER. Needs five free slots on L; may raise where memory runs out, and then changed
 * nothing. */
void cprof__lua_labels_set(cprof__luavm *vm, lua_State *L, uint32_t number);

/* cprof_vm.labels */
const cprof_labels *cprof__lua_labels(void *state, void *running);

#endif
