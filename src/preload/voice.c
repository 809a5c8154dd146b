/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/voice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_MIN 100 /* above the numbers that shells use, below those of a small table */

static const cprof__settings *settings;
static int kept = -1; /* the first process's stderr once more */

static bool is_first_stderr(int fd)
{
    struct stat status;
    return settings->has_stderr && fd >= 0 && fstat(fd, &status) == 0 &&
           status.st_dev == settings->stderr_device && status.st_ino == settings->stderr_inode;
}

void cprof__voice_begin(const cprof__settings *of)
{
    settings = of;
    if (settings->root == getpid() && is_first_stderr(STDERR_FILENO))
        kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, KEPT_MIN);
}

void cprof__voice_forget(void)
{
    /* A program that closes all descriptors may have another one of this number. */
    if (is_first_stderr(kept))
        close(kept);
    kept = -1;
}

/* Where to write; -1: nowhere. */
static int find_stderr(void)
{
    if (is_first_stderr(STDERR_FILENO))
        return STDERR_FILENO;
    return fcntl(STDERR_FILENO, F_GETFD) < 0 && is_first_stderr(kept) ? kept : -1;
}

void cprof__voice_say(const char *text, size_t length)
{
    while (length) {
        int fd = find_stderr();
        ssize_t count = fd < 0 ? -1 : write(fd, text, length);
        if (fd < 0 || (count < 0 && errno != EINTR))
            break;
        text += count > 0 ? count : 0;
        length -= count > 0 ? (size_t)count : 0;
    }
}

void cprof__voice_complain(const char *about, const char *text)
{
    char line[1024];
    int length = snprintf(line, sizeof line - 1, "cprof: %s %s: %s", settings->name, about, text);
    if (length < 0)
        return;
    size_t end = (size_t)length < sizeof line - 1 ? (size_t)length : sizeof line - 2;
    line[end] = '\n';
    cprof__voice_say(line, end + 1);
}
