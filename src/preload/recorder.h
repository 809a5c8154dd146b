/* SPDX-License-Identifier: MIT
 *
 * The recording of this process: started before the program's main, and in each child of fork; written once, by the
 * scribe, when the process ends or becomes another program.
 */
#ifndef CPROF_PRELOAD_RECORDER_H
#define CPROF_PRELOAD_RECORDER_H

#include "preload/settings.h"

/* Starts to record with SETTINGS, which stay the caller's. Returns: 0, or a CPROF_E code. */
int cprof__recorder_start(const cprof__settings *settings);

/* Stops, writes the file and says on stderr what is in it. WHY as in scribe.h. A process that is not the first one, and
 * a program that becomes another one, leave no file and say nothing where nothing was sampled.
 * Threads: the scribe. */
void cprof__recorder_finish(int why);

/* Something that the reader of the profile should know, said beside the summary: constant text. The first one
 * stays. */
void cprof__recorder_remark(const char *text);

/* Notes that the process has children, which write files of their own. */
void cprof__recorder_forked(void);

#endif
