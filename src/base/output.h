/* SPDX-License-Identifier: MIT
 *
 * Places that bytes go to: memory, and files that are whole or absent.
 * Threads: one at a time an output. Signals: unsafe.
 */
#ifndef CPROF_BASE_OUTPUT_H
#define CPROF_BASE_OUTPUT_H

#include <stddef.h>

/* Bytes in memory. A value of zeros is ready for use; free BYTES with cprof__free. */
typedef struct cprof__memory {
    unsigned char *bytes;
    size_t length, room;
} cprof__memory;

/* A cprof_write_fn; CONTEXT is a cprof__memory. Returns CPROF_ENOMEM where memory runs out. */
int cprof__memory_write(void *context, const void *bytes, size_t length);

/* A file that is being written beside its place. */
typedef struct cprof__file {
    char *path;      /* where it goes, links followed */
    char *temporary; /* where it is written; NULL: PATH is no regular file (a pipe, a terminal) and written
                        directly */
    int fd;
    int failure; /* errno of the first failed write */
} cprof__file;

/* Opens a file that shall come to be at PATH. Returns: 0, CPROF_ENOMEM, CPROF_ESYSTEM. */
int cprof__file_open(cprof__file *file, const char *path);

/* A cprof_write_fn; CONTEXT is a cprof__file. */
int cprof__file_write(void *context, const void *bytes, size_t length);

/* CODE 0: syncs and renames it into place. Otherwise: removes it, and leaves what was there. Returns: CODE,
 * or the error of the write, sync or rename that failed. */
int cprof__file_close(cprof__file *file, int code);

#endif
