/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/library.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SONAME "libcprof.so.0"

struct cprof__library cprof__library;

bool cprof__library_path(const char *file, char *path, size_t size)
{
    Dl_info self;
    if (!dladdr(&cprof__library, &self) || !self.dli_fname)
        return false;
    const char *slash = strrchr(self.dli_fname, '/');
    int folder = slash ? (int)(slash - self.dli_fname) : 1;
    int length = snprintf(path, size, "%.*s/%s", folder, slash ? self.dli_fname : ".", file);
    return length > 0 && (size_t)length < size;
}

const char *cprof__library_open(void)
{
    char path[PATH_MAX];
    void *handle = dlopen(SONAME, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) {
        if (!cprof__library_path(SONAME, path, sizeof path))
            return "the place of libcprof is not known";
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!handle)
        return dlerror();
        /* POSIX has functions and data in one kind of pointer for dlsym; C has not. */
#define FIND(name)                                                                                           \
    *(void **)&cprof__library.name = dlsym(handle, #name);                                                   \
    if (!cprof__library.name)                                                                                \
        return SONAME " has no " #name;
    CPROF__LIBRARY_FUNCTIONS(FIND)
#undef FIND
    return NULL;
}
