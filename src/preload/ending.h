/* SPDX-License-Identifier: MIT
 *
 * The ways in which a process ends, and the one in which it becomes another: each waits until the file is written.
 * exit and quick_exit have hooks; _exit, execve and their kin are put before the C library's (interpose.h); signals
 * that end a process are caught where the program has not said what it wants done with them, and end it after the
 * writing, as they would have.
 */
#ifndef CPROF_PRELOAD_ENDING_H
#define CPROF_PRELOAD_ENDING_H

#include <stdbool.h>

/* Installs handlers and hooks. Called once a process image, before main. */
void cprof__ending_prepare(void);

/* Starts the scribe for this process (again in a child of fork, and after an exec that failed). Returns: 0, or an
 * errno value. */
int cprof__ending_arm(void);

/* Writes before the process becomes another. Nothing is done in a child of vfork, whose parent goes on.
 * Returns whether a recording was ended, which is to be started again where the exec fails. */
bool cprof__ending_before_exec(void);

/* Writes before the process ends without hooks (_exit). Signals: safe. */
void cprof__ending_before_exit(void);

#endif
