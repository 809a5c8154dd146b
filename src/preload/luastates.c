/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/luastates.h"

#include "cprof_lua.h"
#include "preload/interpose.h"
#include "preload/library.h"
#include "preload/recorder.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Functions by which one Lua is told from another: the newest first. LuaJIT has some of 5.2's and 5.3's, none of
 * these. */
static const struct {
    const char *mark, *version, *init;
} VERSIONS[] = {
    {"lua_numbertocstring", NULL, "LUA_INIT_5_5"}, /* 5.5: no module is built for it */
    {"lua_newuserdatauv", "5.4", "LUA_INIT_5_4"},  {"lua_rotate", "5.3", "LUA_INIT_5_3"},
    {"lua_callk", "5.2", "LUA_INIT_5_2"},          {"lua_pcall", "5.1", "LUA_INIT"},
};

/* Whether the thread is attaching a state: the module for it makes states of its own, to learn from. */
static __thread bool attaching __attribute__((tls_model("initial-exec")));

static const char *init_name; /* the variable that was set, until it is set back; written before main */
static char *init_before;     /* what it held */

/* ---- Attaching ---- */

typedef int (*attach_function)(lua_State *);

/* cprof_lua_attach for the Lua whose functions HANDLE finds; loaded once, for the first state. One process has one
 * Lua, or at least one whose names others see. */
static attach_function find_attach(void *handle)
{
    char file[64], path[PATH_MAX];
    for (size_t i = 0; i < sizeof VERSIONS / sizeof *VERSIONS; i++) {
        if (!dlsym(handle, VERSIONS[i].mark))
            continue;
        if (!VERSIONS[i].version)
            break;
        snprintf(file, sizeof file, "lua/%s/cprof/core.so", VERSIONS[i].version);
        if (!cprof__library_path(file, path, sizeof path))
            break;
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        attach_function attach = NULL;
        if (module)
            *(void **)&attach = dlsym(module, "cprof_lua_attach");
        if (!attach)
            cprof__recorder_remark("Lua is not shown: its functions are not visible to the module for it");
        return attach;
    }
    cprof__recorder_remark("Lua is not shown: its version is not known");
    return NULL;
}

/* Lua's functions for a call that may raise: a program's allocator may refuse us what the program itself would never
 * have asked for, and that must not end it. 5.1 and LuaJIT have cpcall, the others what follows it. */
static struct {
    attach_function attach; /* NULL: no state can be attached. All written once, under the lock of attach */
    int (*cpcall)(lua_State *, attach_function, void *);
    void (*pushcclosure)(lua_State *, attach_function, int);
    int (*pcallk)(lua_State *, int, int, int, intptr_t, void *);
    void (*settop)(lua_State *, int);
} lua;

static void find_calls(void *handle)
{
    *(void **)&lua.cpcall = dlsym(handle, "lua_cpcall");
    *(void **)&lua.pushcclosure = dlsym(handle, "lua_pushcclosure");
    *(void **)&lua.pcallk = dlsym(handle, "lua_pcallk");
    *(void **)&lua.settop = dlsym(handle, "lua_settop");
    lua.attach = (lua.cpcall || (lua.pushcclosure && lua.pcallk)) && lua.settop ? find_attach(handle) : NULL;
}

static void remark_unattached(void)
{
    cprof__recorder_remark("Lua is not shown: a state could not be attached");
}

static int try_attach(lua_State *L)
{
    if (lua.attach(L) != 0)
        remark_unattached();
    return 0;
}

static void attach_protected(lua_State *L)
{
    int failed;
    if (lua.cpcall) {
        failed = lua.cpcall(L, try_attach, NULL);
    } else {
        lua.pushcclosure(L, try_attach, 0);
        failed = lua.pcallk(L, 0, 0, 0, 0, NULL);
    }
    if (failed) {
        lua.settop(L, -2); /* the message */
        remark_unattached();
    }
}

static void attach(lua_State *L, void *handle)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool looked; /* under LOCK */
    if (attaching)
        return;
    attaching = true;
    pthread_mutex_lock(&lock);
    if (!looked)
        find_calls(handle);
    looked = true;
    bool known = lua.attach != NULL;
    pthread_mutex_unlock(&lock);
    if (known)
        attach_protected(L);
    attaching = false;
}

/* ---- Lua as a shared library ---- */

/* Whether FUNCTION is this library's. Its address as C code here has it may be another's, which stands before. */
static bool is_ours(const void *function)
{
    Dl_info place, self;
    return dladdr(function, &place) && dladdr(&init_name, &self) && place.dli_fbase == self.dli_fbase;
}

/* Writes to *HANDLE where the caller at ADDRESS finds the C API, and returns its function NAME that is not ours. A
 * library may have been loaded for itself (RTLD_LOCAL), so its own handle is asked before the program's. */
