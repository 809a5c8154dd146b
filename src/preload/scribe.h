/* SPDX-License-Identifier: MIT
 *
 * The thread that writes what was recorded when the process ends. An end may be asked for where nothing may be
 * written, in a signal's handler or in _exit called by one, and while the asking thread holds locks, malloc's for
 * example, that the writing needs. So the asking thread waits; but where the scribe itself waits for a lock, and goes
 * on waiting, the thread is told so and can give way.
 */
#ifndef CPROF_PRELOAD_SCRIBE_H
#define CPROF_PRELOAD_SCRIBE_H

#include <stdbool.h>

/* Why writing is asked for. */
enum { CPROF__END_EXIT = 1, CPROF__END_EXEC, CPROF__END_SIGNAL };

/* Starts the thread, which will call WRITE(why) once, tell those who wait, and call AFTER. Returns: 0, or an errno
 * value. */
int cprof__scribe_start(void (*write)(int why), void (*after)(void));

/* Asks for the writing and waits for its end; a second call only waits. Gives up where the scribe has waited for
 * PATIENCE_MS. Returns whether all is written; true, too, in a process that has no scribe (a child of vfork).
 * Threads: any, the scribe itself excepted. Signals: safe. */
bool cprof__scribe_finish(int why, int patience_ms);

/* The program's main thread leaves by pthread_exit: the process ends when its last thread does, which the scribe must
 * see to, being one itself. */
void cprof__scribe_orphan(void);

/* Whether this process has a scribe that was not asked yet. Signals: safe. */
bool cprof__scribe_is_waiting(void);

/* Whether the calling thread is the scribe. Signals: safe. */
bool cprof__scribe_is_self(void);

#endif
