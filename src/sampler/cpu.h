/* SPDX-License-Identifier: MIT
 *
 * The sampler behind cprof_start_cpu_profile (cprof.h): one for the process, at the highest rate that a running
 * recording asks for.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_CPU_H
#define CPROF_SAMPLER_CPU_H

#include "cprof.h"

#include <stdbool.h>

/* Ends one of the running recordings that have an output: *PATH gets where it goes, *DATA what it holds (NULL: no
 * memory), both now the caller's. Returns false where there is none. Takes the sampler's lock. */
bool cprof__cpu_end_one(char **path, cprof_snapshot **data);

#endif
