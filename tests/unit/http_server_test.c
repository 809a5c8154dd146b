/* SPDX-License-Identifier: MIT
 *
 * http/server.c and listen.c over real connections: curl and `go tool pprof` judge what is answered; slow,
 * rude and many clients come; and stop, fork and exec leave nothing behind.
 */
#define _GNU_SOURCE
#include "client.h"
#include "cprof.h"
#include "http/routes.h"
#include "judge.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CURL "curl -sS --max-time 60 "
#define BLOBS 800

static cprof_http *server;
static int port;

static cprof_http *start(const char *address, int at_port)
{
    cprof_http_options options = CPROF_HTTP_OPTIONS_INIT;
    options.address = address;
    options.port = at_port;
    cprof_http *started;
    if (cprof_http_start(&options, &started) != 0)
        fail_msg("%s", cprof_last_error());
    return started;
}

static int start_server(void **state)
{
    (void)state;
    server = start(NULL, 0);
    port = cprof_http_port(server);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    cprof_http_stop(server);
    server = NULL;
    return 0;
}

/* ---- What is answered ---- */

static void pprof_reads_what_is_served(void **state)
{
    (void)state;
    char *top = judge_ask("go tool pprof -top http://127.0.0.1:%d/debug/pprof/blobstore.Open", port);
    assert_found(top, "Type: blobstore.Open\n");
    assert_found(top, "of 800 total");
    free(top);
    top = judge_ask("go tool pprof -top 'http://127.0.0.1:%d/debug/pprof/a/b%%20c?debug=1'", port);
    assert_found(top, "Type: a/b%20c\n");
    free(top);
    judge_bytes output = {0};
    assert_int_not_equal(judge_run(&output, "go tool pprof -top http://127.0.0.1:%d/debug/pprof/nope", port),
                         0);
    assert_found(output.data, "server response: 404 Not Found - Unknown profile");
    free(output.data);
}

static void headers_are_those_of_go(void **state)
{
    (void)state;
    char *got = judge_ask(CURL "-i http://127.0.0.1:%d/debug/pprof/blobstore.Open?debug=1", port);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "\r\nContent-Type: text/plain; charset=utf-8\r\n");
    assert_found(got, "\r\nX-Content-Type-Options: nosniff\r\n");
    assert_found(got, "\r\n\r\nblobstore.Open profile: total 800\n");
    free(got);
    got = judge_ask(CURL "-I http://127.0.0.1:%d/debug/pprof/", port);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    char *body = judge_ask(CURL "http://127.0.0.1:%d/debug/pprof/", port);
    char length[64];
    snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body));
    assert_found(got, length);
    assert_found(body, "http://127.0.0.1:");
    free(got);
    free(body);
    got = judge_ask(CURL "-i -X DELETE http://127.0.0.1:%d/debug/pprof/blobstore.Open", port);
    assert_prefix(got, "HTTP/1.1 405 Method Not Allowed\r\n");
    assert_found(got, "\r\nAllow: GET, HEAD\r\n");
    free(got);
    got = judge_ask(CURL "-i http://127.0.0.1:%d/debug/pprof/nope", port);
    assert_prefix(got, "HTTP/1.1 404 Not Found\r\n");
    assert_found(got, "\r\nX-Go-Pprof: 1\r\n");
    free(got);
    got = judge_ask(CURL "-L http://127.0.0.1:%d/debug/pprof -H 'Host: blobs.example:1'", port);
    assert_found(got, "http://blobs.example:1/debug/pprof/blobstore.Open");
    free(got);
}

/* curl resolves dots in a path as browsers do. */
static void every_link_of_the_index_works(void **state)
{
    (void)state;
    char *links = judge_ask(
        CURL "http://127.0.0.1:%d/debug/pprof/ | sed -n 's/.*href=\"\\([^\"]*\\)\">download.*/\\1/p' "
             "| sed 's/&#38;/\\&/g'",
        port);
    int count = 0;
    for (char *link = strtok(links, "\n"); link; link = strtok(NULL, "\n"), count++) {
        char *code = judge_ask(
            CURL "-o /dev/null -w '%%{http_code} %%{content_type}' 'http://127.0.0.1:%d/debug/pprof/%s'",
            port, link);
        assert_string_equal(code, "200 application/octet-stream");
        free(code);
    }
    assert_int_equal(count, 4);
    free(links);
}

