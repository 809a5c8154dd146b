/* SPDX-License-Identifier: MIT
 *
 * See handler.h.
 */
#define _GNU_SOURCE
#include "sigsafe/handler.h"

#include "sigsafe/current.h"
#include "sigsafe/fault.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define FDS_MAX 65536
#define MAGIC UINT64_C(0x63707266)

/* Every so many samples a perf event gets another period. (Each time would cost more than the sample.) */
#define JITTER_EVERY 16

static _Atomic(cprof__sampled *) records[CPROF__SAMPLED_MAX];
static _Atomic uint32_t by_fd[FDS_MAX]; /* source << 24 | index + 1; 0: none of ours */

static _Atomic(const cprof__code_map *) map;
static _Atomic(cprof__vm_signal_fn *) vm_signal;
static _Atomic(void (*)(void)) wake_collector;
static atomic_bool unknown_met; /* code that is not in MAP */
static struct sigaction before; /* written while the handler is not installed */
static bool installed;

/* ---- Whose signal it is ---- */

void cprof__handler_publish(cprof__sampled *thread)
{
    atomic_store_explicit(&records[thread->index], thread, memory_order_release);
}

void cprof__handler_withdraw(const cprof__sampled *thread)
{
    atomic_store_explicit(&records[thread->index], NULL, memory_order_release);
}

cprof__sampled *cprof__handler_find(uint32_t index)
{
    return index < CPROF__SAMPLED_MAX ? atomic_load_explicit(&records[index], memory_order_acquire) : NULL;
}

void *cprof__handler_value(uint32_t index, enum cprof__source source)
{
    return (void *)(uintptr_t)(MAGIC << 32 | (uint64_t)source << 24 | index);
}

static uint32_t word_of(uint32_t index, enum cprof__source source)
{
    return (uint32_t)source << 24 | (index + 1);
}

bool cprof__handler_map_fd(int fd, uint32_t index, enum cprof__source source)
{
    if (fd < 0 || fd >= FDS_MAX)
        return false;
    atomic_store_explicit(&by_fd[fd], word_of(index, source), memory_order_release);
    return true;
}

void cprof__handler_unmap_fd(int fd, uint32_t index, enum cprof__source source)
{
    uint32_t word = word_of(index, source);
    if (fd >= 0 && fd < FDS_MAX)
        atomic_compare_exchange_strong(&by_fd[fd], &word, 0);
}

static cprof__sampled *find(const siginfo_t *info, enum cprof__source *source)
{
    uint32_t index;
    if (info->si_code == SI_TIMER) {
        uint64_t value = (uint64_t)(uintptr_t)info->si_value.sival_ptr;
        if (value >> 32 != MAGIC)
            return NULL;
        *source = (enum cprof__source)(value >> 24 & 0xff);
        index = (uint32_t)value & 0xffffff;
    } else {
        uint32_t word = info->si_code == POLL_IN && info->si_fd >= 0 && info->si_fd < FDS_MAX
                            ? atomic_load_explicit(&by_fd[info->si_fd], memory_order_acquire)
                            : 0;
        if (!word)
            return NULL;
        *source = (enum cprof__source)(word >> 24);
        index = (word & 0xffffff) - 1;
    }
    return *source < CPROF__SOURCES ? cprof__handler_find(index) : NULL;
}

