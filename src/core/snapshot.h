/* SPDX-License-Identifier: MIT
 *
 * Makes snapshots (cprof.h) of sums that somebody else has added up. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_SNAPSHOT_H
#define CPROF_CORE_SNAPSHOT_H

#include "core/emit.h"

/* A snapshot of SUMS, which are taken over (and are empty then) also where it fails. What ABOUT points to is copied
 * where it is a comment, and lives for ever where it is not. Returns: 0, CPROF_ENOMEM. */
int cprof__snapshot_make(const cprof__description *about, int64_t count, cprof__sums *sums,
                         cprof_snapshot **out);

/* Another reference to SNAPSHOT, which is freed with the last one. */
cprof_snapshot *cprof__snapshot_share(cprof_snapshot *snapshot);

/* Realtime now, in ns since 1970. */
int64_t cprof__realtime_ns(void);

#endif
