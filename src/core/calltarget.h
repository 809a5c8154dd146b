/* SPDX-License-Identifier: MIT
 *
 * Reads machine code (x86_64), to learn which function a call calls. The kernel reads it for us, so code that
 * has been unloaded is an answer and not a fault. Threads: any. Signals: safe.
 */
#ifndef CPROF_CORE_CALLTARGET_H
#define CPROF_CORE_CALLTARGET_H

#include <stdint.h>

/* Where the direct call goes whose last byte is at ADDRESS; 0 where it is none. */
uint64_t cprof__call_destination(uint64_t address);

/* Where the PLT entry at ADDRESS jumps; 0 where it is none. */
uint64_t cprof__plt_destination(uint64_t address);

#endif
