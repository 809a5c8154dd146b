/* SPDX-License-Identifier: MIT
 *
 * libcprof as the preloaded library reaches it: loaded at run time and for itself alone. Were it linked, it and
 * the libraries that it needs would stand before those of the profiled program, in which a program that brings
 * its own zlib or libdw would then find ours.
 */
#ifndef CPROF_PRELOAD_LIBRARY_H
#define CPROF_PRELOAD_LIBRARY_H

#include "cprof.h"

#include <stdbool.h>

#define CPROF__LIBRARY_FUNCTIONS(X)                                                                          \
    X(cprof_last_error)                                                                                      \
    X(cprof_start_cpu_profile)                                                                               \
    X(cprof_recording_stop)                                                                                  \
    X(cprof_recording_free)                                                                                  \
    X(cprof_snapshot_sample_types)                                                                           \
    X(cprof_snapshot_sample_count)                                                                           \
    X(cprof_snapshot_sample)                                                                                 \
    X(cprof_snapshot_write)                                                                                  \
    X(cprof_snapshot_free)

/* The functions of cprof.h under their own names: cprof__library.cprof_last_error(). */
extern struct cprof__library {
#define CPROF__LIBRARY_POINTER(name) __typeof__(&(name)) name;
    CPROF__LIBRARY_FUNCTIONS(CPROF__LIBRARY_POINTER)
#undef CPROF__LIBRARY_POINTER
} cprof__library;

/* Fills cprof__library, from the copy of libcprof that the program has loaded, or else the one that lies beside
 * this library. Returns: NULL, or why it cannot be done (constant, or dlerror's). */
const char *cprof__library_open(void);

/* Writes the path of FILE in this library's folder to PATH. Returns false where it does not fit. */
bool cprof__library_path(const char *file, char *path, size_t size);

#endif
