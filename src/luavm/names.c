/* SPDX-License-Identifier: MIT
 *
 * See names.h.
 */
#include "luavm/names.h"

#include "base/alloc.h"
#include "luavm/loaded.h"

#include <stdio.h>
#include <string.h>

/* After so many sightings what is known of a name has to do. */
#define SIGHTINGS_MAX 1024

/* An open-addressing table of pointers, so that a naming stays where it is when the table grows. */
typedef struct cprof__namings {
    cprof__naming **slots;
    uint32_t count, mask;
} cprof__namings;

static uint32_t slot_of(const cprof__namings *namings, const void *identity)
{
    uint64_t hash = ((uint64_t)(uintptr_t)identity >> 3) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t slot = (uint32_t)(hash >> 32) & namings->mask;
    while (namings->slots[slot] && namings->slots[slot]->identity != identity) {
        slot = (slot + 1) & namings->mask;
    }
    return slot;
}

/* Keeps at most half of the slots in use. */
static bool make_room(cprof__namings *namings)
{
    if (namings->slots && (namings->count + 1) * 2 <= namings->mask + 1) {
        return true;
    }
    cprof__namings grown = {NULL, namings->count, namings->slots ? namings->mask * 2 + 1 : 63};
    grown.slots = cprof__calloc((size_t)grown.mask + 1, sizeof(cprof__naming *));
    if (!grown.slots) {
        return false;
    }
    for (uint32_t i = 0; namings->slots && i <= namings->mask; i++) {
        if (namings->slots[i]) {
            grown.slots[slot_of(&grown, namings->slots[i]->identity)] = namings->slots[i];
        }
    }
    cprof__free(namings->slots);
    *namings = grown;
    return true;
}

cprof__naming *cprof__naming_find(cprof__luavm *vm, const void *identity)
{
    if (!vm->namings) {
        vm->namings = cprof__calloc(1, sizeof *vm->namings);
    }
    if (!vm->namings || !make_room(vm->namings)) {
        return NULL;
    }
    cprof__naming **slot = &vm->namings->slots[slot_of(vm->namings, identity)];
    if (!*slot) {
        *slot = cprof__calloc(1, sizeof **slot);
        if (*slot) {
            (*slot)->identity = identity;
            vm->namings->count++;
        }
    }
    return *slot;
}

void cprof__namings_fini(cprof__luavm *vm)
{
    cprof__namings *namings = vm->namings;
    vm->namings = NULL;
    for (uint32_t i = 0; namings && namings->slots && i <= namings->mask; i++) {
        cprof__free(namings->slots[i]);
    }
    if (namings) {
        cprof__free(namings->slots);
    }
    cprof__free(namings);
}

/* Whether to search now: at sightings 1, 2, 4 … of what is not settled. */
static bool time_to_search(cprof__naming *naming)
{
    uint32_t before = naming->sightings++;
    return !naming->settled && (before & naming->sightings) == 0;
}

/* FOUND keeps its naming only while another search may better the name. */
static void settle(cprof__lua_function *found, bool now)
{
    cprof__naming *naming = found->naming;
    naming->settled = naming->settled || now || naming->sightings >= SIGHTINGS_MAX;
    if (naming->settled) {
        found->naming = NULL;
    }
}

/* The name that the call site has for the function of AR, or NULL where it has none worth showing. */
static const char *call_site_name(lua_State *L, lua_Debug *ar, char *buffer, size_t size)
{
    static const char *const kinds[] = {"global", "method", "field", "local", "upvalue", "metamethod", NULL};
    lua_getinfo(L, "n", ar);
    if (!ar->name || !*ar->name || *ar->name == '?' || *ar->name == '(') {
        return NULL;
    }
    for (const char *const *kind = kinds; *kind; kind++) {
        if (strcmp(*kind, ar->namewhat) == 0) {
            /* 5.4 says "index" where 5.2 and 5.3 say "__index". */
            bool bare = strcmp(*kind, "metamethod") == 0 && *ar->name != '_';
            snprintf(buffer, size, "%s%s", bare ? "__" : "", ar->name);
            return buffer;
        }
    }
    return NULL;
}

/* A function by its place: "blob.lua:12", as LuaJIT's profiler writes it, or "blob.lua (main chunk)". Readers
 * drop what stands in angle brackets, as in Lua's own "function <blob.lua:12>": they take it for a C++
 * template's arguments. */
static void place_name(const lua_Debug *ar, char *name, size_t size)
{
    /* [string "…"] says enough; and in names with brackets readers drop parentheses. */
    bool text = *ar->short_src == '[';
    const char *slash = text ? NULL : strrchr(ar->short_src, '/');
    const char *file = slash ? slash + 1 : ar->short_src;
    if (*ar->what == 'm') {
        snprintf(name, size, "%s%s", file, text ? "" : " (main chunk)");
    } else {
        snprintf(name, size, "%s:%d", file, ar->linedefined);
    }
}

