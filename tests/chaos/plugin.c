/* SPDX-License-Identifier: MIT
 *
 * A library that is loaded, runs for a moment and is unloaded again, while it is sampled. Its code is large enough that
 * the next library comes to lie elsewhere.
 */
#include <stdint.h>

#define NOINLINE __attribute__((noinline, noclone))
#define PLUGIN_API __attribute__((visibility("default")))

static volatile uint64_t sink;

static NOINLINE uint64_t descend(unsigned depth, uint64_t value)
{
    volatile uint64_t local[16];
    for (unsigned i = 0; i < 16; i++)
        local[i] = value * i + depth;
    return depth ? descend(depth - 1, local[depth % 16]) + local[0] : local[1];
}

PLUGIN_API uint64_t plugin_run(unsigned rounds);

uint64_t plugin_run(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++)
        sink += descend(i % 40, sink);
    return sink;
}
