/* SPDX-License-Identifier: MIT
 *
 * Whether a LuaJIT thread has begun anew since its labels were set: OpenResty ends a request in the middle of a call
 * (ngx.exit yields for ever), resets the thread (lua_resetthread) and runs the next request in it, which nobody is
 * told. So the labels of with_labels depend on a mark in a slot of its frame on the thread's stack, which is then gone;
 * those of set_labels on the thread's outermost function: where it is another one, and a chunk, the thread began anew.
 * (Any other function may be one that the outermost made way for by a tail call.) So what set_labels left is taken for
 * the thread's where the same chunk runs once more, or has made way; README.md says so. PUC Lua tells as little, but
 * there a thread cannot be reset in the middle of a call before 5.4, which then ends with_labels.
 *
 * What is kept for a thread is a record: the number of its labels, and what they depend on. Threads: the one that
 * runs the state. Signals: unsafe.
 */
#ifndef CPROF_LUAVM_JITRESET_H
#define CPROF_LUAVM_JITRESET_H

#include "luavm/labels.h"

/* A whole number, as a Lua number can hold: the labels' number, and above it what they depend on. */
typedef lua_Number cprof__labels_record;

#define CPROF__LABELS_NO_RECORD ((cprof__labels_record)-1)

/* What labels depend on: nothing, the outermost function, or (from 2 on) the slot of the stack that has the mark. */
#define CPROF__LABELS_ON_NOTHING 0
#define CPROF__LABELS_ON_OUTERMOST 1

static inline cprof__labels_record cprof__labels_record_make(uint32_t number, uint64_t depend)
{
    return (cprof__labels_record)(depend << CPROF__LUA_LABELS_BITS | number);
}

static inline uint32_t cprof__labels_record_number(cprof__labels_record record)
{
    return record < 0 ? CPROF__LUA_LABELS_UNTOLD
                      : (uint32_t)((uint64_t)record & ((UINT64_C(1) << CPROF__LUA_LABELS_BITS) - 1));
}

static inline uint64_t cprof__labels_record_depends(cprof__labels_record record)
{
    return record < 0 ? CPROF__LABELS_ON_NOTHING : (uint64_t)record >> CPROF__LUA_LABELS_BITS;
}

#if LUA_VERSION_NUM == 501

/* Whether L began anew since RECORD was made. Needs four free slots on L. Allocates nothing. */
bool cprof__labels_began_anew(const cprof__luavm *vm, lua_State *L, cprof__labels_record record);

/* What labels that are set for L now depend on, where OLD is the record it has. Needs four free slots on L; may
 * raise where memory runs out. */
uint64_t cprof__labels_depend(cprof__luavm *vm, lua_State *L, cprof__labels_record old);

/* Pushes the mark, as the first result of the C function that runs on L and that a Lua function called for a local
 * variable. Returns: where the mark will be; CPROF__LABELS_ON_NOTHING where that is not known. */
uint64_t cprof__labels_push_mark(const cprof__luavm *vm, lua_State *L);

#else

static inline bool cprof__labels_began_anew(const cprof__luavm *vm, lua_State *L, cprof__labels_record record)
{
    (void)vm, (void)L, (void)record;
    return false;
}

static inline uint64_t cprof__labels_depend(cprof__luavm *vm, lua_State *L, cprof__labels_record old)
{
    (void)vm, (void)L, (void)old;
    return CPROF__LABELS_ON_NOTHING;
}

#endif

#endif
