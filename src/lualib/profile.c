/* SPDX-License-Identifier: MIT
 *
 * Profile handles. A state has one handle for each profile that it met, kept until the state is closed.
 *
 * Keys. The core knows an entry by a number that is never used twice. Which object has which number is kept
 * here, for each profile and state, in a table with weak keys: an entry does not keep its key alive, and when
 * the key is collected the number is lost, so the entry stays (it is a leak, which is what the profile is to
 * show) and a later object at the same address is another key. Strings and numbers are compared by value, as
 * table keys are.
 */
#include "lualib/lib.h"
#include "lualib/options.h"

#include <string.h>

typedef struct handle {
    const void *magic; /* &handle_magic */
    cprof_profile *profile;
    cprof_vm_state *state; /* NULL: not known, or detached since; then KEYS_REF's table is of no use */
    size_t columns;
    int keys_ref; /* registry: the table from key to number */
    bool defined; /* by new_profile in this state */
} handle;

/* Its address is the registry's key for the table of handles, by profile. */
static const char handles_key;

/* Its address tells handles from other userdata of their size: quicker than comparing metatables, as often as
 * add runs. */
static const char handle_magic;

static handle *check_handle(lua_State *L)
{
    handle *h = lua_touserdata(L, 1);
    if (h && cprof__lua_rawlen(L, 1) == sizeof *h && h->magic == &handle_magic) {
        return h;
    }
    return luaL_checkudata(L, 1, CPROF__PROFILE_TYPE); /* for its message */
}

/* ---- Handles ---- */

static void push_handles(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&handles_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static void push_keys_table(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
}

/* Pushes the state's handle of PROFILE. */
static handle *push_handle(lua_State *L, cprof_profile *profile)
{
    const cprof_value_type *types;
    push_handles(L);
    lua_pushlightuserdata(L, profile);
    lua_rawget(L, -2);
    handle *h = lua_touserdata(L, -1);
    if (!h) {
        lua_pop(L, 1);
        h = lua_newuserdata(L, sizeof *h);
        *h = (handle){&handle_magic, profile, NULL, cprof_profile_sample_types(profile, &types),
                      LUA_NOREF,     false};
        luaL_getmetatable(L, CPROF__PROFILE_TYPE);
        lua_setmetatable(L, -2);
        lua_pushboolean(L, 0);
        h->keys_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_pushlightuserdata(L, profile);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    }
    lua_remove(L, -2);
    return h;
}

/* Called when the state was detached: numbers mean nothing any more, and start anew where it is attached
 * again. */
static int forget_states(lua_State *L)
{
    push_handles(L);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        ((handle *)lua_touserdata(L, -1))->state = NULL;
        lua_pop(L, 1);
    }
    return 0;
}

/* Finds the state of H, which begins with no keys; false where L is not attached. */
static bool find_state(lua_State *L, handle *h)
{
    cprof_vm_state *state = cprof_lua_state(L);
    if (state) {
        push_keys_table(L);
        lua_rawseti(L, LUA_REGISTRYINDEX, h->keys_ref);
        h->state = state;
    }
    return state != NULL;
}

static cprof_vm_state *check_state(lua_State *L, handle *h)
{
    if (!h->state && !find_state(L, h)) {
        luaL_error(L, "cprof: this Lua state is closing or was detached");
    }
    return h->state;
}

/* ---- new_profile, lookup, profiles ---- */

/* Reads {{"type", "unit"}, …} on top of the stack, option of argument 2, into TYPES. Returns: how many. */
static size_t read_sample_types(lua_State *L, cprof_value_type *types)
{
    static const char shape[] = "a list of one to four {type, unit} pairs";
    size_t count = lua_istable(L, -1) ? cprof__lua_rawlen(L, -1) : 0;
    if (count < 1 || count > CPROF_SAMPLE_TYPES_MAX) {
        cprof__options_error(L, 2, "sample_types", shape);
    }
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (!lua_istable(L, -1)) {
            cprof__options_error(L, 2, "sample_types", shape);
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        if (lua_type(L, -1) != LUA_TSTRING || lua_type(L, -2) != LUA_TSTRING) {
            cprof__options_error(L, 2, "sample_types", shape);
        }
        types[i] = (cprof_value_type){lua_tostring(L, -2), lua_tostring(L, -1)};
        lua_pop(L, 3); /* the table on the stack keeps the strings */
    }
    return count;
}

