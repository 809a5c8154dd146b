/* SPDX-License-Identifier: MIT
 *
 * See output.h. Source: rename(2), open(2).
 */
#define _GNU_SOURCE
#include "base/output.h"

#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cprof__memory_write(void *context, const void *bytes, size_t length)
{
    cprof__memory *memory = context;
    if (memory->room - memory->length < length) {
        size_t room = (memory->length + length) * 2;
        unsigned char *grown = cprof__realloc(memory->bytes, room);
        if (!grown)
            return CPROF_ENOMEM;
        memory->bytes = grown;
        memory->room = room;
    }
    memcpy(memory->bytes + memory->length, bytes, length);
    memory->length += length;
    return 0;
}

/* The file that PATH leads to, or a copy of PATH where there is none yet. NULL where memory ran out. */
static char *follow(const char *path)
{
    char *real = realpath(path, NULL);
    char *copy = cprof__strdup(real ? real : path);
    free(real);
    return copy;
}

static int open_directly(cprof__file *file, const char *path)
{
    file->fd = open(path, O_WRONLY | O_CLOEXEC);
    return file->fd < 0 ? cprof__fail_errno(errno, "cannot write '%s'", path) : 0;
}

/* A name of its own beside PATH: two writers of one path do not meet. */
static int open_beside(cprof__file *file, const char *path)
{
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        size_t size = strlen(file->path) + 32;
        file->temporary = cprof__malloc(size);
        if (!file->temporary)
            return cprof__fail_memory();
        snprintf(file->temporary, size, "%s.%ld-%u.tmp", file->path, (long)getpid(), attempt);
        file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd >= 0)
            return 0;
        cprof__free(file->temporary);
        file->temporary = NULL;
        if (errno != EEXIST)
            break;
    }
    return cprof__fail_errno(errno, "cannot write '%s'", path);
}

int cprof__file_open(cprof__file *file, const char *path)
{
    *file = (cprof__file){NULL, NULL, -1, 0};
    struct stat status;
    bool there = stat(path, &status) == 0;
    if (there && S_ISDIR(status.st_mode))
        return cprof__fail_errno(EISDIR, "cannot write '%s'", path);
    file->path = follow(path);
    if (!file->path)
        return cprof__fail_memory();
    int code = there && !S_ISREG(status.st_mode) ? open_directly(file, path) : open_beside(file, path);
    if (!code && there && file->temporary)
        (void)fchmod(file->fd, status.st_mode & 07777);
    if (code)
        cprof__free(file->path);
    return code;
}

int cprof__file_write(void *context, const void *bytes, size_t length)
{
    cprof__file *file = context;
    const char *at = bytes;
    while (length) {
        ssize_t written = write(file->fd, at, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            file->failure = errno;
            return CPROF_ESYSTEM;
        }
        at += written;
        length -= (size_t)written;
    }
    return 0;
}

int cprof__file_close(cprof__file *file, int code)
{
    if (!code && file->temporary && fsync(file->fd) != 0)
        file->failure = errno;
    if (close(file->fd) != 0 && !code && !file->failure)
        file->failure = errno;
    if (!code && !file->failure && file->temporary && rename(file->temporary, file->path) != 0)
        file->failure = errno;
    if (file->failure)
        code = cprof__fail_errno(file->failure, "cannot write '%s'", file->path);
    if (code && file->temporary)
        (void)unlink(file->temporary);
    cprof__free(file->temporary);
    cprof__free(file->path);
    return code;
}
