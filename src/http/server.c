/* SPDX-License-Identifier: MIT
 *
 * See server.h. libmicrohttpd parses HTTP; the thread it runs in is ours, so that its name, its signals and
 * its end are. It is the only thread that touches the daemon after the start. It waits on the daemon's epoll,
 * on an eventfd, by which others wake it, and on the clients whose profiles are being recorded (recorder.h).
 *
 * After a fork the thread exists in the parent alone. The child's copies of the listening sockets are closed,
 * so that no client waits for a process that never answers; a stop in the child frees nothing but the handle.
 */
#define _GNU_SOURCE
#include "http/server.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/thread.h"
#include "cprof.h"
#include "http/listen.h"
#include "http/recorder.h"
#include "http/routes.h"
#include "http/thread.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* What a client may send past the limit before the connection is cut: enough that most get to read the
 * answer. */
#define BODY_BYTES_DRAINED_MAX ((size_t)16 << 20)

struct cprof_http {
    struct MHD_Daemon *daemon;
    cprof__listener listener;
    int wake; /* eventfd: to stop, or a profile has become an answer */
    int epoll;
    atomic_bool stopping;
    cprof__recorder recorder; /* the server's thread only */
    pthread_t thread;
    pid_t process;
    unsigned requests; /* under way; the server's thread only */
    struct cprof_http *next;
};

/* A request while it comes in. */
struct request {
    char *target;
    cprof__buffer body;
    size_t body_bytes; /* all that came */
    bool begun;
    cprof__take *take; /* what it waits for: a profile that is being recorded */
};

/* The running servers, for the child of a fork. */
static struct {
    pthread_mutex_t lock;
    cprof_http *first; /* under LOCK */
} servers = {PTHREAD_MUTEX_INITIALIZER, NULL};

static void before_fork(void)
{
    pthread_mutex_lock(&servers.lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&servers.lock);
}

static void after_fork_in_child(void)
{
    for (cprof_http *server = servers.first; server; server = server->next) {
        close(server->listener.socket);
        close(server->wake);
        close(server->epoll);
    }
    servers.first = NULL;
    pthread_mutex_unlock(&servers.lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void enlist(cprof_http *server)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&servers.lock);
    server->next = servers.first;
    servers.first = server;
    pthread_mutex_unlock(&servers.lock);
}

static void delist(cprof_http *server)
{
    pthread_mutex_lock(&servers.lock);
    cprof_http **link = &servers.first;
    while (*link && *link != server)
        link = &(*link)->next;
    if (*link)
        *link = server->next;
    pthread_mutex_unlock(&servers.lock);
}

/* No new connections. Under the lock, since the descriptor's number may at once mean something else, which
 * the child of a fork must not close. */
static void close_door(cprof_http *server)
{
    MHD_quiesce_daemon(server->daemon);
    pthread_mutex_lock(&servers.lock);
    close(server->listener.socket);
    server->listener.socket = -1;
    pthread_mutex_unlock(&servers.lock);
}

/* ---- One request, on the server's thread ---- */

/* Called with the request line as it came; libmicrohttpd decodes its own copy later, which we do not look at.
 */
static void *on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    (void)context;
    (void)connection;
    struct request *request = cprof__calloc(1, sizeof *request);
    if (request && !(request->target = cprof__strdup(target))) {
        cprof__free(request);
        request = NULL;
    }
    return request;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    cprof_http *server = context;
    struct request *request = *state;
    if (!request)
        return;
    server->requests -= request->begun;
    cprof__take_free(&server->recorder, request->take);
    cprof__free(request->target);
    cprof__buffer_fini(&request->body);
    cprof__free(request);
    *state = NULL;
}

