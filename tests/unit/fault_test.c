/* SPDX-License-Identifier: MIT
 *
 * Loads that may fault: good and bad addresses; a fault of the program's own reaches the program's handler with what
 * belongs to it, or ends the process as it would have; who comes later is noticed; the old handler comes back.
 */
#define _GNU_SOURCE
#include "test.h"

#include "sigsafe/fault.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_loads(void **state)
{
    (void)state;
    uint64_t word = 0x1234, got = 0;
    assert_false(cprof__fault_guarded());
    assert_int_equal(cprof__fault_guard_on(), 0);
    assert_true(cprof__fault_guarded());
    assert_true(cprof__fault_load((uint64_t)(uintptr_t)&word, &got));
    assert_int_equal(got, 0x1234);
    got = 5;
    assert_false(cprof__fault_load(8, &got));
    assert_false(
        cprof__fault_load(UINT64_C(0xdead00000000000), &got)); /* not canonical: no page fault, a trap */
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_false(cprof__fault_load((uint64_t)(uintptr_t)page, &got));
    munmap(page, 4096);
    assert_int_equal(got, 5);
    cprof__fault_guard_off();
    assert_false(cprof__fault_guarded());
}

static volatile int *nowhere = (int *)64;
static volatile sig_atomic_t handled;
static void *fault_address;

static void mend(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    handled++;
    fault_address = info->si_addr;
    nowhere = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    _exit(info->si_addr == (void *)64 && info->si_code == SEGV_MAPERR ? 7 : 8);
}

/* Runs FUNCTION in a child and returns its status. */
static int in_child(void (*function)(void))
{
    pid_t child = fork();
    if (child == 0) {
        function();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void own_handler(void)
{
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    cprof__fault_guard_on();
    *nowhere = 1;
}

static void no_handler(void)
{
    signal(SIGSEGV, SIG_DFL); /* a sanitizer may have one */
    cprof__fault_guard_on();
    *nowhere = 1;
}

static void sent(void)
{
    signal(SIGSEGV, SIG_DFL);
    cprof__fault_guard_on();
    kill(getpid(), SIGSEGV);
}

static void sent_and_ignored(void)
{
    signal(SIGSEGV, SIG_IGN);
    cprof__fault_guard_on();
    kill(getpid(), SIGSEGV);
    _exit(9);
}

static void test_program_faults(void **state)
{
    (void)state;
    int status = in_child(own_handler);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    status = in_child(no_handler);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    status = in_child(sent);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    status = in_child(sent_and_ignored);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 9);
}

static void other(int signal)
{
    (void)signal;
}

static void test_others(void **state)
{
    (void)state;
    struct sigaction before, now;
    sigaction(SIGBUS, NULL, &before);
    assert_int_equal(cprof__fault_guard_on(), 0);
    struct sigaction theirs = {.sa_handler = other};
    sigaction(SIGBUS, &theirs, NULL);
    cprof__fault_guard_check();
    assert_false(cprof__fault_guarded());
    cprof__fault_guard_off();
    sigaction(SIGBUS, NULL, &now);
    assert_ptr_equal(now.sa_handler, other);
    sigaction(SIGBUS, &before, NULL);
}

static void test_comes_out(void **state)
{
    (void)state;
    struct sigaction before, now;
    sigaction(SIGSEGV, NULL, &before);
    assert_int_equal(cprof__fault_guard_on(), 0);
    sigaction(SIGSEGV, NULL, &now);
    assert_ptr_not_equal(now.sa_handler, before.sa_handler);
    cprof__fault_guard_off();
    sigaction(SIGSEGV, NULL, &now);
    assert_ptr_equal(now.sa_handler, before.sa_handler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_program_faults),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_comes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