static void bodies_are_bounded(void **state)
{
    (void)state;
    char *ready = judge_ask("head -c %zu /dev/zero | tr '\\0' + > most && { cat most; echo; } > more && "
                            "head -c 64M /dev/zero > flood",
                            CPROF__HTTP_BODY_BYTES_MAX);
    free(ready);
    char *got =
        judge_ask(CURL "-H Expect: -i --data-binary @most http://127.0.0.1:%d/debug/pprof/symbol", port);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "\r\n\r\nnum_symbols: 1\n");
    free(got);
    got = judge_ask(CURL "-H Expect: -i --data-binary @more http://127.0.0.1:%d/debug/pprof/symbol", port);
    assert_prefix(got, "HTTP/1.1 413 ");
    free(got);
    got = judge_ask(
        CURL
        "-w '%%{http_code}' -o /dev/null --data-binary @more http://127.0.0.1:%d/debug/pprof/blobstore.Open",
        port);
    assert_string_equal(got, "405");
    free(got);
    judge_bytes output = {0};
    assert_int_not_equal(
        judge_run(&output, CURL "-H Expect: --data-binary @flood http://127.0.0.1:%d/debug/pprof/symbol",
                  port),
        0);
    free(output.data);
    got = judge_ask("head -c 8000 /dev/zero | tr '\\0' x > name; " CURL
                    "-w '%%{http_code}' -o /dev/null http://127.0.0.1:%d/debug/pprof/$(cat name)",
                    port);
    assert_string_equal(got, "404");
    free(got);
}

/* ---- Many clients, slow ones, rude ones ---- */

static void fifty_at_once(void **state)
{
    (void)state;
    char *got = judge_ask(
        CURL "--parallel --parallel-immediate --parallel-max 50 -o 'all_#1' "
             "'http://127.0.0.1:%d/debug/pprof/blobstore.Open?debug=1&n=[1-50]' 2> progress && cat all_* | "
             "grep -c '^blobstore.Open profile: total 800$'",
        port);
    assert_string_equal(got, "50\n");
    free(got);
}

static void a_slow_client_holds_nobody_up(void **state)
{
    (void)state;
    int slow = client_connect(port);
    client_say(slow, "GET /debug/pprof/cmd");
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/blobstore.Open", port));
    client_say(slow, "line HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/blobstore.Open", port));
    client_say(slow, "\r\n");
    char *got = client_hear(slow);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "http_server_test");
    free(got);
}

