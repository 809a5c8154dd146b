/* SPDX-License-Identifier: MIT
 *
 * The list of the built-in profiles (core/builtin.h).
 */
#include "core/builtin.h"
#include "sampler/heap.h"

const cprof__builtin *const cprof__builtins[] = {&cprof__heap_allocs, &cprof__heap_heap, NULL};
