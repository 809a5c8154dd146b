/* SPDX-License-Identifier: MIT
 *
 * What the preloaded library exports: functions of the C library and of Lua that the program calls and that come here
 * first. Each does its part and goes on to the real one.
 */
#ifndef CPROF_PRELOAD_INTERPOSE_H
#define CPROF_PRELOAD_INTERPOSE_H

#include "cprof_lua.h"

#include <stddef.h>

/* Ends without hooks; written before. Signals: safe, as theirs. Source: _exit(2) */
CPROF_API void _exit(int status) __attribute__((noreturn));
CPROF_API void _Exit(int status) __attribute__((noreturn));

/* The main thread's may leave cprof's threads alone in the process, which then ends. Source: pthread_exit(3) */
CPROF_API void pthread_exit(void *value) __attribute__((noreturn));

/* The C library's calls an _exit that does not come here. Source: daemon(3) */
CPROF_API int daemon(int keep_folder, int keep_files);

/* Become another program: what was recorded is written before. Source: exec(3), execve(2), fexecve(3), execveat(2) */
CPROF_API int execve(const char *path, char *const argv[], char *const environment[]);
CPROF_API int execv(const char *path, char *const argv[]);
CPROF_API int execvp(const char *file, char *const argv[]);
CPROF_API int execvpe(const char *file, char *const argv[], char *const environment[]);
CPROF_API int execl(const char *path, const char *argument, ...);
CPROF_API int execlp(const char *file, const char *argument, ...);
CPROF_API int execle(const char *path, const char *argument, ...);
CPROF_API int fexecve(int fd, char *const argv[], char *const environment[]);
CPROF_API int execveat(int folder, const char *path, char *const argv[], char *const environment[],
                       int flags);

/* What is to be done with a signal, as the program sees it (ending.h). Signals: safe, as theirs.
 * Source: sigaction(2), signal(2) */
struct sigaction;
typedef void (*cprof__signal_handler)(int);
CPROF_API int sigaction(int number, const struct sigaction *action, struct sigaction *old);
CPROF_API cprof__signal_handler signal(int number, cprof__signal_handler handler);

/* lua_Alloc of lua.h. */
typedef void *(*cprof__lua_alloc)(void *context, void *block, size_t old_size, size_t new_size);

/* Make a state, which is then attached. SEED came with 5.5; older ones do not look at it. Source: the manual of Lua */
CPROF_API lua_State *luaL_newstate(void);
CPROF_API lua_State *lua_newstate(cprof__lua_alloc allocator, void *context, unsigned seed);

/* What the interpreters run before the script (lua_CFunction): sets the environment back, and attaches the state. */
CPROF_API int cprof__lua_init(lua_State *L);

#endif
