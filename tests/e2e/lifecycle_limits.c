/* SPDX-License-Identifier: MIT
 *
 * Scenes of lifecycle.c in which something runs out.
 */
#define _GNU_SOURCE
#include "lifecycle.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

/* What the host opens next is its own, and the sampler goes on. */
int closes_all(void)
{
    char text[16] = "";
    cprof_recording *recording = start(file);
    burn(30);
    closefrom(3);
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    MUST(fd >= 0 && write(fd, "untouched", 9) == 9 && lseek(fd, 0, SEEK_SET) == 0);
    burn(300);
    MUST(read(fd, text, sizeof text) == 9 && strcmp(text, "untouched") == 0);
    return stop(recording);
}

static void set_limit(__rlimit_resource_t which, rlim_t value)
{
    struct rlimit limit;
    MUST(getrlimit(which, &limit) == 0);
    limit.rlim_cur = value;
    MUST(setrlimit(which, &limit) == 0);
}

/* Threads that come when there is no descriptor left are sampled by timers. */
int no_descriptors(void)
{
    int fds[256], count = 0;
    set_limit(RLIMIT_NOFILE, 64);
    cprof_recording *recording = start(file);
    while ((fds[count] = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    pthread_t thread = spawn(burner, 0);
    burn(100);
    pthread_join(thread, NULL);
    while (count > 0)
        close(fds[--count]);
    return stop(recording);
}

/* Not even at the start. */
int no_descriptors_before(void)
{
    int fds[256], count = 0;
    set_limit(RLIMIT_NOFILE, 64);
    while ((fds[count] = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    close(fds[--count]); /* for trying the output */
    cprof_recording *recording = start(file);
    fds[count] = open("/dev/null", O_RDONLY);
    count += fds[count] >= 0;
    burn(200);
    while (count > 0)
        close(fds[--count]);
    return stop(recording);
}

/* Where timers cannot be had, that is said; what needs none goes on. */
int no_timers(void)
{
    cprof_recording *recording = NULL, *none = NULL;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    set_limit(RLIMIT_SIGPENDING, 0);
    options.engine = "timer";
    int code = cprof_start_cpu_profile(&options, &none);
    MUST(code < 0 && !none && strstr(cprof_last_error(), "timer"));
    options.engine = NULL;
    options.output = file;
    code = cprof_start_cpu_profile(&options, &recording);
    if (code != 0)
        return 98; /* no perf events here */
    burn(100);
    return stop(recording);
}
