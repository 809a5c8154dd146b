/* SPDX-License-Identifier: MIT
 *
 * The module cprof.process, for the command: finds a program, says whether it can be recorded by preloading, and
 * becomes it. Plain Lua can do none of these. What fails returns nil and a message.
 */
#define _GNU_SOURCE
#include "lualib/compat.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fail(lua_State *L, const char *name, const char *text)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", name, text);
    return 2;
}

/* ---- find ---- */

/* Whether PATH is a file that may be run; errno says why not. */
static bool runs(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0 || access(path, X_OK) != 0)
        return false;
    if (S_ISREG(status.st_mode))
        return true;
    errno = S_ISDIR(status.st_mode) ? EISDIR : EACCES;
    return false;
}

/* Pushes FOLDER/NAME for the one part of PATH from START to END; an empty one is the current folder. */
static const char *push_candidate(lua_State *L, const char *start, const char *end, const char *name)
{
    lua_pushlstring(L, start, (size_t)(end - start));
    return lua_pushfstring(L, "%s/%s", end == start ? "." : lua_tostring(L, -1), name);
}

/* process.find(name): the path of a program, looked for as a shell does. Third result on failure: whether there is such
 * a file. */
static int find(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *path = getenv("PATH"), *end;
    bool there = false;
    if (strchr(name, '/')) {
        if (runs(name)) {
            lua_pushvalue(L, 1);
            return 1;
        }
        fail(L, name, strerror(errno));
        lua_pushboolean(L, errno != ENOENT && errno != ENOTDIR);
        return 3;
    }
    for (const char *start = path ? path : "/bin:/usr/bin"; *name; start = end + 1) {
        end = strchrnul(start, ':');
        if (runs(push_candidate(L, start, end, name)))
            return 1;
        there = there || errno == EACCES;
        lua_pop(L, 2);
        if (!*end)
            break;
    }
    fail(L, name, there ? strerror(EACCES) : "command not found");
    lua_pushboolean(L, there);
    return 3;
}

/* ---- check ---- */

/* What is looked at of a file: its head. Program headers stand right behind it in all that linkers write. */
#define HEAD_BYTES 4096

