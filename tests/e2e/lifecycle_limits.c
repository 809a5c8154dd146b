/* SPDX-License-Identifier: MIT
 *
 * Scenes of lifecycle.c in which something runs out.
 */
#define _GNU_SOURCE
#include "lifecycle.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

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

/* From now on perf_event_open is forbidden, and where CPU_TIMERS, so are timers but those of the monotonic clock, as
 * in a container. */
static bool forbid(bool cpu_timers)
{
    const unsigned timers = cpu_timers ? SYS_timer_create : UINT32_MAX;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, timers, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_MONOTONIC, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int with_engine(const char *wanted)
{
    cprof_recording *recording = start(file);
    MUST(strcmp(cprof_recording_engine(recording), wanted) == 0);
    burn(100);
    return stop(recording);
}

static void refuses(const char *engine)
{
    cprof_recording *none = NULL;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    options.engine = engine;
    MUST(cprof_start_cpu_profile(&options, &none) == CPROF_ESYSTEM && !none);
    MUST(strstr(cprof_last_error(), engine));
}

/* The next engine in the order serves; one that is asked for is that one or none. */
int no_perf(void)
{
    if (!forbid(false))
        return 98;
    refuses("perf");
    return with_engine("timer");
}

int no_cpu_timers(void)
{
    if (!forbid(true))
        return 98;
    refuses("perf");
    refuses("timer");
    return with_engine("monotonic");
}

/* A library is loaded while a recording runs, uses MS milliseconds, and is gone. */
static NOINLINE int load_for(clock_t ms)
{
    const char *path = getenv("LIFECYCLE_PLUGIN");
    cprof_recording *recording = start(file);
    void *library = dlopen(path ? path : "", RTLD_NOW);
    MUST(library);
    uint64_t (*run)(unsigned) = (uint64_t(*)(unsigned))dlsym(library, "plugin_run");
    MUST(run);
    for (clock_t end = clock() + CLOCKS_PER_SEC / 1000 * ms; clock() < end;)
        run(1000);
    dlclose(library);
    burn(10);
    return stop(recording);
}

/* What was sampled in a library is told by its name, also when it is gone. */
int unloads(void)
{
    return load_for(500);
}

/* And where it was gone before the collector would have looked around. */
int unloads_soon(void)
{
    return load_for(40);
}