void cprof__naming_lua(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found)
{
    char name[CPROF__LUA_NAME_MAX];
    bool standard;
    if (!found->naming || !time_to_search(found->naming)) {
        if (found->naming) {
            settle(found, false);
        }
        return;
    }
    enum cprof_vm_name_rank rank = cprof_vm_function_named(found->function);
    if (rank < CPROF_VM_NAME_OWN) {
        if (*ar->what == 'm') {
            place_name(ar, name, sizeof name);
            cprof_vm_function_set_name(found->function, name, CPROF_VM_NAME_OWN);
        } else if (cprof__lua_loaded_name(vm, L, name, sizeof name, &standard)) {
            cprof_vm_function_set_name(found->function, name, CPROF_VM_NAME_OWN);
        } else if (rank < CPROF_VM_NAME_CALL && call_site_name(L, ar, name, sizeof name)) {
            cprof_vm_function_set_name(found->function, name, CPROF_VM_NAME_CALL);
        } else if (rank == CPROF_VM_NAME_NONE) {
            place_name(ar, name, sizeof name);
            cprof_vm_function_set_name(found->function, name, CPROF_VM_NAME_PLACE);
        }
        rank = cprof_vm_function_named(found->function);
    }
    settle(found, rank == CPROF_VM_NAME_OWN);
}

/* ---- C functions ---- */

/* The function that stands for a C function's frame where its native frame is not found. */
static const cprof_vm_function *intern_c(const cprof__luavm *vm, const char *name)
{
    const cprof_vm_function *function;
    cprof_vm_function_key key = {"[C]", 3, -1, -1, 0, name};
    return cprof_vm_function_intern(&key, name, &function) == 0 ? function : vm->unknown;
}

/* NAME is the C function's own. */
static void settle_c(const cprof__luavm *vm, cprof__naming *naming, uint64_t entry, const char *name,
                     bool standard)
{
    naming->function = intern_c(vm, name);
    naming->flags = standard ? CPROF_VM_RUNTIME : 0;
    naming->settled = true;
    if (entry) {
        cprof_vm_name_native(entry, name);
    }
}

/* Names the function that starts at ENTRY where it is known without a search. */
static bool settle_known(const cprof__luavm *vm, cprof__naming *naming, uint64_t entry)
{
    const char *name = NULL;
    if (entry && entry == vm->gmatch_entry) {
        name = "string.gmatch";
    } else if (entry && entry == vm->ipairs_entry) {
        name = "ipairs";
    }
    if (name && !naming->settled) {
        settle_c(vm, naming, entry, name, true);
    }
    return name != NULL;
}

void cprof__naming_c(cprof__luavm *vm, lua_State *L, lua_Debug *ar, cprof__lua_function *found)
{
    char name[CPROF__LUA_NAME_MAX];
    bool standard;
    cprof__naming *naming = found->naming;
    if (naming && !settle_known(vm, naming, found->entry) && time_to_search(naming) &&
        cprof__lua_loaded_name(vm, L, name, sizeof name, &standard)) {
        settle_c(vm, naming, found->entry, name, standard);
    }
    if (naming && naming->function) {
        found->function = naming->function;
        found->flags = naming->flags;
    } else {
        const char *called = call_site_name(L, ar, name, sizeof name);
        found->function = intern_c(vm, called ? called : "?");
    }
    if (naming) {
        settle(found, false);
    }
}

void cprof__naming_wrap(cprof__luavm *vm, cprof__lua_function *found)
{
    static const char name[] = "coroutine.wrap";
    found->function = intern_c(vm, name);
    found->flags = CPROF_VM_RUNTIME;
    if (found->entry) {
        cprof_vm_name_native(found->entry, name);
    }
}

void cprof__naming_entry(cprof__luavm *vm, lua_State *L, uint64_t entry, cprof_vm_frame *frame)
{
    char name[CPROF__LUA_NAME_MAX];
    bool standard;
    cprof__naming *naming = cprof__naming_find(vm, (const void *)(uintptr_t)entry);
    if (naming && !settle_known(vm, naming, entry) && time_to_search(naming) &&
        cprof__lua_loaded_entry(vm, L, entry, name, sizeof name, &standard)) {
        settle_c(vm, naming, entry, name, standard);
    }
    bool named = naming && naming->function;
    const cprof_vm_function *function = named ? naming->function : intern_c(vm, "?");
    *frame = (cprof_vm_frame){cprof_vm_function_address(function, 0), entry, named ? naming->flags : 0};
}

size_t cprof__naming_ended(cprof__luavm *vm, lua_State *L, uint64_t entry, bool lost, cprof_vm_frame *frames)
{
    const cprof_vm_function_key key = {"[Lua]", 5, -1, -1, 0, "(...ended calls...)"};
    const cprof_vm_function *function;
    size_t count = 0;
    if (entry) {
        cprof__naming_entry(vm, L, entry, &frames[count++]);
    }
    if (lost && cprof_vm_function_intern(&key, key.identity, &function) == 0) {
        frames[count++] = (cprof_vm_frame){.address = cprof_vm_function_address(function, 0)};
    }
    return count;
}
