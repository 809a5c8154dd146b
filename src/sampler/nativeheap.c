/* SPDX-License-Identifier: MIT
 *
 * See nativeheap.h. Each function here does what the program asked for, and then counts it. Calls inside an allocator
 * (calloc that calls malloc) need no slot, so that nothing is counted twice.
 */
#define _GNU_SOURCE
#include "sampler/nativeheap.h"

#include "base/error.h"
#include "sampler/heap.h"
#include "sampler/hooks.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The allocator's. All are there in every C library and in every allocator that stands in for its own. */
#define FUNCTIONS(X)                                                                                         \
    X(void *, malloc, (size_t))                                                                              \
    X(void, free, (void *))                                                                                  \
    X(void *, calloc, (size_t, size_t))                                                                      \
    X(void *, realloc, (void *, size_t))                                                                     \
    X(void *, reallocarray, (void *, size_t, size_t))                                                        \
    X(int, posix_memalign, (void **, size_t, size_t))                                                        \
    X(void *, aligned_alloc, (size_t, size_t))                                                               \
    X(void *, memalign, (size_t, size_t))                                                                    \
    X(void *, valloc, (size_t))                                                                              \
    X(void *, pvalloc, (size_t))                                                                             \
    X(size_t, malloc_usable_size, (void *))

static struct {
#define POINTER(result, name, parameters) result(*name) parameters;
    FUNCTIONS(POINTER)
#undef POINTER
} real;

_Atomic bool cprof__nativeheap_on; /* written under the sampler's lock */

/* Counts BLOCK of SIZE bytes, in the function that the program called. */
#define COUNT(block, size)                                                                                   \
    do {                                                                                                     \
        if (__builtin_expect(cprof__heap_count(size), 0)) {                                                  \
            cprof__regs regs_;                                                                               \
            CPROF__REGS_HERE(&regs_);                                                                        \
            cprof__heap_sample(block, size, &regs_);                                                         \
        }                                                                                                    \
    } while (0)

static void *count_malloc(size_t size)
{
    void *block = real.malloc(size);
    COUNT(block, size);
    return block;
}

static void *count_calloc(size_t count, size_t size)
{
    void *block = real.calloc(count, size);
    size_t bytes = block ? count * size : 0; /* there is no block where that overflows */
    COUNT(block, bytes);
    return block;
}

static int count_posix_memalign(void **block, size_t alignment, size_t size)
{
    int error = real.posix_memalign(block, alignment, size);
    COUNT(error ? NULL : *block, size);
    return error;
}

static void *count_aligned_alloc(size_t alignment, size_t size)
{
    void *block = real.aligned_alloc(alignment, size);
    COUNT(block, size);
    return block;
}

static void *count_memalign(size_t alignment, size_t size)
{
    void *block = real.memalign(alignment, size);
    COUNT(block, size);
    return block;
}

static void *count_valloc(size_t size)
{
    void *block = real.valloc(size);
    COUNT(block, size);
    return block;
}

static void *count_pvalloc(size_t size)
{
    void *block = real.pvalloc(size);
    COUNT(block, size);
    return block;
}

/* ---- What ends or moves a block ---- */

static __attribute__((noinline)) void free_slowly(void *block)
{
    cprof__heap_block kept;
    if (cprof__heap_take(block, &kept) == CPROF__HEAP_LATER)
        cprof__heap_defer(block, real.free);
    else
        real.free(block);
}

static void count_free(void *block)
{
    if (__builtin_expect(cprof__heap_may_hold(block), 0) && block)
        free_slowly(block);
    else
        real.free(block);
}

/* BLOCK cannot be forgotten now, so it cannot be moved either. */
static void *copy(void *block, size_t size)
{
    size_t old = real.malloc_usable_size(block);
    void *moved = real.malloc(size);
    if (moved) {
        memcpy(moved, block, old < size ? old : size);
        cprof__heap_defer(block, real.free);
    }
    return moved;
}

static __attribute__((noinline)) void *realloc_slowly(void *block, size_t size)
{
    cprof__heap_block kept;
    enum cprof__heap_taken taken = cprof__heap_take(block, &kept);
    if (taken == CPROF__HEAP_LATER)
        return copy(block, size);
    void *moved = real.realloc(block, size);
    if (!moved && size && taken == CPROF__HEAP_TAKEN)
        cprof__heap_put_back(block, &kept);
    return moved;
}

/* A block that is resized is one that ends and another that begins. */
static inline void *resize(void *block, size_t size)
{
    bool may = block && __builtin_expect(cprof__heap_may_hold(block), 0);
    return may ? realloc_slowly(block, size) : real.realloc(block, size);
}

static void *count_realloc(void *block, size_t size)
{
    void *moved = resize(block, size);
    COUNT(moved, size);
    return moved;
}

static void *count_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *moved = resize(block, bytes);
    COUNT(moved, bytes);
    return moved;
}

/* ---- On and off ---- */

#define HOOK(name)                                                                                           \
    {                                                                                                        \
#name, (void (*)(void))count_##name                                                                  \
    }
static const cprof__hook hooks[] = {
    HOOK(malloc),       HOOK(free),           HOOK(calloc),        HOOK(realloc),
    HOOK(reallocarray), HOOK(posix_memalign), HOOK(aligned_alloc), HOOK(memalign),
    HOOK(valloc),       HOOK(pvalloc),        {NULL, NULL},
};

static const char *missing;

static void find(void)
{
    /* POSIX has functions and data in one kind of pointer for dlsym; C has not. */
#define FIND(result, name, parameters)                                                                       \
    *(void **)&real.name = dlsym(RTLD_DEFAULT, #name);                                                       \
    if (!real.name)                                                                                          \
        missing = #name;
    FUNCTIONS(FIND)
#undef FIND
}

int cprof__nativeheap_apply(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find);
    if (missing)
        return cprof__fail(CPROF_ESYSTEM, "the allocator has no %s", missing);
    cprof__hooks_apply(hooks);
    atomic_store(&cprof__nativeheap_on, true);
    return 0;
}

void cprof__nativeheap_undo(void)
{
    cprof__hooks_undo(hooks);
    atomic_store(&cprof__nativeheap_on, false);
}

bool cprof__nativeheap_is_on(void)
{
    return atomic_load(&cprof__nativeheap_on);
}
