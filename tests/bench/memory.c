/* SPDX-License-Identifier: MIT
 *
 * Counts memory by standing in for malloc in the whole process, libcprof and zlib included. Where counting is
 * off, which it is while time is measured, this costs one load and a branch.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* glibc's own names for what is defined over here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static atomic_bool counting;
static _Atomic int64_t out_now, out_peak;

static void note(int64_t change)
{
    int64_t now = atomic_fetch_add(&out_now, change) + change;
    int64_t peak = atomic_load(&out_peak);
    while (now > peak && !atomic_compare_exchange_weak(&out_peak, &peak, now)) {}
}

static void *noted(void *memory)
{
    if (memory && atomic_load_explicit(&counting, memory_order_relaxed))
        note((int64_t)malloc_usable_size(memory));
    return memory;
}

void *malloc(size_t size)
{
    return noted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return noted(__libc_calloc(count, size));
}

void *realloc(void *memory, size_t size)
{
    bool on = atomic_load_explicit(&counting, memory_order_relaxed);
    int64_t before = on && memory ? (int64_t)malloc_usable_size(memory) : 0;
    void *moved = __libc_realloc(memory, size);
    if (on && moved)
        note((int64_t)malloc_usable_size(moved) - before);
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return noted(__libc_memalign(alignment, size));
}

void *memalign(size_t alignment, size_t size)
{
    return noted(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *memory = noted(__libc_memalign(alignment, size));
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void free(void *memory)
{
    if (memory && atomic_load_explicit(&counting, memory_order_relaxed))
        note(-(int64_t)malloc_usable_size(memory));
    __libc_free(memory);
}

void bench_count_start(void)
{
    atomic_store(&out_now, 0);
    atomic_store(&out_peak, 0);
    atomic_store(&counting, true);
}

int64_t bench_count_stop(int64_t *peak)
{
    atomic_store(&counting, false);
    *peak = atomic_load(&out_peak);
    return atomic_load(&out_now);
}

int64_t bench_resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}
