/* SPDX-License-Identifier: MIT
 *
 * What the files of cprof.core share. Each handle type is a file: profile, labels, data, recording; all are full
 * userdata with a metatable in the registry under the type's name.
 */
#ifndef CPROF_LUALIB_LIB_H
#define CPROF_LUALIB_LIB_H

#include "cprof_lua.h"
#include "cprof_vm.h"
#include "lualib/compat.h"

#define CPROF__LABELS_TYPE "cprof.labels"
#define CPROF__PROFILE_TYPE "cprof.profile"
#define CPROF__DATA_TYPE "cprof.data"
#define CPROF__RECORDING_TYPE "cprof.recording"

/* Make the types of one file known; each leaves the stack as it was. */
void cprof__labels_open(lua_State *L);
void cprof__profile_open(lua_State *L);
void cprof__data_open(lua_State *L);
void cprof__recording_open(lua_State *L);

/* Pushes a new metatable named TYPE with FUNCTIONS in it and, as its __index, a table of METHODS (NULL:
 * none). */
void cprof__new_type(lua_State *L, const char *type, const luaL_Reg *functions, const luaL_Reg *methods);

/* cprof.labels and set_labels */
int cprof__labels_new(lua_State *L);
int cprof__labels_set(lua_State *L);

/* Pushes with_labels (with51.c, with52.c, with54.c), leaving what it needs in the registry. */
void cprof__push_with_labels(lua_State *L);

/* Reads labels, or a table of them, at index ARG into *SET. Returns NULL, or what is wrong with the argument. */
const char *cprof__labels_read(lua_State *L, int arg, const cprof_labels **set);

/* Begins with_labels(set, fn, …), whose arguments are on the stack: joins the set to the running coroutine's
 * labels, of which *OLD gets those from before. Returns NULL, or what is wrong with argument *ARG; then nothing
 * changed. */
const char *cprof__labels_enter(lua_State *L, const cprof_labels **old, int *arg);

/* Functions of the module that make profile handles. */
int cprof__profile_new(lua_State *L);
int cprof__profile_lookup(lua_State *L);
int cprof__profile_list(lua_State *L);

/* cprof.start_cpu_profile */
int cprof__recording_start(lua_State *L);

/* cprof.set_mem_profile_rate, mem_profile_rate and set_native_heap */
int cprof__heap_rate_get(lua_State *L);
int cprof__heap_rate_set(lua_State *L);
int cprof__heap_native_set(lua_State *L);

/* Pushes data for SNAPSHOT, which it owns from now on: *BOX is where to put it. */
cprof_snapshot **cprof__data_push(lua_State *L);

/* Pushes a box for memory that cprof_free frees when the box is collected. */
void **cprof__push_box(lua_State *L);

/* Pushes the list of COUNT sample types as new_profile takes it. */
void cprof__push_sample_types(lua_State *L, const cprof_value_type *types, size_t count);

/* Pushes a table with the labels of SET. */
void cprof__push_labels(lua_State *L, const cprof_labels *set);

/* What can be written: a profile, or data. */
typedef struct cprof__source {
    cprof_profile *profile;
    const cprof_snapshot *snapshot; /* where PROFILE is NULL */
} cprof__source;

/* source:write(target [, options]) and source:encode([options]), arguments from index 2 on. */
int cprof__write(lua_State *L, cprof__source source);
int cprof__encode(lua_State *L, cprof__source source);

/* Reads the entry options from argument ARG (nil, a skip, or a table) for a profile of COLUMNS columns;
 * *VALUES gets room for them. Where EVENT, a plain skip and the option `values` are not allowed. */
void cprof__entry_options(lua_State *L, int arg, size_t columns, bool event, cprof_entry_options *options,
                          int64_t values[CPROF_SAMPLE_TYPES_MAX]);

#endif
