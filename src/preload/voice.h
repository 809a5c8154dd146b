/* SPDX-License-Identifier: MIT
 *
 * What is said on stderr. It goes to the stderr of the first process alone: where another file stands in its place, a
 * shell's `$(… 2>&1)`, a server's log, a daemon's /dev/null, a line of ours would change what the program computes.
 */
#ifndef CPROF_PRELOAD_VOICE_H
#define CPROF_PRELOAD_VOICE_H

#include "preload/settings.h"

#include <stddef.h>

/* From now on stderr is that of OF, which stays the caller's. The first process keeps a descriptor of it, for
 * programs that close stderr before they exit (coreutils). Threads: the only one. */
void cprof__voice_begin(const cprof__settings *of);

/* In a child of fork, which may outlive the first process: lets go of that descriptor, lest who reads a pipe to its end
 * waits for the child. */
void cprof__voice_forget(void);

/* Writes TEXT of LENGTH bytes at once, so that lines of several processes stay whole; or nothing. */
void cprof__voice_say(const char *text, size_t length);

/* The same for a line about the process: "cprof: NAME ABOUT: TEXT". */
void cprof__voice_complain(const char *about, const char *text);

#endif
