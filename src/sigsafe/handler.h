/* SPDX-License-Identifier: MIT
 *
 * The handler of the sampler's signal. Each thread that is sampled has a record here, made beforehand by
 * sampler/threads.c, and found from what the signal carries: a timer's value, or the descriptor of a perf event.
 * The handler walks the native stack into the thread's ring, asks the VM that runs there (if any) for a safepoint,
 * and credits the sample with the time since the last one; so time is never lost, only its place when signals
 * come late.
 *
 * The signal is SIGURG: by default it does nothing, so one that comes after a host has reset its disposition, or
 * after exec, ends no process; and profilers that use SIGPROF can run beside us.
 *
 * Who writes what: the thread itself, in its handler or with its gate closed, writes the ring's head, AT_NS and what
 * follows it; the collector (under the sampler's lock) the ring's tail and the rest.
 */
#ifndef CPROF_SIGSAFE_HANDLER_H
#define CPROF_SIGSAFE_HANDLER_H

#include "sigsafe/codemap.h"
#include "sigsafe/gate.h"
#include "sigsafe/ring.h"
#include "sigsafe/walk.h"

#include <signal.h>
#include <stdbool.h>

#define CPROF__SIGNAL SIGURG
#define CPROF__SAMPLED_MAX 65536u /* threads at a time */
#define CPROF__SAMPLE_PCS_MAX 512

/* What is measured: each has its own events and its own clock. */
enum cprof__source { CPROF__SOURCE_CPU, CPROF__SOURCE_WALL, CPROF__SOURCES };

/* How one source of one thread is driven. */
typedef struct cprof__event {
    atomic_bool on;
    _Atomic uint64_t at_ns; /* the source's clock, up to which all time is credited */
    _Atomic int fd;         /* of a perf event whose period the handler changes now and then; else -1 */
    uint64_t period_ns;
    uint64_t least_ns; /* less time than this since the last sample is left to the next */
    uint32_t countdown;
} cprof__event;

typedef struct cprof__sampled {
    _Atomic int tid;         /* 0: nobody */
    _Atomic uint32_t serial; /* unique among threads, never 0 */
    uint32_t index;
    cprof__gate gate;
    _Atomic uint64_t
        holder; /* a stack address of who closed the gate, where that is not the handler; else 0 */
    cprof__ring ring;
    cprof__event events[CPROF__SOURCES];
    atomic_bool waking; /* the collector has been told that the ring fills up */
    uint64_t random;
    _Atomic uint64_t lost_ns[CPROF__SOURCES]; /* of samples for which the ring had no room */
    _Atomic uint64_t lost_count[CPROF__SOURCES];
} cprof__sampled;

/* A sample as it lies in the ring. */
typedef struct cprof__sample {
    uint64_t head; /* of the record */
    uint64_t at_ns, weight_ns;
    uint64_t entry;       /* as in cprof_vm_moment */
    const void *vm;       /* the cprof_vm that runs, NULL: none */
    uint32_t request;     /* the safepoint that will tell its frames; 0: none */
    uint32_t labels;      /* the thread's */
    uint32_t activity;    /* as in cprof_vm_moment */
    uint16_t source, end; /* a cprof__source, a cprof__walk_end */
    uint64_t count;       /* of PCS */
    uint64_t pcs[];
} cprof__sample;

#define CPROF__SAMPLE_WORDS (sizeof(cprof__sample) / sizeof(uint64_t))

/* Called in the handler to find out about VMs; may add to the sample's pcs, and sets its vm, entry, request and
 * activity. */
typedef void cprof__vm_signal_fn(cprof__sampled *thread, cprof__sample *sample, const void *context,
                                 uint64_t stack_high);

/* Installs the handler, which walks through CODE, calls FUNCTION about VMs, and WAKE when a ring is half full or code
 * is met that CODE does not know; again where somebody has replaced it since. Returns: 0 or an errno. Threads: one at
 * a time. Signals: unsafe. */
int cprof__handler_install(const cprof__code_map *code, cprof__vm_signal_fn *function, void (*wake)(void));

/* Puts back what was there before, where the handler is still ours. Threads: as above. */
void cprof__handler_remove(void);

/* Whether unknown code was met since it was last forgotten, which WAKE is called for once. Threads: any. */
bool cprof__handler_met_unknown(void);
void cprof__handler_forget_unknown(void);

/* Makes THREAD the record with its index, from now on found by signals. */
void cprof__handler_publish(cprof__sampled *thread);

/* The reverse, when its thread has ended. */
void cprof__handler_withdraw(const cprof__sampled *thread);

/* Whether THREAD is the calling thread's record: an event that was closed may have left a signal, and its descriptor's
 * number, or its record, be another thread's by now. Signals: safe. */
bool cprof__handler_is_own(cprof__sampled *thread);

/* The record with INDEX, or NULL. Signals: safe. */
cprof__sampled *cprof__handler_find(uint32_t index);

/* What a timer's signal carries, for SOURCE of the record INDEX. */
void *cprof__handler_value(uint32_t index, enum cprof__source source);

/* Says that signals of FD belong to SOURCE of the record INDEX. Returns false where FD is too large for the table. */
bool cprof__handler_map_fd(int fd, uint32_t index, enum cprof__source source);

/* The reverse, where they do still: the host may have closed FD, and the number become another event's. */
void cprof__handler_unmap_fd(int fd, uint32_t index, enum cprof__source source);

/* A period near PERIOD_NS, so that no loop of the program keeps step with it. Signals: safe. */
uint64_t cprof__handler_jitter(uint64_t *random, uint64_t period_ns);

#endif
