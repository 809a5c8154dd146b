/* SPDX-License-Identifier: MIT
 *
 * See alloc.h. The countdown is one relaxed load where no test has armed it.
 */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_after = -1; /* relaxed: tests arm it while nothing else allocates */
static atomic_long made;

static bool refused(void)
{
    if (atomic_load_explicit(&fail_after, memory_order_relaxed) < 0)
        return false;
    atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    for (;;) {
        long left = atomic_load_explicit(&fail_after, memory_order_relaxed);
        if (left <= 0)
            return left == 0;
        if (atomic_compare_exchange_weak_explicit(&fail_after, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return false;
    }
}

long cprof__alloc_fail_after(long count)
{
    atomic_store_explicit(&fail_after, count < 0 ? -1 : count, memory_order_relaxed);
    return atomic_exchange_explicit(&made, 0, memory_order_relaxed);
}

void *cprof__malloc(size_t size)
{
    return refused() ? NULL : malloc(size ? size : 1);
}

void *cprof__calloc(size_t count, size_t size)
{
    return refused() ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *cprof__realloc(void *memory, size_t size)
{
    return refused() ? NULL : realloc(memory, size ? size : 1);
}

void *cprof__aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : aligned_alloc(alignment, size);
}

void cprof__free(void *memory)
{
    free(memory);
}

char *cprof__strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = cprof__malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void cprof_free(void *memory)
{
    cprof__free(memory);
}
