/* SPDX-License-Identifier: MIT
 *
 * See thread.h. Eight bytes of initial-exec TLS, of the 64 that the library allows itself.
 */
#define _GNU_SOURCE
#include "base/thread.h"

#include "base/alloc.h"
#include "base/maps.h"
#include "sigsafe/current.h"

#include <pthread.h>
#include <stdatomic.h>

static __thread cprof__thread *self __attribute__((tls_model("initial-exec")));
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_error;
static atomic_uint serials;

static void thread_free(void *record)
{
    cprof__thread *thread = record;
    self = NULL;
    cprof__free(thread->capture);
    cprof__free(thread);
}

static void make_key(void)
{
    key_error = pthread_key_create(&key, thread_free);
}

static void set_stack(cprof__thread *thread, uint64_t low, uint64_t high)
{
    thread->stack_low = cprof__current.stack_low = low;
    thread->stack_high = cprof__current.stack_high = high;
}

/* The C library tells under a lock, and allocates meanwhile: what takes malloc over must not ask it. */
static void find_stack(cprof__thread *thread)
{
    pthread_attr_t attributes;
    uint64_t low, high;
    void *start;
    size_t size;
    if (cprof__current.quiet) {
        if (cprof__maps_find((uint64_t)(uintptr_t)__builtin_frame_address(0), &low, &high))
            set_stack(thread, low, high);
        return;
    }
    cprof__current.quiet++;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &start, &size) == 0)
            set_stack(thread, (uint64_t)(uintptr_t)start, (uint64_t)(uintptr_t)start + size);
        pthread_attr_destroy(&attributes);
    }
    cprof__current.quiet--;
}

cprof__thread *cprof__thread_self(void)
{
    if (__builtin_expect(self != NULL, 1))
        return self;
    pthread_once(&key_once, make_key);
    if (key_error)
        return NULL;
    cprof__thread *thread = cprof__calloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    find_stack(thread);
    thread->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    if (pthread_setspecific(key, thread) != 0) {
        cprof__free(thread);
        return NULL;
    }
    self = thread;
    return thread;
}

cprof__thread *cprof__thread_peek(void)
{
    return self;
}

void cprof__thread_begin_quiet(void)
{
    cprof__current.quiet++;
}

void cprof__thread_end_quiet(void)
{
    cprof__current.quiet--;
}
