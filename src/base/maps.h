/* SPDX-License-Identifier: MIT
 *
 * The mapping around an address, as /proc/self/maps tells. Source: proc(5).
 */
#ifndef CPROF_BASE_MAPS_H
#define CPROF_BASE_MAPS_H

#include <stdbool.h>
#include <stdint.h>

/* *LOW and *HIGH get the mapping that ADDRESS lies in; where that is the stack of the process's first thread, which
 * grows, *LOW gets the end of the mapping below it. Returns whether there is one. No allocation, no lock, little
 * stack. Threads: any. Signals: safe. */
bool cprof__maps_find(uint64_t address, uint64_t *low, uint64_t *high);

#endif