static bool same_types(const cprof_profile *profile, const cprof_profile_options *wanted)
{
    cprof_value_type usual = {cprof_profile_name(profile), "count"};
    const cprof_value_type *types, *expected = wanted->sample_types ? wanted->sample_types : &usual;
    size_t count = wanted->sample_types ? wanted->sample_type_count : 1;
    bool same = cprof_profile_sample_types(profile, &types) == count;
    for (size_t i = 0; same && i < count; i++) {
        same = strcmp(types[i].type, expected[i].type) == 0 && strcmp(types[i].unit, expected[i].unit) == 0;
    }
    return same;
}

int cprof__profile_new(lua_State *L)
{
    static const char *const names[] = {"sample_types", NULL};
    const char *name = cprof__arg_text(L, 1);
    cprof_value_type types[CPROF_SAMPLE_TYPES_MAX];
    cprof_profile_options options = CPROF_PROFILE_OPTIONS_INIT;
    lua_settop(L, 2);
    if (cprof__options_check(L, 2, names) && cprof__options_get(L, 2, "sample_types") != LUA_TNIL) {
        options.sample_types = types;
        options.sample_type_count = read_sample_types(L, types);
    }
    cprof_profile *profile;
    int status = cprof_profile_new(name, &options, &profile);
    if (status == CPROF_EEXIST) {
        profile = cprof_lookup(name);
        if (!same_types(profile, &options)) {
            return luaL_argerror(L, 1,
                                 lua_pushfstring(L, "profile '%s' exists with other sample types", name));
        }
    } else if (status != 0) {
        return luaL_argerror(L, 1, cprof_last_error());
    }
    handle *h = push_handle(L, profile);
    if (h->defined) {
        return luaL_argerror(L, 1, lua_pushfstring(L, "profile '%s' is defined already", name));
    }
    h->defined = true;
    return 1;
}

