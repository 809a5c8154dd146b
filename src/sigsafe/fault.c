/* SPDX-License-Identifier: MIT
 *
 * See fault.h.
 */
#define _GNU_SOURCE
#include "sigsafe/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "cprof: no guarded load for this architecture"
#endif

/* bool cprof__fault_load(uint64_t address, uint64_t *word) */
__asm__(".text\n"
        ".globl cprof__fault_load\n"
        ".hidden cprof__fault_load\n"
        ".type cprof__fault_load, @function\n"
        "cprof__fault_load:\n"
        ".cfi_startproc\n"
        ".globl cprof__fault_at\n"
        ".hidden cprof__fault_at\n"
        "cprof__fault_at:\n"
        "	movq (%rdi), %rax\n"
        "	movq %rax, (%rsi)\n"
        "	movl $1, %eax\n"
        "	ret\n"
        ".globl cprof__fault_failed\n"
        ".hidden cprof__fault_failed\n"
        "cprof__fault_failed:\n"
        "	xorl %eax, %eax\n"
        "	ret\n"
        ".cfi_endproc\n"
        ".size cprof__fault_load, .-cprof__fault_load\n");

extern const char cprof__fault_at[] __attribute__((visibility("hidden")));
extern const char cprof__fault_failed[] __attribute__((visibility("hidden")));

static const int signals[] = {SIGSEGV, SIGBUS};
#define SIGNALS (sizeof signals / sizeof signals[0])

static struct sigaction
    before[SIGNALS]; /* written while the handler is not installed, or by one that chains */
static bool installed[SIGNALS];
static atomic_bool guarded;

static void give_to_default(int signal, const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    /* A fault comes again when the instruction does; what another process or thread sent does not. */
    if (info->si_code <= 0)
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), signal);
}

static void forward(int signal, siginfo_t *info, void *context)
{
    size_t i = signal == signals[0] ? 0 : 1;
    struct sigaction action = before[i];
    if (action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && info->si_code > 0)) {
        give_to_default(signal, info);
        return;
    }
    if (action.sa_handler == SIG_IGN)
        return;
    if (action.sa_flags & (int)SA_RESETHAND)
        before[i].sa_handler = SIG_DFL;
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signal, info, context);
    else
        action.sa_handler(signal);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if ((uintptr_t)registers[REG_RIP] == (uintptr_t)cprof__fault_at)
        registers[REG_RIP] = (greg_t)(uintptr_t)cprof__fault_failed;
    else
        forward(signal, info, context);
}

static bool is_ours(size_t i)
{
    struct sigaction now;
    return sigaction(signals[i], NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
           now.sa_sigaction == on_fault;
}

int cprof__fault_guard_on(void)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        if (is_ours(i))
            continue;
        struct sigaction action = {.sa_sigaction = on_fault,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        sigemptyset(&action.sa_mask);
        if (sigaction(signals[i], NULL, &before[i]) != 0 || sigaction(signals[i], &action, NULL) != 0)
            return errno;
        installed[i] = true;
    }
    atomic_store(&guarded, true);
    return 0;
}

void cprof__fault_guard_off(void)
{
    atomic_store(&guarded, false);
    for (size_t i = 0; i < SIGNALS; i++)
        if (installed[i] && is_ours(i)) {
            sigaction(signals[i], &before[i], NULL);
            installed[i] = false;
        }
}

void cprof__fault_guard_check(void)
{
    if (atomic_load_explicit(&guarded, memory_order_relaxed) && !(is_ours(0) && is_ours(1)))
        atomic_store(&guarded, false);
}

bool cprof__fault_guarded(void)
{
    return atomic_load_explicit(&guarded, memory_order_acquire);
}
