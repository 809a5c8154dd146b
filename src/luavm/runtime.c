/* SPDX-License-Identifier: MIT
 *
 * See runtime.h. The entry points are all that can run Lua code, a metamethod, the collector (and with it
 * finalizers) or the host's allocator: one list for what all versions have, one for what each has besides, as
 * the manuals give them. A name that is a macro in a version is left to the function that it calls. What a
 * release of 5.4 lacks is a weak reference: 0.
 */
#include "luavm/runtime.h"

#include "luavm/jitlayout.h"
#include "luavm/labels.h"
#include "luavm/pucsignal.h"
#include "luavm/walk.h"

#if LUA_VERSION_NUM >= 504
#pragma weak lua_closeslot
#endif

static const void *const entries[] = {
    (const void *)lua_checkstack,   (const void *)lua_close,         (const void *)lua_concat,
    (const void *)lua_createtable,  (const void *)lua_dump,          (const void *)lua_error,
    (const void *)lua_gc,           (const void *)lua_getfield,      (const void *)lua_gettable,
    (const void *)lua_load,         (const void *)lua_newthread,     (const void *)lua_next,
    (const void *)lua_pushcclosure, (const void *)lua_pushfstring,   (const void *)lua_pushlstring,
    (const void *)lua_pushstring,   (const void *)lua_pushvfstring,  (const void *)lua_rawset,
    (const void *)lua_rawseti,      (const void *)lua_resume,        (const void *)lua_setfield,
    (const void *)lua_settable,     (const void *)lua_tolstring,     (const void *)luaL_callmeta,
#if LUA_VERSION_NUM == 501
    (const void *)lua_call,         (const void *)lua_cpcall,        (const void *)lua_equal,
    (const void *)lua_lessthan,     (const void *)lua_pcall,
#else
    (const void *)lua_arith,        (const void *)lua_callk,        (const void *)lua_compare,
    (const void *)lua_getglobal,    (const void *)lua_len,          (const void *)lua_pcallk,
    (const void *)lua_rawsetp,      (const void *)lua_setglobal,    (const void *)luaL_len,
    (const void *)luaL_requiref,    (const void *)luaL_tolstring,
#endif
#if LUA_VERSION_NUM >= 503
    (const void *)lua_geti,         (const void *)lua_seti,
#endif
#if LUA_VERSION_NUM >= 504
    (const void *)lua_closeslot,    (const void *)lua_newuserdatauv, (const void *)lua_settop,
    (const void *)lua_toclose,
#else
    (const void *)lua_newuserdata,
#endif
};

#define ENTRY_COUNT (sizeof entries / sizeof entries[0])

static const char *const activities[] = {"gc", NULL};

const cprof_vm cprof__lua_vm = {
    .struct_size = sizeof cprof__lua_vm,
    .name = CPROF__LUA_NAME,
    .entry_points = entries,
    .entry_point_count = ENTRY_COUNT,
    .walk = cprof__lua_walk,
    .look = cprof__puc_look,
    .request = cprof__puc_request,
    .ended = cprof__puc_ended,
    .activities = activities,
    .labels = cprof__lua_labels,
};

static bool is_interpreter(uint64_t start)
{
#if LUA_VERSION_NUM == 501
    return start && start == cprof__jit.interpreter_start;
#else
    (void)start;
    return false;
#endif
}

bool cprof__lua_entered(const cprof_vm_native *native, size_t limit)
{
    for (size_t i = 0; i < limit; i++) {
        if (is_interpreter(native->starts[i])) {
            return true;
        }
        for (size_t k = 0; native->starts[i] && k < ENTRY_COUNT; k++) {
            if ((const void *)(uintptr_t)native->starts[i] == entries[k]) {
                return true;
            }
        }
    }
    return false;
}
