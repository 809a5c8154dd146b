/* SPDX-License-Identifier: MIT
 *
 * http/recorder.c over real connections: CPU profiles of the seconds to come, many at once, beside other
 * requests; with clients that leave, a server that stops and a process that forks meanwhile.
 */
#define _GNU_SOURCE
#include "client.h"
#include "cprof.h"
#include "http/cpu.h"
#include "http/recorder.h"
#include "judge.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CURL "curl -sS --max-time 60 "
#define FOR_LONG "3600" /* seconds: a test that waited for the end of these would be stopped */

static cprof_http *server;
static int port;

static int start_server(void **state)
{
    (void)state;
    if (cprof_http_start(NULL, &server) != 0)
        return -1;
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

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void nap(void)
{
    const struct timespec a_while = {0, 20000000};
    nanosleep(&a_while, NULL);
}

/* Whether anything of a sampler is armed in this process: a timer, or a file of perf's. */
static bool sampling(void)
{
    FILE *timers = fopen("/proc/self/timers", "r");
    bool found = timers && fgetc(timers) != EOF;
    if (timers)
        fclose(timers);
    DIR *files = opendir("/proc/self/fd");
    assert_non_null(files);
    for (struct dirent *file; !found && (file = readdir(files)) != NULL;) {
        char path[300], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%s", file->d_name);
        found = readlink(path, target, sizeof target - 1) > 0 && strstr(target, "perf_event");
    }
    closedir(files);
    return found;
}

static void wait_until_sampling(bool wanted)
{
    for (int i = 0; i < 1000 && sampling() != wanted; i++)
        nap();
    assert_int_equal(sampling(), wanted);
}

/* A client that asks for a profile of SECONDS. */
static int ask(int at_port, const char *seconds, const char *headers)
{
    char text[256];
    int fd = client_connect(at_port);
    assert_true(fd >= 0);
    snprintf(text, sizeof text, "GET /debug/pprof/profile?seconds=%s HTTP/1.1\r\nHost: x\r\n%s\r\n", seconds,
             headers);
    client_say(fd, text);
    return fd;
}

/* All that FD says is one answer: a gzipped file. */
static void assert_profile_comes(int fd)
{
    char *got = client_hear(fd);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "\r\nContent-Type: application/octet-stream\r\n");
    assert_found(got, "\r\n\r\n\x1f\x8b");
    free(got);
}

/* ---- What is answered ---- */

static void a_profile_is_answered_as_by_go(void **state)
{
    (void)state;
    double before_s = now_s();
    char *got =
        judge_ask(CURL "-D head -o cpu.pb.gz 'http://127.0.0.1:%d/debug/pprof/profile?seconds=1&debug=1' && "
                       "cat head",
                  port);
    assert_true(now_s() - before_s >= 1);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_found(got, "\r\nContent-Type: application/octet-stream\r\n");
    assert_found(got, "\r\nContent-Disposition: attachment; filename=\"profile\"\r\n");
    assert_found(got, "\r\nX-Content-Type-Options: nosniff\r\n");
    free(got);
    got = judge_ask("go tool pprof -raw cpu.pb.gz");
    assert_found(got, "samples/count cpu/nanoseconds");
    free(got);
    got = judge_ask("go tool pprof -top -seconds 1 http://127.0.0.1:%d/debug/pprof/profile", port);
    assert_found(got, "Type: cpu\n");
    free(got);
    assert_false(sampling());
}

static void what_it_cannot_mean_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"hz=0",   "hz=-1",     "hz=4001",     "hz=x",
                                      "mode=x", "engine=no", "seconds=3601"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *got = judge_ask(CURL "-i 'http://127.0.0.1:%d/debug/pprof/profile?%s'", port, bad[i]);
        assert_prefix(got, "HTTP/1.1 400 ");
        assert_found(got, "\r\nX-Go-Pprof: 1\r\n");
        free(got);
    }
}

static void a_head_records_nothing(void **state)
{
    (void)state;
    char *got = judge_ask(CURL "-I http://127.0.0.1:%d/debug/pprof/profile?seconds=" FOR_LONG, port);
    assert_prefix(got, "HTTP/1.1 200 OK\r\n");
    assert_null(strcasestr(got, "content-length"));
    free(got);
    assert_false(sampling());
}

