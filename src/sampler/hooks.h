/* SPDX-License-Identifier: MIT
 *
 * Takes over calls of functions that the loaded objects import, by the slots through which they call (their global
 * offset tables): this works from a library that was loaded last, reaches code that was there before, and can be
 * taken back. Calls inside an object that need no slot are not seen.
 * Threads: one at a time (the sampler's lock). Signals: unsafe.
 */
#ifndef CPROF_SAMPLER_HOOKS_H
#define CPROF_SAMPLER_HOOKS_H

/* A function to take over; NAME is the symbol, REPLACEMENT of the same type. A list ends with a NULL name. */
typedef struct cprof__hook {
    const char *name;
    void (*replacement)(void);
} cprof__hook;

/* Points the slots for HOOKS, of all objects but our own that are loaded now, to the replacements; again after others
 * were loaded. What cannot be changed is left as it is. */
void cprof__hooks_apply(const cprof__hook *hooks);

/* Puts back what the slots for HOOKS of the objects that are still loaded held before. */
void cprof__hooks_undo(const cprof__hook *hooks);

#endif