/* A signal of somebody else's; who in turn may give to us what is not theirs. */
static void forward(int signal, siginfo_t *info, void *context)
{
    if (cprof__current.forwarding)
        return;
    cprof__current.forwarding = 1;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(signal, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(signal);
    cprof__current.forwarding = 0;
}

/* ---- A sample ---- */

static uint64_t now_ns(enum cprof__source source)
{
    struct timespec now;
    clock_gettime(source == CPROF__SOURCE_CPU ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t cprof__handler_jitter(uint64_t *random, uint64_t period_ns)
{
    /* Marsaglia's xorshift; https://www.jstatsoft.org/v08/i14/ */
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return period_ns - period_ns / 4 + (*random >> 32) % (period_ns / 2 + 1);
}

/* Another period for a perf event: the first after its random first one, then now and then. */
static void change_period(cprof__sampled *thread, cprof__event *event)
{
    int fd = atomic_load_explicit(&event->fd, memory_order_relaxed);
    if (fd < 0 || event->countdown-- > 0)
        return;
    event->countdown = JITTER_EVERY - 1;
    uint64_t period_ns = cprof__handler_jitter(&thread->random, event->period_ns);
    ioctl(fd, PERF_EVENT_IOC_PERIOD, &period_ns);
}

/* A thread that blocks the signals of faults would be ended by one; what the handler changes of the mask is undone
 * when it returns. */
static void allow_faults(const ucontext_t *interrupted)
{
    sigset_t faults;
    if (!sigismember(&interrupted->uc_sigmask, SIGSEGV) && !sigismember(&interrupted->uc_sigmask, SIGBUS))
        return;
    sigemptyset(&faults);
    sigaddset(&faults, SIGSEGV);
    sigaddset(&faults, SIGBUS);
    sigprocmask(SIG_UNBLOCK, &faults, NULL);
}

static void walk(cprof__sampled *thread, cprof__sample *sample, const ucontext_t *context)
{
    const greg_t *registers = context->uc_mcontext.gregs;
    cprof__regs regs = {(uint64_t)registers[REG_RIP], (uint64_t)registers[REG_RSP],
                        (uint64_t)registers[REG_RBP]};
    bool known = regs.sp >= cprof__current.stack_low && regs.sp < cprof__current.stack_high;
    uint64_t high = known ? cprof__current.stack_high : 0;
    const cprof__walk_memory memory = {known ? cprof__current.stack_low : 0, high,
                                       !known && cprof__fault_guarded_now()};
    cprof__walk_end end;
    bool transient;
    sample->count = cprof__walk(atomic_load_explicit(&map, memory_order_acquire), &regs, &memory, sample->pcs,
                                CPROF__SAMPLE_PCS_MAX, &end, &transient);
    sample->end = (uint16_t)end;
    cprof__vm_signal_fn *function = atomic_load_explicit(&vm_signal, memory_order_acquire);
    if (function)
        function(thread, sample, context, high);
}

/* A ring that fills up, once for each time that the collector has emptied it, and code that was just loaded: the sooner
 * it is known, the fewer samples lack their callers. Where it is code that is never known (compiled at run time), this
 * is asked for no more until the collector has looked around by itself. */
static void report(cprof__sampled *thread, bool unknown)
{
    uint64_t used = atomic_load_explicit(&thread->ring.head, memory_order_relaxed) -
                    atomic_load_explicit(&thread->ring.tail, memory_order_relaxed);
    void (*wake)(void) = atomic_load_explicit(&wake_collector, memory_order_relaxed);
    bool full = used > thread->ring.size / 2 &&
                !atomic_exchange_explicit(&thread->waking, true, memory_order_relaxed);
    bool code = unknown && !atomic_exchange_explicit(&unknown_met, true, memory_order_relaxed);
    if (wake && (full || code))
        wake();
}

bool cprof__handler_met_unknown(void)
{
    return atomic_load_explicit(&unknown_met, memory_order_relaxed);
}

void cprof__handler_forget_unknown(void)
{
    atomic_store_explicit(&unknown_met, false, memory_order_relaxed);
}

static void take_sample(cprof__sampled *thread, enum cprof__source source, const ucontext_t *context)
{
    cprof__event *event = &thread->events[source];
    change_period(thread, event);
    uint64_t at_ns = now_ns(source);
    uint64_t before_ns = atomic_load_explicit(&event->at_ns, memory_order_relaxed);
    if (at_ns <= before_ns || at_ns - before_ns < event->least_ns)
        return;
    cprof__sample *sample =
        (void *)cprof__ring_reserve(&thread->ring, CPROF__SAMPLE_WORDS + CPROF__SAMPLE_PCS_MAX);
    if (sample) {
        sample->at_ns = at_ns;
        sample->weight_ns = at_ns - before_ns;
        sample->entry = 0;
        sample->vm = NULL;
        sample->request = sample->activity = 0;
        sample->labels = cprof__current.labels;
        sample->source = (uint16_t)source;
        walk(thread, sample, context);
        bool unknown = sample->end == CPROF__WALK_UNKNOWN;
        uint64_t words = CPROF__SAMPLE_WORDS + sample->count;
        sample->head = cprof__record_head(CPROF__RECORD_SAMPLE, words);
        cprof__ring_commit(&thread->ring, words);
        report(thread, unknown);
    } else {
        atomic_fetch_add_explicit(&thread->lost_ns[source], at_ns - before_ns, memory_order_relaxed);
        atomic_fetch_add_explicit(&thread->lost_count[source], 1, memory_order_relaxed);
    }
    atomic_store_explicit(&event->at_ns, at_ns, memory_order_relaxed);
}

/* A VM may throw an error out of the middle of a safepoint (memory runs out), over whoever closed the gate. That is
 * seen by the thread's being further out on its stack. */
static bool left_behind(cprof__sampled *thread, const ucontext_t *interrupted)
{
    uint64_t holder = atomic_load_explicit(&thread->holder, memory_order_relaxed);
    uint64_t sp = (uint64_t)interrupted->uc_mcontext.gregs[REG_RSP];
    if (!holder || sp <= holder || holder < cprof__current.stack_low || sp >= cprof__current.stack_high ||
        (interrupted->uc_stack.ss_flags & SS_ONSTACK))
        return false;
    atomic_store_explicit(&thread->holder, 0, memory_order_relaxed);
    cprof__gate_open(&thread->gate);
    return true;
}

bool cprof__handler_is_own(cprof__sampled *thread)
{
    uint32_t serial = atomic_load_explicit(&thread->serial, memory_order_relaxed);
    if (cprof__current.record == thread && cprof__current.serial == serial)
        return true;
    if (atomic_load_explicit(&thread->tid, memory_order_relaxed) != gettid())
        return false;
    cprof__current.record = thread;
    cprof__current.serial = serial;
    return true;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    int kept = errno;
    enum cprof__source source;
    cprof__sampled *thread = find(info, &source);
    if (!thread) {
        forward(signal, info, context);
    } else if (!cprof__handler_is_own(thread)) {
        /* A late one, which is nobody's. */
    } else if (cprof__gate_close(&thread->gate) ||
               (left_behind(thread, context) && cprof__gate_close(&thread->gate))) {
        if (atomic_load_explicit(&thread->events[source].on, memory_order_acquire)) {
            allow_faults(context);
            take_sample(thread, source, context);
        }
        cprof__gate_open(&thread->gate);
    }
    errno = kept;
}

/* ---- Installing ---- */

static bool is_ours(void)
{
    struct sigaction now;
    return sigaction(CPROF__SIGNAL, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
           now.sa_sigaction == on_signal;
}

int cprof__handler_install(const cprof__code_map *code, cprof__vm_signal_fn *function, void (*wake)(void))
{
    atomic_store_explicit(&wake_collector, wake, memory_order_relaxed);
    atomic_store_explicit(&map, code, memory_order_release);
    atomic_store_explicit(&vm_signal, function, memory_order_release);
    if (is_ours())
        return 0;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (sigaction(CPROF__SIGNAL, NULL, &before) != 0 || sigaction(CPROF__SIGNAL, &action, NULL) != 0)
        return errno;
    installed = true;
    return 0;
}

void cprof__handler_remove(void)
{
    if (installed && is_ours())
        sigaction(CPROF__SIGNAL, &before, NULL);
    installed = false;
}
