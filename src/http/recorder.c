/* SPDX-License-Identifier: MIT
 *
 * See recorder.h. A take belongs to the server's thread, but for its response while it is FINISHING: that is
 * the finisher's until the progress says DONE. A finisher that is not waited for is told so by ABANDONED, and
 * then owns the take; whichever of the two words comes second decides who frees it.
 */
#define _GNU_SOURCE
#include "http/recorder.h"

#include "base/alloc.h"
#include "http/cpu.h"
#include "http/thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

struct cprof__take {
    struct MHD_Connection *connection;
    int socket;
    int64_t until_ms;
    enum { RECORDING, FINISHING, READY } state;
    bool gone; /* nobody is there to read the answer */
    bool resumed;
    bool threaded; /* THREAD is to be joined */
    pthread_t thread;
    int wake;
    cprof__response response;
    _Atomic enum { UNDER_WAY, DONE, ABANDONED } progress;
    cprof__take *next;
};

const char *cprof__recorder_refusal(const cprof__recorder *recorder)
{
    if (recorder->ending)
        return "the server is being stopped";
    if (recorder->count >= CPROF__HTTP_RECORDINGS_MAX)
        return "too many profiles are being recorded";
    return NULL;
}

cprof__take *cprof__recorder_add(cprof__recorder *recorder, struct MHD_Connection *connection,
                                 cprof__response *response, int64_t now_ms)
{
    cprof__take *take = cprof__calloc(1, sizeof *take);
    if (!take)
        return NULL;
    take->connection = connection;
    take->socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    take->until_ms = now_ms + response->recording_ms;
    take->wake = recorder->wake;
    take->response = *response;
    *response = (cprof__response){0};
    take->next = recorder->first;
    recorder->first = take;
    recorder->count++;
    MHD_suspend_connection(connection);
    return take;
}

int64_t cprof__recorder_due_ms(const cprof__recorder *recorder)
{
    int64_t due_ms = -1;
    for (const cprof__take *take = recorder->first; take; take = take->next) {
        int64_t until_ms = recorder->ending ? 0 : take->until_ms;
        if (take->state == RECORDING && (due_ms < 0 || until_ms < due_ms))
            due_ms = until_ms;
    }
    return due_ms;
}

size_t cprof__recorder_watch(const cprof__recorder *recorder, struct pollfd *fds)
{
    size_t count = 0;
    for (const cprof__take *take = recorder->first; take; take = take->next)
        if (take->state == RECORDING)
            fds[count++] = (struct pollfd){take->socket, POLLRDHUP, 0};
    return count;
}

static void *finish(void *context)
{
    cprof__take *take = context;
    int wake = take->wake;
    if (take->gone)
        cprof__response_fini(&take->response);
    else
        cprof__cpu_end(&take->response);
    if (atomic_exchange(&take->progress, DONE) == ABANDONED) {
        cprof__response_fini(&take->response);
        cprof__free(take);
    } else {
        /* Who frees the take and closes the eventfd joins this thread before. */
        uint64_t one = 1;
        while (write(wake, &one, sizeof one) < 0 && errno == EINTR) {}
    }
    return NULL;
}

/* Where no thread is to be had, the other clients wait. */
static void begin_to_finish(cprof__take *take, bool gone)
{
    take->state = FINISHING;
    take->gone = gone;
    take->threaded = cprof__thread_start(&take->thread, finish, take) == 0;
    if (!take->threaded)
        finish(take);
}

static void resume(cprof__take *take)
{
    if (!take->resumed)
        MHD_resume_connection(take->connection);
    take->resumed = true;
}

void cprof__recorder_step(cprof__recorder *recorder, const struct pollfd *fds, int64_t now_ms)
{
    for (cprof__take *take = recorder->first; take; take = take->next) {
        if (take->state == RECORDING) {
            short seen = (fds++)->revents;
            /* After POLLRDHUP alone the client may still read: it gets what there is, as from Go. */
            if (seen || recorder->ending || now_ms >= take->until_ms)
                begin_to_finish(take, (seen & (POLLHUP | POLLERR)) != 0);
        }
        if (take->state == FINISHING && atomic_load(&take->progress) == DONE) {
            if (take->threaded)
                pthread_join(take->thread, NULL);
            take->state = READY;
            resume(take);
        }
    }
}

void cprof__recorder_end(cprof__recorder *recorder)
{
    recorder->ending = true;
}

void cprof__recorder_resume_all(cprof__recorder *recorder)
{
    for (cprof__take *take = recorder->first; take; take = take->next)
        resume(take);
}

cprof__response *cprof__take_response(cprof__take *take)
{
    return take->gone ? NULL : &take->response;
}

void cprof__take_free(cprof__recorder *recorder, cprof__take *take)
{
    if (!take)
        return;
    cprof__take **link = &recorder->first;
    while (*link != take)
        link = &(*link)->next;
    *link = take->next;
    recorder->count--;
    if (take->state == FINISHING && take->threaded) {
        pthread_t thread = take->thread;
        if (atomic_exchange(&take->progress, ABANDONED) != DONE) {
            pthread_detach(thread);
            return;
        }
        pthread_join(thread, NULL);
    }
    cprof__response_fini(&take->response);
    cprof__free(take);
}
