/* SPDX-License-Identifier: MIT
 *
 * See labels.h.
 */
#include "luavm/labels.h"

#include "base/error.h"
#include "luavm/labelsjit.h"
#include "luavm/threads.h"

cprof__lua_hook *(*cprof__lua_armed)(lua_State *L);

/* ---- The count of the hook ---- */

static cprof__lua_hook host_hook(lua_State *L)
{
    const cprof__lua_hook *saved = cprof__lua_armed ? cprof__lua_armed(L) : NULL;
    return saved ? *saved : (cprof__lua_hook){lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
}

/* Leaves a hook with a count alone. Where there are no labels, the count is as if there had never been any. */
static void write_count(lua_State *L, uint32_t number)
{
    cprof__lua_hook *saved = cprof__lua_armed ? cprof__lua_armed(L) : NULL;
    cprof__lua_hook hook = host_hook(L);
    int count = number ? cprof__lua_labels_encode(number) : 0;
    if ((hook.mask & LUA_MASKCOUNT) || hook.count == count) {
        return;
    }
    if (saved) {
        saved->count = count;
    } else {
        lua_sethook(L, hook.hook, hook.mask, count);
    }
}

/* ---- The table ---- */

static uint32_t look_up(const cprof__luavm *vm, lua_State *L)
{
    if (!cprof__lua_room(L, 3)) {
        return CPROF__LUA_LABELS_UNTOLD;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->labels_ref);
    lua_pushthread(L);
    lua_rawget(L, -2);
    uint32_t number =
        lua_type(L, -1) == LUA_TNUMBER ? (uint32_t)lua_tonumber(L, -1) : CPROF__LUA_LABELS_UNTOLD;
    lua_pop(L, 2);
    return number;
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
        return look_up(vm, L);
    }
    cprof__lua_hook hook = host_hook(L);
    uint32_t number = cprof__lua_labels_decode(hook.mask, hook.count);
    if (number == CPROF__LUA_LABELS_UNTOLD) {
        number = look_up(vm, L);
    }
    /* Had its creator had labels, they would be there. */
    return number == CPROF__LUA_LABELS_UNTOLD && !(hook.mask & LUA_MASKCOUNT) ? 0 : number;
}

uint32_t cprof__lua_labels_of(cprof__luavm *vm, lua_State *L)
{
    if (!vm->labels_ref) {
        return 0;
    }
    vm->hooks_busy = 1;
    uint32_t number = told(vm, L);
    if (number == CPROF__LUA_LABELS_UNTOLD && L != vm->main) {
        lua_State *chain[CPROF__CHAIN_MAX];
        size_t count = cprof__lua_chain(vm, L, NULL, chain);
        while (number == CPROF__LUA_LABELS_UNTOLD && count > 0) {
            number = told(vm, chain[--count]);
        }
    }
    vm->hooks_busy = 0;
    return number == CPROF__LUA_LABELS_UNTOLD ? 0 : number;
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
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->labels_ref);
    lua_pushthread(L);
    lua_pushnumber(L, (lua_Number)number);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    if (!vm->is_jit) {
        vm->hooks_busy = 1;
        write_count(L, number);
        vm->hooks_busy = 0;
    }
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
