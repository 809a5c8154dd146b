/* SPDX-License-Identifier: MIT
 *
 * See newthreads.h.
 */
#define _GNU_SOURCE
#include "sampler/newthreads.h"

#include "base/alloc.h"
#include "sampler/hooks.h"
#include "sigsafe/handler.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

typedef void *start_fn(void *);
typedef int create_fn(pthread_t *, const pthread_attr_t *, start_fn *, void *);

typedef struct beginning {
    start_fn *start;
    void *argument;
} beginning;

static create_fn *real_create;
static pthread_key_t key; /* its value is the start function of a thread that is sampled */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_error;

/* Also where the thread ends by pthread_exit or is cancelled. Its signals, should one be under way, mean nothing any
 * more. */
static void on_end(void *start)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, CPROF__SIGNAL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    cprof__newthread_ends((start_fn *)start);
}

/* Leaves by a tail call, so that no frame of ours stays on the thread's stack. */
static void *begin(void *context)
{
    beginning *given = context;
    start_fn *start = given->start;
    void *argument = given->argument;
    cprof__free(given);
    if (cprof__newthread_begins())
        pthread_setspecific(key, (const void *)start);
    return start(argument);
}

static int create(pthread_t *thread, const pthread_attr_t *attributes, start_fn *start, void *argument)
{
    beginning *given = cprof__malloc(sizeof *given);
    if (!given)
        return real_create(thread, attributes, start, argument);
    *given = (beginning){start, argument};
    int error = real_create(thread, attributes, begin, given);
    if (error)
        cprof__free(given);
    return error;
}

static void prepare(void)
{
    key_error = pthread_key_create(&key, on_end);
    real_create = (create_fn *)dlsym(RTLD_DEFAULT, "pthread_create");
}

static const cprof__hook hooks[] = {{"pthread_create", (void (*)(void))create}, {NULL, NULL}};

void cprof__newthreads_watch(void)
{
    pthread_once(&once, prepare);
    if (!key_error && real_create)
        cprof__hooks_apply(hooks);
}

void cprof__newthreads_unwatch(void)
{
    cprof__hooks_undo(hooks);
}