/* Whether this class of file is the one that this process is of; a library cannot be loaded into another. */
static const char *strange(const ElfW(Ehdr) * head, size_t size)
{
    static const ElfW(Half) machine =
#if defined(__x86_64__)
        EM_X86_64;
#elif defined(__aarch64__)
        EM_AARCH64;
#elif defined(__i386__)
        EM_386;
#elif defined(__riscv)
        EM_RISCV;
#else
        EM_NONE;
#endif
    if (size < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0)
        return "is no program (neither ELF nor a script with #!)";
    if (head->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
        return sizeof(void *) == 8 ? "is a 32-bit program; this cprof records 64-bit ones"
                                   : "is a 64-bit program; this cprof records 32-bit ones";
    if (machine != EM_NONE && head->e_machine != machine)
        return "is a program for another kind of machine";
    if (head->e_type != ET_EXEC && head->e_type != ET_DYN)
        return "is no program (an ELF file of another kind)";
    return NULL;
}

/* The loader that the program asks for; NULL where it asks for none, as static programs do. */
static const char *loader(const char *bytes, size_t size)
{
    const ElfW(Ehdr) *head = (const void *)bytes;
    for (size_t i = 0; i < head->e_phnum; i++) {
        ElfW(Phdr) segment;
        size_t at = head->e_phoff + i * sizeof segment;
        if (at > size || size - at < sizeof segment)
            return NULL;
        memcpy(&segment, bytes + at, sizeof segment);
        if (segment.p_type == PT_INTERP)
            return segment.p_offset < size && memchr(bytes + segment.p_offset, 0, size - segment.p_offset)
                       ? bytes + segment.p_offset
                       : "";
    }
    return NULL;
}

/* Why the program at PATH, with STATUS and a head of SIZE bytes, cannot be recorded; NULL: it can. */
static const char *refusal(const char *path, const struct stat *status, const char *bytes, size_t size)
{
    const char *wrong = strange((const void *)bytes, size);
    if (wrong)
        return wrong;
    if (status->st_mode & S_ISUID || (status->st_mode & S_ISGID && status->st_mode & S_IXGRP))
        return "is a setuid or setgid program; the system preloads nothing into those";
    if (getxattr(path, "security.capability", NULL, 0) > 0)
        return "has capabilities of its own; the system preloads nothing into such programs";
    const ElfW(Ehdr) *head = (const void *)bytes;
    if (head->e_phoff + head->e_phnum * sizeof(ElfW(Phdr)) > size)
        return "is no program (its head is cut off)";
    const char *interpreter = loader(bytes, size);
    if (!interpreter)
        return "is statically linked; only dynamically linked programs can be recorded from outside";
    return strstr(interpreter, "musl") ? "is linked with musl; this cprof records programs of glibc" : NULL;
}

/* process.check(path): true where the file can be recorded; a string, what follows the "#!", where it is a script. */
static int check(lua_State *L)
{
    _Alignas(16) char bytes[HEAD_BYTES + 1];
    const char *path = luaL_checkstring(L, 1);
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 || fstat(fd, &status) != 0 ? -1 : read(fd, bytes, HEAD_BYTES);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (size < 0)
        return fail(L, path, strerror(error));
    bytes[size] = 0;
    if (size >= 2 && memcmp(bytes, "#!", 2) == 0) {
        lua_pushlstring(L, bytes + 2, strcspn(bytes + 2, "\n"));
        return 1;
    }
    const char *wrong = refusal(path, &status, bytes, (size_t)size);
    if (wrong)
        return fail(L, path, wrong);
    lua_pushboolean(L, true);
    return 1;
}

/* ---- exec ---- */

static void set_environment(lua_State *L, int table)
{
    lua_pushnil(L);
    while (lua_next(L, table)) {
        const char *name = luaL_checkstring(L, -2);
        if (lua_type(L, -1) == LUA_TSTRING)
            setenv(name, lua_tostring(L, -1), 1);
        else
            unsetenv(name);
        lua_pop(L, 1);
    }
}

/* process.exec(path, arguments, environment): becomes the program. ARGUMENTS begin with its name; ENVIRONMENT holds
 * what changes, false for what goes. Returns only where that fails. */
static int exec(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t count = cprof__lua_rawlen(L, 2);
    const char **argv = lua_newuserdata(L, (count + 1) * sizeof *argv);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        argv[i] = luaL_checkstring(L, -1); /* the table keeps it */
        lua_pop(L, 1);
    }
    argv[count] = NULL;
    if (getenv("CPROF_KEPT_SIGINT"))
        signal(SIGINT, SIG_IGN);
    unsetenv("CPROF_KEPT_SIGINT");
    set_environment(L, 3);
    execv(path, (char *const *)argv);
    return fail(L, path, strerror(errno));
}

/* ---- The rest ---- */

/* process.writable(file): whether the file can be made in its folder, or is there and can be replaced. */
static int writable(lua_State *L)
{
    const char *file = luaL_checkstring(L, 1), *slash = strrchr(file, '/');
    struct stat status;
    lua_pushlstring(L, file, slash ? (size_t)(slash - file) + 1 : 0);
    const char *folder = slash ? lua_tostring(L, -1) : ".";
    if (stat(file, &status) == 0 && S_ISDIR(status.st_mode))
        return fail(L, file, strerror(EISDIR));
    if (!*file || access(folder, W_OK | X_OK) != 0)
        return fail(L, *file ? file : "\"\"", strerror(*file ? errno : ENOENT));
    lua_pushboolean(L, true);
    return 1;
}

/* process.library(name): the path of a library of cprof's, which lies three folders above this module. */
static int library(lua_State *L)
{
    Dl_info self;
    char path[PATH_MAX];
    if (!dladdr((void *)library, &self) || !realpath(self.dli_fname, path))
        return fail(L, "cprof", "the folder of its libraries is not known");
    for (int i = 0; i < 4; i++) {
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = 0;
    }
    lua_pushfstring(L, "%s/%s", path, luaL_checkstring(L, 1));
    if (access(lua_tostring(L, -1), R_OK) != 0)
        return fail(L, lua_tostring(L, -1), strerror(errno));
    return 1;
}

int luaopen_cprof_process(lua_State *L);

__attribute__((visibility("default"))) int luaopen_cprof_process(lua_State *L)
{
    static const struct {
        const char *name;
        lua_CFunction function;
    } functions[] = {
        {"find", find}, {"check", check}, {"exec", exec}, {"writable", writable}, {"library", library}};
    lua_createtable(L, 0, sizeof functions / sizeof *functions);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushcfunction(L, functions[i].function);
        lua_setfield(L, -2, functions[i].name);
    }
    return 1;
}
