/* SPDX-License-Identifier: MIT
 *
 * Reading arguments: option tables, whole numbers, text without zeros. All raise at the caller's level,
 * naming the argument. Option tables are read raw: no metamethod runs.
 */
#ifndef CPROF_LUALIB_OPTIONS_H
#define CPROF_LUALIB_OPTIONS_H

#include "lualib/compat.h"

/* Raises unless argument ARG is nil, absent or a table with no other keys than NAMES (ends with NULL).
 * Returns whether it is a table. */
bool cprof__options_check(lua_State *L, int arg, const char *const *names);

/* Pushes option NAME of the table ARG; returns its type. */
int cprof__options_get(lua_State *L, int arg, const char *name);

/* Raises: option NAME of argument ARG must be WHAT. */
int cprof__options_error(lua_State *L, int arg, const char *name, const char *what);

/* Option NAME as an integer from LOW to HIGH, or FALLBACK where it is nil. */
int64_t cprof__options_integer(lua_State *L, int arg, const char *name, int64_t low, int64_t high,
                               int64_t fallback);

/* Option NAME as a boolean, or FALLBACK where it is nil. */
bool cprof__options_boolean(lua_State *L, int arg, const char *name, bool fallback);

/* The string at argument ARG; raises where it is none or has a zero in it. */
const char *cprof__arg_text(lua_State *L, int arg);

/* Pushes nil, the text and the name of the last error; returns 3. For what the world, not the program, did
 * wrong. */
int cprof__push_failure(lua_State *L);

#endif
