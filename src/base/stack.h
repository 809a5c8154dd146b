/* SPDX-License-Identifier: MIT
 *
 * Room for code that needs much of the stack, also on threads that have little of it.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_BASE_STACK_H
#define CPROF_BASE_STACK_H

#include <stdbool.h>
#include <stddef.h>

/* Calls FUNCTION(CONTEXT) with at least BYTES of stack to use: on this thread where it has them, else on one
 * of its own, and waits for it. FUNCTION takes no lock of ours. Returns: whether it was called; not where no
 * thread could be had. */
bool cprof__with_stack(size_t bytes, void (*function)(void *context), void *context);

#endif
