/* SPDX-License-Identifier: MIT
 *
 * What the preloaded library is told, by environment variables, which children inherit:
 *
 *   CPROF_OUTPUT   the file to write; "%p" in it is the process's id, "%%" a "%". Without it nothing is recorded
 *   CPROF_HZ, CPROF_MODE, CPROF_ENGINE   as in cprof_cpu_options
 *   CPROF_ROOT     the process whose file is CPROF_OUTPUT as it stands; the others add ".PID" where it has no
 *                  "%p". Set here where it is not
 *   CPROF_STDERR   that process's stderr, "DEVICE:INODE": where it is another file, nothing is said. Set here, too
 *   CPROF_FOLLOW   "0": programs that this one starts are left alone (`cprof run`)
 */
#ifndef CPROF_PRELOAD_SETTINGS_H
#define CPROF_PRELOAD_SETTINGS_H

#include "cprof.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct cprof__settings {
    cprof_cpu_options cpu;
    char name[NAME_MAX + 1]; /* the program's; a copy, since programs write over argv to show a title */
    char output[PATH_MAX];   /* absolute, with its marks; "" where nothing is to be recorded */
    pid_t root;
    bool has_stderr; /* the first process had one */
    dev_t stderr_device;
    ino_t stderr_inode;
} cprof__settings;

/* Reads the environment, and writes back what children need: an absolute CPROF_OUTPUT, CPROF_ROOT and
 * CPROF_STDERR; or removes all of it, with LD_PRELOAD's mention of this library, where they are to be left alone.
 * Returns: NULL, or what is wrong (constant). Threads: the only one. */
const char *cprof__settings_read(cprof__settings *settings);

/* Writes the name of the calling process's file to PATH, which has PATH_MAX bytes; PART 0 is the file itself, 1 and
 * up are those of what ran in the process before an exec. Returns false where it does not fit. */
bool cprof__settings_path(const cprof__settings *settings, int part, char *path);

/* Whether each process has a file of its own by its name alone: there is a "%p" in it. */
bool cprof__settings_numbered(const cprof__settings *settings);

#endif
