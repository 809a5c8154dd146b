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
static struct sigaction beneath[SIGNALS]; /* what was there when we first came: written once */
static bool installed[SIGNALS], came[SIGNALS];
static atomic_bool guarded;

static size_t place_of(int signal)
{
    return signal == signals[0] ? 0 : 1;
}

static void give_to_default(int signal, const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    /* A fault comes again when the instruction does; what another process or thread sent does not. */
    if (info->si_code <= 0)
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), signal);
}

/* Holds off what the kernel would have held off for the host's handler. It is undone when ours returns. */
static void apply_mask(int signal, const struct sigaction *action)
{
    sigset_t mask = action->sa_mask;
    if (!(action->sa_flags & SA_NODEFER))
        sigaddset(&mask, signal);
    sigprocmask(SIG_BLOCK, &mask, NULL);
}

static void forward(int signal, siginfo_t *info, void *context, struct sigaction *to)
{
    struct sigaction action = *to;
    if (action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && info->si_code > 0)) {
        give_to_default(signal, info);
        return;
    }
    if (action.sa_handler == SIG_IGN)
        return;
    if (action.sa_flags & (int)SA_RESETHAND)
        to->sa_handler = SIG_DFL;
    apply_mask(signal, &action);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signal, info, context);
    else
        action.sa_handler(signal);
    __asm__ volatile(""); /* no tail call: see below */
}

/* The kernel lays the context down right above the return address of the handler that it calls. A handler of the
 * host's that was installed after ours, and that we have come to stand above again, may chain to us: then what was
 * there before both of us is meant, or the two would call each other for ever. (Where it leaves by a tail call, our own
 * frame is what lies in between.) */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
#ifdef __SANITIZE_THREAD__
    const bool by_kernel = true; /* its runtime calls all handlers itself */
#else
    const bool by_kernel = __builtin_dwarf_cfa() == context;
#endif
    if (info->si_code > 0 && (uintptr_t)registers[REG_RIP] == (uintptr_t)cprof__fault_at)
        registers[REG_RIP] = (greg_t)(uintptr_t)cprof__fault_failed;
    else
        forward(signal, info, context, by_kernel ? &before[place_of(signal)] : &beneath[place_of(signal)]);
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
        if (sigaction(signals[i], NULL, &before[i]) != 0)
            return errno;
        if (!came[i])
            beneath[i] = before[i];
        came[i] = true;
        if (sigaction(signals[i], &action, NULL) != 0)
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

bool cprof__fault_guarded_now(void)
{
    return cprof__fault_guarded() && is_ours(0);
}
