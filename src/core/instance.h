/* SPDX-License-Identifier: MIT
 *
 * Keeps a second copy of cprof (one linked statically into the host, one loaded for Lua) from working beside
 * the first: each would show half of the entries. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_INSTANCE_H
#define CPROF_CORE_INSTANCE_H

/* Makes this copy the process's. Returns: 0, or CPROF_EDUPLICATE where another copy is; cheap after the first
 * call. */
int cprof__instance_claim(void);

#endif
