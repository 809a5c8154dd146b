/* SPDX-License-Identifier: MIT
 *
 * Stacks to be walked: a random chain of calls through every shape of frame that compilers make, and through
 * libraries that call back. maze.c is compiled with -O2 -fomit-frame-pointer in every preset.
 */
#ifndef CPROF_TESTS_MAZE_H
#define CPROF_TESTS_MAZE_H

#include <stdbool.h>
#include <stdint.h>

/* Calls VISIT(CONTEXT) at the end of a chain of DEPTH turns that SEED chooses; QUIET: of those that take no
 * lock of the dynamic loader's. */
void maze_run(uint64_t seed, int depth, bool quiet, void (*visit)(void *context), void *context);

#endif
