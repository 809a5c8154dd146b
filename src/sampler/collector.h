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

/* The same for one thread. */
void cprof__collect_thread(cprof__tracked *thread, cprof_recording *recordings, bool final);

#endif
