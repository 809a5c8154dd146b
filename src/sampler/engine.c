/* SPDX-License-Identifier: MIT
 *
 * Which engine serves what, in the order in which they are tried.
 */
#define _GNU_SOURCE
#include "sampler/engine.h"

#include <string.h>

static const cprof__engine *const any[] = {&cprof__engine_perf, &cprof__engine_perf_user,
                                           &cprof__engine_timer, &cprof__engine_monotonic, NULL};
static const cprof__engine *const perf[] = {&cprof__engine_perf, &cprof__engine_perf_user, NULL};
static const cprof__engine *const timer[] = {&cprof__engine_timer, NULL};
static const cprof__engine *const monotonic[] = {&cprof__engine_monotonic, NULL};

const cprof__engine *const *cprof__engines(enum cprof__source source, const char *name)
{
    if (source == CPROF__SOURCE_WALL)
        return !name || strcmp(name, "monotonic") == 0 ? monotonic : NULL;
    if (!name)
        return any;
    if (strcmp(name, "perf") == 0)
        return perf;
    if (strcmp(name, "timer") == 0)
        return timer;
    return strcmp(name, "monotonic") == 0 ? monotonic : NULL;
}
