/* SPDX-License-Identifier: MIT
 *
 * lua_resume as every Lua version has it. Hosts whose stacks are compared by name call lua_resume themselves: pprof
 * shows inlined functions too.
 */
#ifndef CPROF_TESTS_RESUME_H
#define CPROF_TESTS_RESUME_H

#include <lua.h>

static inline int resume(lua_State *thread, lua_State *from, int arguments)
{
#if LUA_VERSION_NUM >= 504
    int results;
    return lua_resume(thread, from, arguments, &results);
#elif LUA_VERSION_NUM >= 502
    return lua_resume(thread, from, arguments);
#else
    (void)from;
    return lua_resume(thread, arguments);
#endif
}

#endif
