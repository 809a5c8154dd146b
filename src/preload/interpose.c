/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/interpose.h"

#include "preload/ending.h"
#include "preload/preload.h"
#include "preload/scribe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* NEXT(execvp)(…) is the C library's. */
#define NEXT(name) (*(__typeof__(&(name)))next_function(#name))

static void *next_function(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) /* the C library has had them all since 2.34 */
        abort();
    return function;
}

/* ---- Ends ---- */

void _exit(int status)
{
    cprof__ending_before_exit();
    for (;;)
        syscall(SYS_exit_group, status);
}

void _Exit(int status)
{
    _exit(status);
}

void pthread_exit(void *value)
{
    if (syscall(SYS_gettid) == getpid())
        cprof__scribe_orphan();
    NEXT(pthread_exit)(value);
    abort(); /* it does not return */
}

int daemon(int keep_folder, int keep_files)
{
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child > 0)
        _exit(0);
    if (setsid() < 0 || (!keep_folder && chdir("/") < 0))
        return -1;
    if (keep_files)
        return 0;
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        return -1;
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    return 0;
}

/* ---- Signals ---- */

int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return cprof__ending_sigaction(number, action, old);
}

cprof__signal_handler signal(int number, cprof__signal_handler handler)
{
    return cprof__ending_set_handler(number, handler);
}

/* ---- exec ---- */

/* A shell tries each folder of PATH: where no program lies, nothing ends. */
static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

/* The same for a FILE that is looked for in PATH; no allocation, for it may be the child of a fork that calls. */
static bool is_in_path(const char *file)
{
    char path[PATH_MAX];
    const char *folders = getenv("PATH"), *end;
    if (strchr(file, '/'))
        return is_program(file);
    for (const char *start = folders ? folders : "/bin:/usr/bin";; start = end + 1) {
        end = strchrnul(start, ':');
        size_t length = (size_t)(end - start);
        if (length + strlen(file) + 2 <= sizeof path) {
            memcpy(path, start, length);
            path[length] = '/';
            strcpy(path + length + 1, file);
            if (is_program(length ? path : file))
                return true;
        }
        if (!*end)
            return false;
    }
}

static int after(bool ended, int result)
{
    int saved = errno;
    if (ended)
        cprof__preload_resume();
    errno = saved;
    return result;
}

int execve(const char *path, char *const argv[], char *const environment[])
{
    bool ended = is_program(path) && cprof__ending_before_exec();
    return after(ended, (int)syscall(SYS_execve, path, argv, environment));
}

int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

int execvpe(const char *file, char *const argv[], char *const environment[])
{
    bool ended = is_in_path(file) && cprof__ending_before_exec();
    return after(ended, NEXT(execvpe)(file, argv, environment));
}

int execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

int fexecve(int fd, char *const argv[], char *const environment[])
{
    bool ended = fd >= 0 && cprof__ending_before_exec();
    return after(ended, NEXT(fexecve)(fd, argv, environment));
}

int execveat(int folder, const char *path, char *const argv[], char *const environment[], int flags)
{
    bool ended = cprof__ending_before_exec();
    return after(ended, (int)syscall(SYS_execveat, folder, path, argv, environment, flags));
}

/* ---- exec with the arguments as arguments ---- */

#define ARGUMENTS_MAX 1024 /* threads may have small stacks */

/* Copies the arguments from FIRST to the NULL into ARGV. Returns false where they are too many. */
static bool gather(const char *first, va_list *list, char **argv)
{
    int count = 0;
    for (const char *argument = first; argument; argument = va_arg(*list, const char *)) {
        if (count == ARGUMENTS_MAX - 1) {
            errno = E2BIG;
            return false;
        }
        argv[count++] = (char *)argument;
    }
    argv[count] = NULL;
    return true;
}

int execl(const char *path, const char *argument, ...)
{
    char *argv[ARGUMENTS_MAX];
    va_list list;
    va_start(list, argument);
    bool whole = gather(argument, &list, argv);
    va_end(list);
    return whole ? execve(path, argv, environ) : -1;
}

int execlp(const char *file, const char *argument, ...)
{
    char *argv[ARGUMENTS_MAX];
    va_list list;
    va_start(list, argument);
    bool whole = gather(argument, &list, argv);
    va_end(list);
    return whole ? execvpe(file, argv, environ) : -1;
}

int execle(const char *path, const char *argument, ...)
{
    char *argv[ARGUMENTS_MAX];
    va_list list;
    va_start(list, argument);
    bool whole = gather(argument, &list, argv);
    char **environment = whole ? va_arg(list, char **) : NULL;
    va_end(list);
    return whole ? execve(path, argv, environment) : -1;
}
