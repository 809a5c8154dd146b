/* SPDX-License-Identifier: MIT
 *
 * libcprof_preload.so records a whole program from outside: LD_PRELOAD brings it in, environment variables say what to
 * do (settings.h), and everything else happens by itself: it starts before main and writes when the process ends.
 * Nothing is done, and nothing is in the program's way, where CPROF_OUTPUT is not set.
 */
#ifndef CPROF_PRELOAD_PRELOAD_H
#define CPROF_PRELOAD_PRELOAD_H

/* Starts to record again, after an exec that failed. */
void cprof__preload_resume(void);

#endif
