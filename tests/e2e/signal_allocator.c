/* SPDX-License-Identifier: MIT
 *
 * An allocator that may be called in signal handlers: blocks come off one atomic counter and are not used again
 * (heap_signals_test.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <malloc.h>

#define ARENA_BYTES (UINT64_C(1) << 32)
#define EXPORTED __attribute__((visibility("default")))

static _Alignas(4096) char arena[ARENA_BYTES]; /* only what is used of it is there */
static _Atomic uint64_t used;

static void *take(size_t alignment, size_t size)
{
    if (alignment < 16)
        alignment = 16;
    if (size > ARENA_BYTES / 4)
        return NULL;
    uint64_t begin = atomic_fetch_add(&used, size + alignment + 16) + 16;
    begin = (begin + alignment - 1) & ~(uint64_t)(alignment - 1);
    if (begin + size > ARENA_BYTES)
        return NULL;
    memcpy(arena + begin - sizeof size, &size, sizeof size);
    return arena + begin;
}

EXPORTED void *malloc(size_t size)
{
    return take(16, size);
}

EXPORTED void free(void *block)
{
    (void)block;
}

EXPORTED size_t malloc_usable_size(void *block)
{
    size_t size;
    memcpy(&size, (char *)block - sizeof size, sizeof size);
    return size;
}

EXPORTED void *calloc(size_t count, size_t size)
{
    return size && count > SIZE_MAX / size ? NULL : take(16, count * size); /* the arena is zero */
}

EXPORTED void *realloc(void *block, size_t size)
{
    void *moved = take(16, size);
    if (moved && block) {
        size_t old = malloc_usable_size(block);
        memcpy(moved, block, old < size ? old : size);
    }
    return moved;
}

EXPORTED void *reallocarray(void *block, size_t count, size_t size)
{
    return size && count > SIZE_MAX / size ? NULL : realloc(block, count * size);
}

EXPORTED void *aligned_alloc(size_t alignment, size_t size)
{
    return take(alignment, size);
}

EXPORTED void *memalign(size_t alignment, size_t size)
{
    return take(alignment, size);
}

EXPORTED int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *taken = take(alignment, size);
    if (taken)
        *block = taken;
    return taken ? 0 : ENOMEM;
}

EXPORTED void *valloc(size_t size)
{
    return take(4096, size);
}

EXPORTED void *pvalloc(size_t size)
{
    return take(4096, size);
}
