/* SPDX-License-Identifier: MIT
 *
 * Loads that may fault. While the guard is on, our handler of SIGSEGV and SIGBUS recognises the one instruction
 * that loads, and lets it fail; any other fault goes on to the handler that was there before, or to the default.
 */
#ifndef CPROF_SIGSAFE_FAULT_H
#define CPROF_SIGSAFE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Installs the handlers; again where somebody has replaced them since. Returns: 0 or an errno. Threads: one at a
 * time. Signals: unsafe. */
int cprof__fault_guard_on(void);

/* Puts back what was there before, where the handlers are still ours. Threads: as above. */
void cprof__fault_guard_off(void);

/* Looks whether the handlers are still ours, and notes it: without them loads go through the kernel. */
void cprof__fault_guard_check(void);

/* Whether cprof__fault_load may be used, as far as was seen when somebody last looked. Signals: safe. */
bool cprof__fault_guarded(void);

/* The same, looking: a host may have put its own handler over ours this very moment. Signals: safe. */
bool cprof__fault_guarded_now(void);

/* The word at ADDRESS. Returns: whether it could be read. Only while guarded. Signals: safe. */
bool cprof__fault_load(uint64_t address, uint64_t *word);

#endif
