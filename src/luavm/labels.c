/* SPDX-License-Identifier: MIT
 *
 * See labels.h.
 */
#include "luavm/labels.h"

#include "base/error.h"
#include "luavm/jitreset.h"
#include "luavm/labelsjit.h"
#include "luavm/pucsignal.h"
#include "luavm/threads.h"

/* ---- The count of the hook ---- */

/* Leaves a hook with a count alone. Where there are no labels, the count is as if there had never been any. Takes our
 * hook away, which whoever holds it off sets again where it is needed. */
static void write_count(lua_State *L, uint32_t number)
{
    cprof__host_hook host = cprof__puc_host_hook(L);
    int count = number ? cprof__lua_labels_encode(number) : 0;
    if (!(host.mask & LUA_MASKCOUNT) && host.count != count) {
        lua_sethook(L, host.hook, host.mask, count);
    }
}

/* ---- The table ---- */

static cprof__labels_record look_up(const cprof__luavm *vm, lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->labels_ref);
    lua_pushthread(L);
    lua_rawget(L, -2);
    lua_Number record = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : CPROF__LABELS_NO_RECORD;
    lua_pop(L, 2);
    return record;
}

/* Raises nothing where L has a record, or RECORD is none. */
static void put(const cprof__luavm *vm, lua_State *L, cprof__labels_record record)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->labels_ref);
    lua_pushthread(L);
    if (record == CPROF__LABELS_NO_RECORD) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, record);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* What was set for L, and is not from before L began anew. */
static cprof__labels_record record_of(const cprof__luavm *vm, lua_State *L)
{
    cprof__labels_record record = look_up(vm, L);
    if (record > 0 && cprof__labels_began_anew(vm, L, record)) {
        record = CPROF__LABELS_NO_RECORD;
        put(vm, L, record);
    }
    return record;
}

static void begin(cprof__luavm *vm, lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    vm->labels_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* ---- Both ---- */

/* What L itself has. */
static uint32_t told(cprof__luavm *vm, lua_State *L)
{
    if (vm->is_jit) {
        return cprof__lua_room(L, 4) ? cprof__labels_record_number(record_of(vm, L))
                                     : CPROF__LUA_LABELS_UNTOLD;
    }
    cprof__host_hook host = cprof__puc_host_hook(L);
    uint32_t number = cprof__lua_labels_decode(host.mask, host.count);
    if (number == CPROF__LUA_LABELS_UNTOLD && cprof__lua_room(L, 3)) {
        number = cprof__labels_record_number(look_up(vm, L));
    }
    /* Had its creator had labels, they would be there. */
    return number == CPROF__LUA_LABELS_UNTOLD && !(host.mask & LUA_MASKCOUNT) ? 0 : number;
}

uint32_t cprof__lua_labels_of(cprof__luavm *vm, lua_State *L)
{
    if (!vm->labels_ref) {
        return 0;
    }
    cprof__puc_hold_off(vm);
    uint32_t number = told(vm, L);
    if (number == CPROF__LUA_LABELS_UNTOLD && L != vm->main) {
        lua_State *chain[CPROF__CHAIN_MAX];
        size_t count = cprof__lua_chain(vm, L, NULL, chain);
        while (number == CPROF__LUA_LABELS_UNTOLD && count > 0) {
            number = told(vm, chain[--count]);
        }
    }
    cprof__puc_allow(vm, L);
    return number == CPROF__LUA_LABELS_UNTOLD ? 0 : number;
}

static void set_record(cprof__luavm *vm, lua_State *L, cprof__labels_record record)
{
    put(vm, L, record);
    if (!vm->is_jit) {
        cprof__puc_hold_off(vm);
        write_count(L, cprof__labels_record_number(record));
        cprof__puc_allow(vm, L);
    }
}

void cprof__lua_labels_set(cprof__luavm *vm, lua_State *L, uint32_t number)
{
    if (!vm->labels_ref) {
        if (!number) {
            return;
        }
        begin(vm, L);
    }
    if (vm->is_jit && vm->state && !vm->unwrap_ref) {
        cprof__lua_wrap_creation(vm, L);
    }
    cprof__labels_record old = vm->is_jit ? record_of(vm, L) : CPROF__LABELS_NO_RECORD;
    set_record(vm, L, cprof__labels_record_make(number, cprof__labels_depend(vm, L, old)));
}

const cprof_labels *cprof__lua_labels(void *state, void *running)
{
    cprof__luavm *vm = state;
    lua_State *L = running ? running : vm->walked;
    return vm->labels_ref && L ? cprof_vm_labels_get(cprof__lua_labels_of(vm, L)) : NULL;
}

/* ---- The calls of cprof_lua.h ---- */

const cprof_labels *cprof_lua_labels(lua_State *L)
{
    luaL_checkstack(L, 5, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    return vm ? cprof_vm_labels_get(cprof__lua_labels_of(vm, L)) : NULL;
}

int cprof_lua_set_labels(lua_State *L, const cprof_labels *set, const cprof_labels **old)
{
    luaL_checkstack(L, 5, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (!vm) {
        return cprof__fail(CPROF_ECLOSED, "labels: the Lua state was never attached");
    }
    const cprof_labels *before = old ? cprof_vm_labels_get(cprof__lua_labels_of(vm, L)) : NULL;
    cprof__lua_labels_set(vm, L, cprof_vm_labels_number(set));
    if (old) {
        *old = before;
    }
    return 0;
}

/* ---- For with_labels ---- */

double cprof__lua_labels_keep(lua_State *L)
{
    luaL_checkstack(L, 5, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm && vm->is_jit && vm->labels_ref) {
        return record_of(vm, L);
    }
    return vm && !vm->is_jit ? (double)cprof__lua_labels_of(vm, L) : CPROF__LABELS_NO_RECORD;
}

void cprof__lua_labels_give_back(lua_State *L, double kept)
{
    luaL_checkstack(L, 5, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (vm && vm->labels_ref) {
        set_record(vm, L, kept);
    }
}

#if LUA_VERSION_NUM == 501

void cprof__lua_labels_push_mark(lua_State *L)
{
    luaL_checkstack(L, 5, "cprof");
    cprof__luavm *vm = cprof__luavm_of(L);
    if (!vm || !vm->is_jit || !vm->labels_ref) {
        lua_pushnil(L);
        return;
    }
    uint32_t number = cprof__labels_record_number(look_up(vm, L));
    uint64_t mark = cprof__labels_push_mark(vm, L);
    if (mark != CPROF__LABELS_ON_NOTHING) {
        put(vm, L, cprof__labels_record_make(number, mark));
    }
}

#endif
