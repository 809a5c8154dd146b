/* SPDX-License-Identifier: MIT
 *
 * The ways in which a process ends, and the one in which it becomes another: each waits until the file is written.
 * exit and quick_exit have hooks; _exit, execve and their kin are put before the C library's (interpose.h); signals
 * that end a process are caught where the program has not said what it wants done with them, and end it after the
 * writing, as they would have. The program does not see that: where it asks, it is told that they have their default
 * (profilers and virtual machines look for signals that nobody uses), and where it gives a signal back to the default,
 * ours is there again.
 */
#ifndef CPROF_PRELOAD_ENDING_H
#define CPROF_PRELOAD_ENDING_H

#include <signal.h>
#include <stdbool.h>

/* Installs handlers and hooks. Called once a process image, before main. */
void cprof__ending_prepare(void);

/* What the program does by sigaction: ours is to it the default. Signals of a crash go to the C library as they are:
 * the guard around our own loads stands above the handler for them, and has to see it. Signals: safe. */
int cprof__ending_sigaction(int signal, const struct sigaction *action, struct sigaction *old);

/* The same for signal(2). */
__sighandler_t cprof__ending_set_handler(int signal, __sighandler_t handler);

/* Starts the scribe for this process (again in a child of fork, and after an exec that failed). Returns: 0, or an
 * errno value. */
int cprof__ending_arm(void);

/* Writes before the process becomes another. Nothing is done in a child of vfork, whose parent goes on.
 * Returns whether a recording was ended, which is to be started again where the exec fails. */
bool cprof__ending_before_exec(void);

/* Writes before the process ends without hooks (_exit). Signals: safe. */
void cprof__ending_before_exit(void);

#endif
