/* SPDX-License-Identifier: MIT
 *
 * Empties the threads' rings into the recordings: from a thread of its own while anything is recorded, and by
 * whoever needs all that there is (a stop, a state that ends). All under the sampler's lock.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_COLLECTOR_H
#define CPROF_SAMPLER_COLLECTOR_H

#include "sampler/recording.h"

/* Reads all that is in the rings. FINAL: what waits for a safepoint waits no longer. */
void cprof__collect(cprof_recording *recordings, bool final);

/* Another recording is about to begin beside RECORDINGS. */
void cprof__collect_beginning(cprof_recording *recordings);

/* ENDING, one of RECORDINGS, is about to end: it gets what waits for a safepoint as it is. The others wait on. */
void cprof__collect_ending(cprof_recording *recordings, cprof_recording *ending);

/* The same as cprof__collect for one thread. */
void cprof__collect_thread(cprof__tracked *thread, cprof_recording *recordings, bool final);

#endif