static void aborted_clients_leave_nothing(void **state)
{
    (void)state;
    static const char *const beginnings[] = {
        "",
        "GET /debug",
        "GET /debug/pprof/blobstore.Open HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0x1",
        "GET / HTTP/1.1\r\n: no name\r\n\r\n",
        "\r\n\r\n\x16\x03\x01 not HTTP\r\n\r\n",
        "GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    size_t files = client_open_files();
    for (int i = 0; i < 140; i++) {
        int fd = client_connect(port);
        client_say(fd, beginnings[i % 7]);
        const struct linger reset = {1, 0};
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        close(fd);
    }
    /* The server learns of each within its next turns; every answered request is at least one of them. */
    for (int i = 0; i < 100 && client_open_files() > files; i++)
        free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/cmdline", port));
    assert_true(client_open_files() <= files);
}

/* ---- Starting ---- */

static void wrong_addresses_are_named(void **state)
{
    (void)state;
    cprof_http *out = (cprof_http *)&port;
    cprof_http_options options = CPROF_HTTP_OPTIONS_INIT;
    options.address = "localhost";
    assert_int_equal(cprof_http_start(&options, &out), CPROF_EINVAL);
    assert_string_equal(cprof_last_error(), "address: 'localhost' is not a numeric IPv4 or IPv6 address");
    options.address = NULL;
    options.port = 65536;
    assert_int_equal(cprof_http_start(&options, &out), CPROF_EINVAL);
    assert_string_equal(cprof_last_error(), "port: 65536 is not between 0 and 65535");
    options.port = -1;
    assert_int_equal(cprof_http_start(&options, &out), CPROF_EINVAL);
    options.port = port;
    assert_int_equal(cprof_http_start(&options, &out), CPROF_EADDRINUSE);
    char wanted[96];
    snprintf(wanted, sizeof wanted, "cannot listen on 127.0.0.1:%d: Address already in use", port);
    assert_string_equal(cprof_last_error(), wanted);
    assert_string_equal(cprof_last_error_name(), "EADDRINUSE");
    options.address = "192.0.2.1"; /* for documentation: no machine has it */
    options.port = 0;
    assert_int_equal(cprof_http_start(&options, &out), CPROF_ESYSTEM);
    assert_string_equal(cprof_last_error(), "cannot listen on 192.0.2.1:0: Cannot assign requested address");
    assert_string_equal(cprof_last_error_name(), "EADDRNOTAVAIL");
    options.struct_size = 3;
    assert_int_equal(cprof_http_start(&options, &out), CPROF_EINVAL);
    assert_int_equal(cprof_http_start(NULL, NULL), CPROF_EINVAL);
    assert_ptr_equal(out, &port);
}

static void ipv6_where_the_machine_has_it(void **state)
{
    (void)state;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool there = probe >= 0 && bind(probe, (const struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (probe >= 0)
        close(probe);
    cprof_http_options options = CPROF_HTTP_OPTIONS_INIT;
    options.address = "::1";
    cprof_http *six;
    int error = cprof_http_start(&options, &six);
    if (!there) {
        assert_int_equal(error, CPROF_ESYSTEM);
        return;
    }
    assert_int_equal(error, 0);
    char *got = judge_ask(CURL "-g 'http://[::1]:%d/debug/pprof/'", cprof_http_port(six));
    assert_found(got, "go tool pprof http://[::1]:");
    free(got);
    assert_int_equal((options.port = cprof_http_port(six), cprof_http_start(&options, &six)),
                     CPROF_EADDRINUSE);
    assert_prefix(cprof_last_error(), "cannot listen on [::1]:");
    cprof_http_stop(six);
}

static void memory_may_run_out_at_the_start(void **state)
{
    (void)state;
    size_t files = client_open_files();
    cprof_http *out;
    cprof__alloc_fail_after(0);
    int error = cprof_http_start(NULL, &out);
    cprof__alloc_fail_after(-1);
    assert_int_equal(error, CPROF_ENOMEM);
    assert_int_equal(client_open_files(), files);
}

/* Reads "Key:\tVALUE" of a thread of ours called NAME. */
static bool thread_status(const char *name, const char *key, char value[256])
{
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    bool found = false;
    for (struct dirent *task; !found && (task = readdir(tasks)) != NULL;) {
        char path[300], line[256], is_name = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            line[strcspn(line, "\n")] = 0;
            if (strncmp(line, "Name:\t", 6) == 0)
                is_name = strcmp(line + 6, name) == 0;
            if (is_name && strncmp(line, key, strlen(key)) == 0) {
                snprintf(value, 256, "%s", line + strlen(key));
                found = true;
            }
        }
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return found;
}

static void the_thread_is_named_and_deaf_to_signals(void **state)
{
    (void)state;
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/cmdline", port)); /* so that it has begun */
    char mask[256];
    assert_true(thread_status("cprof-http", "SigBlk:\t", mask));
    unsigned long long blocked = strtoull(mask, NULL, 16);
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGALRM, SIGCHLD, SIGPROF, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        assert_true(blocked >> (signals[i] - 1) & 1);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        assert_false(blocked >> (faults[i] - 1) & 1);
    sigset_t ours;
    pthread_sigmask(SIG_SETMASK, NULL, &ours);
    assert_false(sigismember(&ours, SIGTERM)); /* the starter's own mask is as it was */
}

/* ---- Stopping ---- */

static void *stop_in_thread(void *stopped)
{
    cprof_http_stop(stopped);
    return NULL;
}

static void stop_waits_for_requests_under_way(void **state)
{
    (void)state;
    size_t files = client_open_files();
    cprof_http *stopped = start(NULL, 0);
    int at = cprof_http_port(stopped);
    int idle = client_connect(at), busy = client_connect(at);
    client_say(idle, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n");
    char first;
    assert_int_equal(recv(idle, &first, 1, 0), 1); /* answered, and kept alive */
    client_say(
        busy,
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n");
    assert_int_equal(recv(busy, &first, 1, 0), 1); /* of "100 Continue": under way */
    pthread_t stopper;
    assert_int_equal(pthread_create(&stopper, NULL, stop_in_thread, stopped), 0);
    int refused; /* until the stop has closed the door; who was still waiting in front of it is reset */
    while ((refused = client_connect(at)) >= 0 || errno == ECONNRESET)
        if (refused >= 0)
            close(refused);
    assert_int_equal(errno, ECONNREFUSED);
    client_say(busy, "0x1+0x2");
    char *got = client_hear(busy);
    assert_found(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "num_symbols: 1\n");
    free(got);
    pthread_join(stopper, NULL);
    got = client_hear(idle);
    free(got);
    assert_int_equal(client_open_files(), files);
    cprof_http_stop(NULL);
}

static void a_port_is_free_again_at_once(void **state)
{
    (void)state;
    int at = 0;
    for (int i = 0; i < 20; i++) {
        cprof_http *again = start(NULL, at);
        at = cprof_http_port(again);
        int client = client_connect(at);
        client_say(client, "GET /debug/pprof/cmdline HTTP/1.0\r\n\r\n");
        free(client_hear(client));
        cprof_http_stop(again);
    }
}

/* Returns NULL where all went well. */
static void *start_and_stop(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        cprof_http *one;
        if (cprof_http_start(NULL, &one) != 0)
            return &port;
        int client = client_connect(cprof_http_port(one));
        if (client < 0)
            return &port;
        close(client);
        cprof_http_stop(one);
    }
    return NULL;
}

static void servers_come_and_go_on_many_threads(void **state)
{
    (void)state;
    size_t files = client_open_files();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_and_stop, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    assert_int_equal(client_open_files(), files);
}

/* A child that lives on must not keep the parent's port: clients would wait there for ever. */
static void a_forked_child_does_not_hold_the_port(void **state)
{
    (void)state;
    cprof_http *parents = start(NULL, 0);
    int at = cprof_http_port(parents), hold[2];
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    if (child == 0) {
        char end;
        close(hold[1]);
        int got = (int)read(hold[0], &end, 1); /* until the parent is through */
        cprof_http_stop(parents); /* must neither wait for a thread that is not here nor touch the parent's */
        bool served = true;
#ifndef __SANITIZE_THREAD__ /* which bears no new thread in a child of a process with threads */
        cprof_http *own;
        served = cprof_http_start(NULL, &own) == 0;
        if (served)
            cprof_http_stop(own);
#endif
        _exit(got == 0 && served ? 0 : 1);
    }
    close(hold[0]);
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/cmdline", at)); /* the parent serves on */
    cprof_http_stop(parents);
    assert_int_equal(client_connect(at), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(hold[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void programs_that_are_executed_inherit_nothing(void **state)
{
    (void)state;
    int client = client_connect(port);
    client_say(client, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n");
    char first;
    assert_int_equal(recv(client, &first, 1, 0), 1);
    char *got =
        judge_ask("ls -l /proc/self/fd < /dev/null | grep -E 'socket|event' | grep -cvE ' [012] ->'; true");
    assert_string_equal(got, "0\n");
    free(got);
    close(client);
}

static int setup(void **state)
{
    static const char keys[BLOBS];
    static const char *const others[] = {"a/b c", "..", "gr\xc3\xbcn & <blau>"};
    cprof_profile *blobs, *other;
    if (cprof_profile_new("blobstore.Open", NULL, &blobs) != 0)
        return -1;
    for (size_t i = 0; i < BLOBS; i++)
        if (cprof_profile_add(blobs, &keys[i], 1) != 0)
            return -1;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (cprof_profile_new(others[i], NULL, &other) != 0 || cprof_profile_add(other, keys, 1) != 0)
            return -1;
    return judge_setup(state);
}

#define SERVED(TEST) cmocka_unit_test_setup_teardown(TEST, start_server, stop_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(pprof_reads_what_is_served),
        SERVED(headers_are_those_of_go),
        SERVED(every_link_of_the_index_works),
        SERVED(bodies_are_bounded),
        SERVED(fifty_at_once),
        SERVED(a_slow_client_holds_nobody_up),
        SERVED(aborted_clients_leave_nothing),
        SERVED(wrong_addresses_are_named),
        SERVED(the_thread_is_named_and_deaf_to_signals),
        SERVED(programs_that_are_executed_inherit_nothing),
        cmocka_unit_test(ipv6_where_the_machine_has_it),
        cmocka_unit_test(memory_may_run_out_at_the_start),
        cmocka_unit_test(stop_waits_for_requests_under_way),
        cmocka_unit_test(a_port_is_free_again_at_once),
        cmocka_unit_test(servers_come_and_go_on_many_threads),
        cmocka_unit_test(a_forked_child_does_not_hold_the_port),
    };
    return cmocka_run_group_tests_name("http server", tests, setup, judge_teardown);
}
