/* SPDX-License-Identifier: MIT
 *
 * Outputs are written when the process ends: at exit by atexit(3), which main's return, exit and os.exit come
 * through; at SIGINT and SIGTERM, where the host left them to the default, by the collector's thread, for a handler
 * can do no such work. The process then dies by that signal, as it would have without us.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_ENDING_H
#define CPROF_SAMPLER_ENDING_H

#include "cprof.h"

/* There is an output from now on. Under the sampler's lock. */
void cprof__ending_watch(void);

/* There are none any more: the signals are the default's again, where they are still ours. Under the lock. */
void cprof__ending_unwatch(void);

/* Writes SNAPSHOT to the file PATH, which an end of the process meanwhile waits for. In no lock. Returns: as
 * cprof_snapshot_write. */
int cprof__ending_write(const cprof_snapshot *snapshot, const char *path);

/* On the collector's thread, in no lock: where a signal has come, writes the outputs and ends the process by it. */
void cprof__ending_act(void);

/* In the child of a fork: nothing of the parent's is to be written. */
void cprof__ending_forget(void);

#endif
