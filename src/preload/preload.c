/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/preload.h"

#include "preload/ending.h"
#include "preload/library.h"
#include "preload/luastates.h"
#include "preload/recorder.h"
#include "preload/scribe.h"
#include "preload/settings.h"
#include "preload/voice.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static cprof__settings settings; /* written before main */
static bool was_recording; /* when fork was called; of the forking thread, which alone is in the child */

static void complain(const char *what)
{
    cprof__voice_complain("cannot be recorded", what);
}

/* The scribe comes first, so that its start is not in the profile. */
static int start(void)
{
    int error = cprof__ending_arm();
    if (error) {
        complain(strerror(error));
        return CPROF_ESYSTEM;
    }
    int code = cprof__recorder_start(&settings);
    if (code)
        complain(cprof__library.cprof_last_error());
    return code;
}

void cprof__preload_resume(void)
{
    (void)start();
}

static void before_fork(void)
{
    was_recording = cprof__scribe_is_waiting();
}

static void after_fork_in_parent(void)
{
    cprof__recorder_forked();
}

static void after_fork_in_child(void)
{
    cprof__voice_forget();
    if (was_recording)
        (void)start();
}

/* The first program does not run without what was asked for; one further down is not ours to stop. */
static void refuse(const char *what, int status)
{
    complain(what);
    if (settings.root == getpid())
        _exit(status);
}

__attribute__((constructor)) static void begin(int argc, char **argv, char **environment)
{
    (void)environment;
    int saved = errno;
    const char *wrong = cprof__settings_read(&settings);
    if (!wrong && !settings.output[0])
        return;
    cprof__voice_begin(&settings);
    if (!wrong)
        wrong = cprof__library_open();
    if (wrong) {
        refuse(wrong, 1);
        return;
    }
    cprof__lua_prepare(argc, argv);
    cprof__ending_prepare();
    int code = start();
    if (code && settings.root == getpid())
        _exit(code == CPROF_EINVAL ? 2 : 1);
    /* After libcprof's own, so that in a child it has forgotten the parent's recording before this starts one. */
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    errno = saved;
}
