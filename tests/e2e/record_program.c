/* SPDX-License-Identifier: MIT
 *
 * A program that ends, or becomes another, in the way that its argument names (record_test.sh). It burns CPU time in
 * functions whose names say where it has been.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS 0.2

static volatile double sink;

__attribute__((noinline)) static void burn(double seconds)
{
    struct timespec now;
    double stop = 0;
    do {
        for (int i = 0; i < 20000; i++)
            sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        stop = stop ? stop : (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds;
    } while ((double)now.tv_sec + (double)now.tv_nsec / 1e9 < stop);
}

__attribute__((noinline)) static void at_first(void)
{
    burn(SECONDS);
    sink += 1; /* no two are alike, lest they be folded */
}

__attribute__((noinline)) static void in_the_child(void)
{
    burn(SECONDS);
    sink += 2;
}

__attribute__((noinline)) static void at_last(void)
{
    burn(SECONDS);
    sink += 3;
}

static void *in_a_thread(void *unused)
{
    at_last();
    return unused;
}

static int wait_for(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static int forks(void)
{
    pid_t child = fork();
    if (child == 0) {
        in_the_child();
        _exit(3);
    }
    at_last();
    return wait_for(child);
}

static int vforks(const char *self)
{
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "exit", (char *)NULL);
        _exit(127);
    }
    at_last();
    return wait_for(child);
}

static int becomes(const char *self)
{
    execlp("no-such-program-anywhere", "none", (char *)NULL);
    at_last();
    execl(self, self, "exit", (char *)NULL);
    return 1;
}

static int daemonises(void)
{
    if (daemon(1, 0) != 0)
        return 1;
    in_the_child();
    return 0;
}

/* Closes its descriptors as daemons do, and opens others in their places. */
static int closes(void)
{
    closefrom(0);
    for (int i = 0; i < 120; i++)
        if (open("/dev/null", O_WRONLY) < 0)
            return 1;
    exit(3);
}

/* Leaves a child behind that has closed its standard descriptors and lives on. */
static int leaves_a_child(void)
{
    if (fork() != 0)
        return 0;
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        close(fd);
    sleep(15);
    _exit(0);
}

/* Shows a title in place of its arguments. */
static int titled(char **argv)
{
    memset(argv[0], '/', strlen(argv[0]));
    exit(3);
}

static int threads(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, in_a_thread, NULL);
    pthread_join(thread, NULL);
    return 0;
}

/* Whoever asks for the file while this runs is likely to meet malloc's lock taken. */
static int allocates(void)
{
    for (;;) {
        void *blocks[64];
        for (int i = 0; i < 64; i++)
            blocks[i] = malloc(200000 + 4096 * (size_t)i);
        for (int i = 0; i < 64; i++)
            free(blocks[i]);
    }
}

/* Whether all signals that end a process are as exec leaves them; those of a crash may have handlers. */
static int looks_at_signals(void)
{
    for (int number = 1; number <= SIGRTMAX; number++) {
        const char *name = number < SIGRTMIN ? sigabbrev_np(number) : "RT";
        struct sigaction action = {.sa_handler = SIG_DFL};
        if (!name || strstr(" ILL TRAP ABRT BUS FPE SEGV SYS URG ", name))
            continue;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf("%s has a handler\n", name);
    }
    return 0;
}

/* The signal may come while the program does something else than to wait; write alone is safe then. */
static void clean_up(int number)
{
    (void)!write(STDOUT_FILENO, "clean\n", 6);
    signal(number, SIG_DFL);
    raise(number);
}

static void go_on(int number)
{
    (void)number;
}

/* Has handlers for signals, and gives one of them back. Returns whether all was as without us. */
static int handles(void)
{
    struct sigaction action = {.sa_handler = go_on}, old;
    return sigaction(SIGRTMIN, &action, NULL) == 0 && raise(SIGRTMIN) == 0 &&
           signal(SIGPROF, go_on) == SIG_DFL && raise(SIGPROF) == 0 && signal(SIGTERM, clean_up) == SIG_DFL &&
           sigaction(SIGIO, &action, &old) == 0 && old.sa_handler == SIG_DFL &&
           sigaction(SIGIO, &old, &action) == 0 && action.sa_handler == go_on;
}

static int ends(const char *how)
{
    if (strcmp(how, "exit") == 0)
        exit(3);
    if (strcmp(how, "_exit") == 0)
        _exit(3);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(3);
    if (strcmp(how, "pthread_exit") == 0)
        pthread_exit(NULL);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "crash") == 0)
        *(volatile int *)8 = 1;
    if (strcmp(how, "pipe") == 0)
        for (;;)
            puts("a line that nobody reads to the end");
    if (strcmp(how, "sleep") == 0 || strcmp(how, "handle") == 0) {
        sleep(60);
        puts("woke up");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "handle") == 0 && !handles())
        return 1;
    at_first();
    puts("ready");
    fflush(stdout);
    if (strcmp(how, "fork") == 0)
        return forks();
    if (strcmp(how, "vfork") == 0)
        return vforks(argv[0]);
    if (strcmp(how, "exec") == 0)
        return becomes(argv[0]);
    if (strcmp(how, "daemon") == 0)
        return daemonises();
    if (strcmp(how, "close") == 0)
        return closes();
    if (strcmp(how, "background") == 0)
        return leaves_a_child();
    if (strcmp(how, "title") == 0)
        return titled(argv);
    if (strcmp(how, "look") == 0)
        return looks_at_signals();
    if (strcmp(how, "threads") == 0)
        return threads();
    if (strcmp(how, "system") == 0)
        return WEXITSTATUS(system(argv[2]));
    if (strcmp(how, "malloc") == 0)
        return allocates();
    return ends(how);
}