static void *next_function(const char *name, void *address, void **handle)
{
    Dl_info caller;
    struct link_map *map = NULL;
    if (dladdr1(address, &caller, (void **)&map, RTLD_DL_LINKMAP) && map && map->l_name && *map->l_name) {
        void *library = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
        void *found = library ? dlsym(library, name) : NULL;
        *handle = library;
        if (found && !is_ours(found))
            return found;
    }
    *handle = RTLD_NEXT;
    return dlsym(RTLD_NEXT, name);
}

lua_State *luaL_newstate(void)
{
    void *handle;
    lua_State *(*next)(void);
    *(void **)&next = next_function("luaL_newstate", __builtin_return_address(0), &handle);
    lua_State *L = next ? next() : NULL;
    if (L && cprof__library.cprof_start_cpu_profile)
        attach(L, handle);
    return L;
}

lua_State *lua_newstate(cprof__lua_alloc allocator, void *context, unsigned seed)
{
    void *handle;
    lua_State *(*next)(cprof__lua_alloc, void *, unsigned);
    *(void **)&next = next_function("lua_newstate", __builtin_return_address(0), &handle);
    lua_State *L = next ? next(allocator, context, seed) : NULL;
    if (L && cprof__library.cprof_start_cpu_profile)
        attach(L, handle);
    return L;
}

/* ---- Interpreters ---- */

int cprof__lua_init(lua_State *L)
{
    if (init_name && init_before)
        setenv(init_name, init_before, 1);
    else if (init_name)
        unsetenv(init_name);
    init_name = NULL;
    attach(L, RTLD_DEFAULT);
    return 0;
}

/* The first object is the program itself: stops there, with whether its constants name LUA_INIT. */
static int names_lua_init(struct dl_phdr_info *info, size_t size, void *result)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_R &&
            memmem((void *)(info->dlpi_addr + segment->p_vaddr), segment->p_filesz, "LUA_INIT",
                   strlen("LUA_INIT")))
            *(bool *)result = true;
    }
    return 1;
}

/* Whether an option of the interpreter says that the environment is not to be read. Only options that take another
 * argument need to be known. */
static bool ignores_environment(int argc, char **argv)
{
    for (int i = 1; i < argc && argv[i][0] == '-' && argv[i][1] && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "-E") == 0)
            return true;
        if (strchr("elj", argv[i][1]) && !argv[i][2])
            i++;
    }
    return false;
}

/* The chunk for the variable NAME: it attaches, then runs what NAME (or, in 5.2 and later, LUA_INIT) said before, as
 * the interpreter would have. */
static bool write_chunk(const char *name, char *chunk, size_t size)
{
    char path[PATH_MAX];
    if (!cprof__library_path("libcprof_preload.so", path, sizeof path) || strpbrk(path, "\\\"\n"))
        return false;
    int length = snprintf(
        chunk, size,
        "local attach = package.loadlib(\"%s\", \"cprof__lua_init\") if attach then pcall(attach) end "
        "local name, init = \"%s\", os.getenv(\"%s\") "
        "if not init then name, init = \"LUA_INIT\", os.getenv(\"LUA_INIT\") end "
        "if not init then return end local chunk, wrong "
        "if init:sub(1, 1) == \"@\" then chunk, wrong = loadfile(init:sub(2)) "
        "else chunk, wrong = (loadstring or load)(init, \"=\" .. name) end "
        "if not chunk then error(wrong, 0) end return chunk()",
        path, name, name);
    return length > 0 && (size_t)length < size;
}

void cprof__lua_prepare(int argc, char **argv)
{
    static char chunk[PATH_MAX + 1024];
    bool interpreter = false;
    void *newstate = dlsym(RTLD_DEFAULT, "lua_newstate");
    /* A Lua in a shared library stands behind ours. */
    if (!newstate || is_ours(newstate))
        return;
    dl_iterate_phdr(names_lua_init, &interpreter);
    if (!interpreter) {
        cprof__recorder_remark("Lua is not shown: the program holds a Lua of its own; load cprof in it");
        return;
    }
    if (ignores_environment(argc, argv)) {
        cprof__recorder_remark("Lua is not shown: the option -E keeps the interpreter from it");
        return;
    }
    for (size_t i = 0; i < sizeof VERSIONS / sizeof *VERSIONS && !init_name; i++)
        if (dlsym(RTLD_DEFAULT, VERSIONS[i].mark))
            init_name = VERSIONS[i].init;
    if (!init_name || !write_chunk(init_name, chunk, sizeof chunk))
        return;
    const char *before = getenv(init_name);
    init_before = before ? strdup(before) : NULL;
    setenv(init_name, chunk, 1);
}