static void a_connection_goes_on_after_its_profile(void **state)
{
    (void)state;
    int fd = ask(port, "1", "");
    client_say(fd, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    judge_bytes bytes = {0};
    char piece[4096];
    for (ssize_t length; (length = recv(fd, piece, sizeof piece, 0)) > 0;)
        assert_int_equal(judge_write(&bytes, piece, (size_t)length), 0);
    close(fd);
    assert_true(bytes.data && strncmp(bytes.data, "HTTP/1.1 200 OK\r\n", 17) == 0);
    assert_true(bytes.data && memmem(bytes.data, bytes.length, "http_recorder_test", 18));
    free(bytes.data);
}

/* ---- Many, and others beside them ---- */

static void others_are_answered_meanwhile(void **state)
{
    (void)state;
    int fd[] = {ask(port, "2", "Connection: close\r\n"), ask(port, "1", "Connection: close\r\n"),
                ask(port, FOR_LONG, "")};
    wait_until_sampling(true);
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/", port));
    assert_profile_comes(fd[1]);
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/", port));
    assert_profile_comes(fd[0]);
    assert_true(sampling());
    close(fd[2]);
    wait_until_sampling(false);
}

/* Asks for profiles until one is answered with STATUS. */
static void wait_for_status(const char *status)
{
    bool came = false;
    for (int i = 0; i < 200 && !came; i++) {
        char *got = judge_ask(
            CURL "-o answer -w '%%{http_code}' http://127.0.0.1:%d/debug/pprof/profile?seconds=1", port);
        came = strcmp(got, status) == 0;
        free(got);
        nap();
    }
    assert_true(came);
}

static void too_many_are_refused_and_the_rest_is_answered(void **state)
{
    (void)state;
    int fd[CPROF__HTTP_RECORDINGS_MAX];
    for (size_t i = 0; i < CPROF__HTTP_RECORDINGS_MAX; i++)
        fd[i] = ask(port, FOR_LONG, "");
    wait_for_status("503");
    char *got = judge_ask("cat answer");
    assert_string_equal(got, "too many profiles are being recorded\n");
    free(got);
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/", port));
    for (size_t i = 0; i < CPROF__HTTP_RECORDINGS_MAX; i++)
        close(fd[i]);
    wait_until_sampling(false);
    wait_for_status("200"); /* once what they left is done with */
}

/* ---- Clients that go ---- */

static void a_recording_ends_when_its_client_goes(void **state)
{
    (void)state;
    size_t files = client_open_files();
    for (int rude = 0; rude < 2; rude++) {
        int fd = ask(port, FOR_LONG, "");
        wait_until_sampling(true);
        const struct linger reset = {1, 0};
        if (rude)
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        close(fd);
        wait_until_sampling(false);
    }
    for (int i = 0; i < 1000 && client_open_files() > files; i++)
        nap();
    assert_true(client_open_files() <= files);
}

static void a_client_that_only_stopped_writing_gets_what_there_is(void **state)
{
    (void)state;
    int fd = ask(port, FOR_LONG, "");
    wait_until_sampling(true);
    shutdown(fd, SHUT_WR);
    assert_profile_comes(fd);
    assert_false(sampling());
}

/* ---- The end of the server ---- */

static void a_stop_ends_the_profiles_and_sends_them(void **state)
{
    (void)state;
    size_t files = client_open_files();
    cprof_http *stopped;
    assert_int_equal(cprof_http_start(NULL, &stopped), 0);
    int one = ask(cprof_http_port(stopped), FOR_LONG, ""), two = ask(cprof_http_port(stopped), "30", "");
    wait_until_sampling(true);
    free(judge_ask(CURL "-f http://127.0.0.1:%d/debug/pprof/", cprof_http_port(stopped)));
    cprof_http_stop(stopped);
    assert_profile_comes(one);
    assert_profile_comes(two);
    assert_false(sampling());
    assert_int_equal(client_open_files(), files);
}

static void *stop_in_thread(void *stopped)
{
    cprof_http_stop(stopped);
    return NULL;
}

/* A stop while a profile is just made into an answer. */
static void a_stop_may_come_at_any_moment(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        cprof_http *stopped;
        assert_int_equal(cprof_http_start(NULL, &stopped), 0);
        int stays = ask(cprof_http_port(stopped), FOR_LONG, ""),
            goes = ask(cprof_http_port(stopped), "1", "");
        if (i % 2)
            wait_until_sampling(true);
        pthread_t stopper;
        assert_int_equal(pthread_create(&stopper, NULL, stop_in_thread, stopped), 0);
        close(goes);
        pthread_join(stopper, NULL);
        free(client_hear(stays));
        assert_false(sampling());
    }
}

static void a_fork_does_not_end_the_parents_profile(void **state)
{
    (void)state;
    int fd = ask(port, "1", "Connection: close\r\n");
    wait_until_sampling(true);
    pid_t child = fork();
    if (child == 0) {
        cprof_http_stop(server);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_profile_comes(fd);
}

/* What the sampler opens once and for all is open before any test counts. */
static int setup(void **state)
{
    cprof_recording *recording;
    if (cprof_start_cpu_profile(NULL, &recording) != 0)
        return -1;
    cprof_recording_free(recording);
    return judge_setup(state);
}

#define SERVED(TEST) cmocka_unit_test_setup_teardown(TEST, start_server, stop_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(a_profile_is_answered_as_by_go),
        SERVED(what_it_cannot_mean_is_refused),
        SERVED(a_head_records_nothing),
        SERVED(a_connection_goes_on_after_its_profile),
        SERVED(others_are_answered_meanwhile),
        SERVED(too_many_are_refused_and_the_rest_is_answered),
        SERVED(a_recording_ends_when_its_client_goes),
        SERVED(a_client_that_only_stopped_writing_gets_what_there_is),
        cmocka_unit_test(a_stop_ends_the_profiles_and_sends_them),
        cmocka_unit_test(a_stop_may_come_at_any_moment),
        SERVED(a_fork_does_not_end_the_parents_profile),
    };
    return cmocka_run_group_tests_name("http recorder", tests, setup, judge_teardown);
}