int cprof__profile_lookup(lua_State *L)
{
    cprof_profile *profile = cprof_lookup(cprof__arg_text(L, 1));
    if (profile) {
        push_handle(L, profile);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

int cprof__profile_list(lua_State *L)
{
    size_t count;
    void **box = cprof__push_box(L); /* filling the table may raise */
    if (cprof_profiles((cprof_profile ***)box, &count) != 0) {
        return luaL_error(L, "%s", cprof_last_error());
    }
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_handle(L, ((cprof_profile **)*box)[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* ---- Methods ---- */

/* Pushes the table of H's keys and the number that the key at argument 2 has in it, or nil. */
static void push_number(lua_State *L, const handle *h)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->keys_ref);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
}

static void check_key(lua_State *L)
{
    luaL_argcheck(L, !lua_isnoneornil(L, 2), 2, "key is nil");
    if (lua_type(L, 2) == LUA_TNUMBER) {
        luaL_argcheck(L, lua_rawequal(L, 2, 2), 2, "key is NaN");
    }
}

static int profile_add(lua_State *L)
{
    handle *h = check_handle(L);
    int64_t values[CPROF_SAMPLE_TYPES_MAX];
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    check_key(L);
    /* add(key, 2, {labels = set}) is an easy mistake; its labels must not get lost in silence. */
    luaL_argcheck(L, lua_isnoneornil(L, 4), 4, "skip and other options go together in one table");
    if (!lua_isnoneornil(L, 3)) {
        cprof__entry_options(L, 3, h->columns, false, &options, values);
    }
    cprof_vm_state *state = check_state(L, h);
    push_number(L, h);
    luaL_argcheck(L, lua_isnil(L, -1), 2, "key has an entry already");
    lua_pop(L, 1);
    /* The number is stored first: what can raise comes before anything changes in the core. */
    uint64_t key = cprof_vm_next_key(state);
    lua_pushvalue(L, 2);
    lua_pushnumber(L, (lua_Number)key);
    lua_rawset(L, -3);
    if (cprof_vm_add(state, L, h->profile, key, &options) != 0) {
        lua_pushvalue(L, 2);
        lua_pushnil(L);
        lua_rawset(L, -3);
        return luaL_error(L, "%s", cprof_last_error());
    }
    return 0;
}

static int profile_remove(lua_State *L)
{
    const handle *h = check_handle(L);
    bool removed = false;
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (h->state && !lua_isnil(L, 2)) {
        push_number(L, h);
        if (!lua_isnil(L, -1)) {
            removed = cprof_vm_remove(h->state, h->profile, (uint64_t)lua_tonumber(L, -1)) == 0;
            lua_pushvalue(L, 2);
            lua_pushnil(L);
            lua_rawset(L, 3);
        }
    }
    lua_pushboolean(L, removed);
    return 1;
}

static int profile_record(lua_State *L)
{
    handle *h = check_handle(L);
    int64_t values[CPROF_SAMPLE_TYPES_MAX];
    cprof_entry_options options = CPROF_ENTRY_OPTIONS_INIT;
    int last = lua_gettop(L);
    bool has_options = last > 1 && lua_type(L, last) != LUA_TNUMBER;
    size_t count = (size_t)(last - 1 - (has_options ? 1 : 0));
    for (size_t i = 0; i < count && i < h->columns; i++) {
        int arg = (int)i + 2;
        luaL_argcheck(L, !lua_istable(L, arg), arg, "options come after the values");
        luaL_argcheck(L, cprof__lua_tointeger(L, arg, &values[i]), arg, "integer expected");
    }
    if (count > h->columns) {
        return luaL_argerror(L, (int)h->columns + 2,
                             lua_pushfstring(L, "%d values for %d column%s", (int)count, (int)h->columns,
                                             h->columns == 1 ? "" : "s"));
    }
    if (count > 0) {
        options.values = values;
        options.value_count = count;
    }
    if (has_options) {
        cprof__entry_options(L, last, h->columns, true, &options, NULL);
    }
    if (cprof_vm_record(check_state(L, h), L, h->profile, &options) != 0) {
        return luaL_error(L, "%s", cprof_last_error());
    }
    return 0;
}

static int profile_count(lua_State *L)
{
    cprof__lua_pushinteger(L, cprof_profile_count(check_handle(L)->profile));
    return 1;
}

static int profile_name(lua_State *L)
{
    lua_pushstring(L, cprof_profile_name(check_handle(L)->profile));
    return 1;
}

static int profile_snapshot(lua_State *L)
{
    const handle *h = check_handle(L);
    return cprof_profile_snapshot(h->profile, cprof__data_push(L)) == 0 ? 1 : cprof__push_failure(L);
}

static int profile_write(lua_State *L)
{
    return cprof__write(L, (cprof__source){check_handle(L)->profile, NULL});
}

static int profile_encode(lua_State *L)
{
    return cprof__encode(L, (cprof__source){check_handle(L)->profile, NULL});
}

static int profile_tostring(lua_State *L)
{
    lua_pushfstring(L, "cprof.profile: %s", cprof_profile_name(check_handle(L)->profile));
    return 1;
}

void cprof__profile_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"__tostring", profile_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"add", profile_add},     {"remove", profile_remove}, {"record", profile_record},
        {"count", profile_count}, {"name", profile_name},     {"snapshot", profile_snapshot},
        {"write", profile_write}, {"encode", profile_encode}, {NULL, NULL},
    };
    cprof__new_type(L, CPROF__PROFILE_TYPE, functions, methods);
    push_handles(L);
    if (lua_isnil(L, -1)) { /* else the module is being loaded again */
        lua_pushlightuserdata(L, (void *)&handles_key);
        lua_createtable(L, 0, 0);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 2);
    lua_pushcfunction(L, forget_states);
    lua_setfield(L, LUA_REGISTRYINDEX, CPROF__LUA_ON_DETACH);
}