static ssize_t no_body(void *context, uint64_t position, char *room, size_t size)
{
    (void)context;
    (void)position;
    (void)room;
    (void)size;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static enum MHD_Result queue(struct MHD_Connection *connection, cprof__response *answer)
{
    struct MHD_Response *response =
        answer->body_unknown ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1, no_body, NULL, NULL)
                             : MHD_create_response_from_buffer_with_free_callback(
                                   answer->body.length, answer->body.data, cprof__free);
    if (!response)
        return MHD_NO;
    if (!answer->body_unknown)
        answer->body = (cprof__buffer){0}; /* it is the response's now */
    enum MHD_Result result = MHD_YES;
    for (size_t i = 0; i < answer->header_count && result == MHD_YES; i++)
        result = MHD_add_response_header(response, answer->headers[i].name, answer->headers[i].value);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum MHD_Result answer(cprof_http *server, struct MHD_Connection *connection, const char *method,
                              struct request *request)
{
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    const cprof__request asked = {
        .method = method,
        .target = request->target,
        .authority = host && host[0] ? host : server->listener.authority,
        .body = request->body.data,
        .body_length = request->body.length,
        .body_too_large = request->body.failed || request->body_bytes > CPROF__HTTP_BODY_BYTES_MAX,
        .no_recording = cprof__recorder_refusal(&server->recorder),
    };
    cprof__response response;
    cprof__routes_answer(&asked, &response);
    enum MHD_Result result = MHD_YES;
    if (!response.recording)
        result = queue(connection, &response);
    else if (!(request->take = cprof__recorder_add(&server->recorder, connection, &response, now_ms())))
        result = MHD_NO;
    cprof__response_fini(&response);
    return result;
}

/* The connection was resumed. */
static enum MHD_Result hand_over(cprof_http *server, struct MHD_Connection *connection,
                                 struct request *request)
{
    cprof__response *response = cprof__take_response(request->take);
    enum MHD_Result result = response ? queue(connection, response) : MHD_NO;
    cprof__take_free(&server->recorder, request->take);
    request->take = NULL;
    return result;
}

/* Called once when the headers are there, then with each piece of the body, then once more, and after each
 * suspension. MHD_NO cuts the connection. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *length,
                                  void **state)
{
    (void)url;
    (void)version;
    cprof_http *server = context;
    struct request *request = *state;
    if (!request)
        return MHD_NO;
    if (!request->begun) {
        request->begun = true;
        server->requests++;
        return MHD_YES;
    }
    if (request->take)
        return hand_over(server, connection, request);
    if (*length == 0)
        return answer(server, connection, method, request);
    request->body_bytes += *length;
    if (request->body_bytes <= CPROF__HTTP_BODY_BYTES_MAX)
        cprof__buffer_append(&request->body, data, *length);
    *length = 0;
    return request->body_bytes <= BODY_BYTES_DRAINED_MAX ? MHD_YES : MHD_NO;
}

/* ---- The thread ---- */

/* The earlier of two moments, of which -1 is never. */
static int64_t earlier(int64_t a_ms, int64_t b_ms)
{
    return a_ms < 0 || (b_ms >= 0 && b_ms < a_ms) ? b_ms : a_ms;
}

/* How long to wait at most, for poll. */
static int timeout(cprof_http *server, int64_t until_ms)
{
    MHD_UNSIGNED_LONG_LONG daemon_ms;
    int64_t left = -1;
    int64_t due_ms = earlier(until_ms, cprof__recorder_due_ms(&server->recorder));
    if (due_ms >= 0) {
        left = due_ms - now_ms();
        if (left < 0)
            left = 0;
    }
    if (MHD_get_timeout(server->daemon, &daemon_ms) == MHD_YES)
        left = earlier(left, daemon_ms < INT_MAX ? (int64_t)daemon_ms : INT_MAX);
    return left < INT_MAX ? (int)left : INT_MAX;
}

/* One turn: waits until there is something to do, or UNTIL_MS (-1: no limit) has come, and does it. */
static void turn(cprof_http *server, int64_t until_ms)
{
    struct pollfd fds[2 + CPROF__HTTP_RECORDINGS_MAX] = {{server->wake, POLLIN, 0},
                                                         {server->epoll, POLLIN, 0}};
    size_t watched = cprof__recorder_watch(&server->recorder, fds + 2);
    uint64_t woken;
    poll(fds, 2 + watched, timeout(server, until_ms)); /* where it fails, it has seen nothing */
    if (fds[0].revents)
        while (read(server->wake, &woken, sizeof woken) < 0 && errno == EINTR) {}
    cprof__recorder_step(&server->recorder, fds + 2, now_ms());
    MHD_run(server->daemon);
}

static void *serve(void *context)
{
    cprof_http *server = context;
    pthread_setname_np(pthread_self(), "cprof-http");
    cprof__thread_begin_quiet();
    while (!atomic_load(&server->stopping))
        turn(server, -1);
    close_door(server);
    cprof__recorder_end(&server->recorder);
    int64_t until_ms = now_ms() + CPROF__HTTP_STOP_SECONDS_MAX * 1000;
    while (server->requests > 0 && now_ms() < until_ms)
        turn(server, until_ms);
    return NULL;
}

/* ---- Start and stop ---- */

static int start_daemon(cprof_http *server)
{
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, server->listener.socket, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, server},
        {MHD_OPTION_CONNECTION_LIMIT, CPROF__HTTP_CONNECTIONS_MAX, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, CPROF__HTTP_IDLE_SECONDS_MAX, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    errno = 0;
    cprof__thread_begin_quiet();
    server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
                                      server, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    cprof__thread_end_quiet();
    if (!server->daemon)
        return errno ? errno : ENOMEM;
    server->epoll = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return 0;
}

/* Makes what is behind the listening socket. Returns: 0 or an errno; then nothing of it is left. */
static int start(cprof_http *server)
{
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake < 0)
        return errno;
    server->recorder.wake = server->wake;
    int error = start_daemon(server);
    if (!error) {
        error = cprof__thread_start(&server->thread, serve, server);
        if (!error)
            return 0;
        MHD_quiesce_daemon(server->daemon); /* the socket is the caller's to close */
        MHD_stop_daemon(server->daemon);
    }
    close(server->wake);
    return error;
}

int cprof_http_start(const cprof_http_options *options, cprof_http **out)
{
    cprof_http_options given = CPROF_HTTP_OPTIONS_INIT;
    if (!out)
        return cprof__fail(CPROF_EINVAL, "out: NULL");
    if (options) {
        if (options->struct_size < sizeof *options)
            return cprof__fail(CPROF_EINVAL, "options: struct_size is %zu", options->struct_size);
        given = *options;
    }
    cprof_http *server = cprof__calloc(1, sizeof *server);
    if (!server)
        return cprof__fail_memory();
    int code = cprof__listen(given.address, given.port, &server->listener);
    if (code) {
        cprof__free(server);
        return code;
    }
    server->process = getpid();
    int error = start(server);
    if (error) {
        code = cprof__fail_errno(error, "cannot serve on %s", server->listener.authority);
        close(server->listener.socket);
        cprof__free(server);
        return code;
    }
    enlist(server);
    *out = server;
    return CPROF_OK;
}

int cprof_http_port(const cprof_http *server)
{
    return server->listener.port;
}

void cprof_http_stop(cprof_http *server)
{
    if (!server)
        return;
    if (server->process == getpid()) {
        atomic_store(&server->stopping, true);
        uint64_t one = 1;
        while (write(server->wake, &one, sizeof one) < 0 && errno == EINTR) {}
        pthread_join(server->thread, NULL);
        delist(server); /* before its other descriptors are closed, for the same reason as in close_door */
        cprof__recorder_resume_all(&server->recorder);
        MHD_stop_daemon(server->daemon);
        close(server->wake);
    }
    cprof__free(server);
}
