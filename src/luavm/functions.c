/* SPDX-License-Identifier: MIT
 *
 * See functions.h.
 */
#include "luavm/functions.h"

#include "base/alloc.h"
#include "base/map.h"
#include "luavm/distinguish.h"
#include "luavm/names.h"

#include <string.h>

#define CACHE_SIZE_FIRST 256
#define CACHE_SIZE_MAX 8192

void cprof__lua_functions_init(cprof__luavm *vm)
{
    vm->cache = cprof__calloc(CACHE_SIZE_FIRST, sizeof *vm->cache);
    vm->cache_size = vm->cache ? CACHE_SIZE_FIRST : 0;
    vm->cache_evictions = 0;
    vm->places = vm->levels ? cprof__calloc(CPROF__LUA_PLACES, sizeof *vm->places) : NULL;
}

void cprof__lua_functions_fini(cprof__luavm *vm)
{
    cprof__free(vm->places);
    vm->places = NULL;
    cprof__free(vm->cache);
    vm->cache = NULL;
    vm->cache_size = 0;
}

/* A cache that evicts as often as it has slots is too small for the program. */
static void grow(cprof__luavm *vm)
{
    uint32_t size = vm->cache_size * 2;
    vm->cache_evictions = 0;
    if (size == 0 || size > CACHE_SIZE_MAX) {
        return;
    }
    cprof__lua_function *cache = cprof__calloc(size, sizeof *cache);
    if (cache) {
        cprof__free(vm->cache);
        vm->cache = cache;
        vm->cache_size = size;
    }
}

/* ---- Lua functions ---- */

/* The file of a chunk as Lua names chunks: "@blob.lua" and "=stdin" give what follows; any other source is
 * the program's text itself, which is shown shortened and told apart by its hash. */
static void describe(lua_State *L, const lua_Debug *ar, cprof_vm_function_key *key)
{
    bool named = *ar->source == '@' || *ar->source == '=';
    /* Stripped functions have no source in PUC Lua, and no lines in LuaJIT. */
    bool stripped = strcmp(ar->source, "=?") == 0 || (*ar->what == 'L' && ar->linedefined <= 0);
    key->source = named ? ar->source + 1 : ar->short_src;
    key->source_length = strlen(key->source);
    key->line_first = ar->linedefined;
    /* A main chunk's last line is 0 in PUC Lua and the last line's number in LuaJIT. */
    key->line_last = ar->linedefined > 0 ? ar->lastlinedefined : -1;
    key->distinguisher = named ? 0 : cprof__hash_bytes(1, ar->source, strlen(ar->source));
    key->identity = NULL;
    if (stripped || (ar->linedefined > 0 && ar->linedefined == ar->lastlinedefined)) {
        key->distinguisher = cprof__hash_word(key->distinguisher, cprof__lua_distinguish(L));
    }
}

static void resolve_lua(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found)
{
    cprof_vm_function_key key;
    describe(L, ar, &key);
    if (cprof_vm_function_intern(&key, NULL, &found->function) != 0) {
        found->function = vm->unknown;
        return;
    }
    found->naming = cprof__naming_find(vm, found->function);
    cprof__naming_lua(vm, L, ar, found);
}

/* ---- C functions ---- */

/* What coroutine.wrap returns is in no table; it is known by its C function and the thread that it holds. */
static bool is_wrap(const cprof__luavm *vm, lua_State *L, uint64_t entry)
{
    if (entry != vm->wrap_entry || !lua_getupvalue(L, -1, 1)) {
        return false;
    }
    bool is_thread = lua_isthread(L, -1);
    lua_pop(L, 1);
    return is_thread;
}

static void resolve_c(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found)
{
    found->entry = (uint64_t)(uintptr_t)lua_tocfunction(L, -1);
    if (is_wrap(vm, L, found->entry)) {
        cprof__naming_wrap(vm, found);
        return;
    }
    /* Closures of one C function share what is found of it. LuaJIT's own assembler functions have no entry;
     * they live as long as their state, so the value stands for them. */
    const void *identity = found->entry ? (const void *)(uintptr_t)found->entry : found->closure;
    found->naming = cprof__naming_find(vm, identity);
    cprof__naming_c(vm, L, ar, found);
}

cprof__lua_function *cprof__lua_function_resolve(cprof__luavm *vm, lua_State *L, lua_Debug *ar,
                                                 const void *closure)
{
    cprof__lua_function *found = &vm->uncached;
    if (vm->cache_size) {
        found = &vm->cache[cprof__lua_function_slot(vm, closure)];
        bool current = found->closure && found->generation == vm->generation;
        if (current && found->closure == closure && !cprof__naming_sighted(found->naming)) {
            return found;
        }
        if (current && found->closure != closure && ++vm->cache_evictions > vm->cache_size) {
            grow(vm);
            found = &vm->cache[cprof__lua_function_slot(vm, closure)];
        }
    }
    lua_getinfo(L, "S", ar);
    *found = (cprof__lua_function){.closure = closure, .generation = vm->generation, .function = vm->unknown};
    if (*ar->what == 'C') {
        resolve_c(vm, L, ar, found);
    } else {
        resolve_lua(vm, L, ar, found);
    }
    found->address = cprof_vm_function_address(found->function, 0);
    return found;
}
