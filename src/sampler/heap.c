/* SPDX-License-Identifier: MIT
 *
 * See heap.h. What lives is a table by address, as the entries of a profile are; what was allocated is added up by
 * stack, as its events are.
 */
#define _GNU_SOURCE
#include "sampler/heap.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/thread.h"
#include "core/code.h"
#include "core/entries.h"
#include "core/events.h"
#include "core/labels.h"
#include "core/stacks.h"
#include "sampler/nativeheap.h"
#include "sampler/vmheap.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>

_Atomic uint16_t cprof__heap_epoch;
_Atomic uint8_t cprof__heap_places[CPROF_VM_HEAP_PLACES];

static _Atomic int64_t rate; /* 0: off; written under the sampler's lock */
static _Atomic bool is_on;   /* it is not 0 */
static cprof__entries live;  /* columns: objects, bytes */
static cprof__events allocated;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static _Atomic int64_t lost;   /* samples for which there was no memory */
static _Atomic uint64_t draws; /* gaps that were drawn: the state of the random numbers */

/* The depth of stacks that are taken during a fork; small threads have the room for it. */
#define WAITING_DEPTH 128

static void make_tables(void)
{
    uint64_t seed;
    memcpy(&seed, (const void *)getauxval(AT_RANDOM),
           sizeof seed); /* 16 bytes of the kernel's, getauxval(3) */
    atomic_store(&draws, seed);
    cprof__entries_init(&live, 2);
    cprof__events_init(&allocated, 2);
}

/* ---- Chances ---- */

/* Uniform in (0, 1]. Source: splitmix64, https://doi.org/10.1145/2714064.2660195 */
static double draw(void)
{
    uint64_t z = atomic_fetch_add_explicit(&draws, 1, memory_order_relaxed) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)((z >> 11) + 1) * 0x1p-53;
}

/* Bytes that pass before the next sampled one. */
static int64_t draw_gap(int64_t mean)
{
    return mean <= 1 ? -1 : (int64_t)(-log(draw()) * (double)mean);
}

static void weigh(size_t size, int64_t mean, int64_t values[2])
{
    double p = mean <= 1 ? 1 : -expm1(-(double)size / (double)mean);
    values[0] = (int64_t)(0x1p20 / p + 0.5);
    values[1] = mean <= 1 ? (int64_t)size : (int64_t)((double)size / p + 0.5);
}

/* ---- Blocks ---- */

static void raise_place(const void *block)
{
    _Atomic uint8_t *place = &cprof__heap_places[cprof_vm_heap_place(block)];
    uint8_t count = atomic_load_explicit(place, memory_order_relaxed);
    while (count < 255 && !atomic_compare_exchange_weak_explicit(
                              place, &count, count + 1, memory_order_relaxed, memory_order_relaxed)) {}
}

static void lower_place(const void *block)
{
    _Atomic uint8_t *place = &cprof__heap_places[cprof_vm_heap_place(block)];
    uint8_t count = atomic_load_explicit(place, memory_order_relaxed);
    while (count > 0 && count < 255 &&
           !atomic_compare_exchange_weak_explicit(place, &count, count - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static bool take_entry(const void *block, cprof__heap_block *kept)
{
    cprof__entry entry;
    if (!cprof__entries_take(&live, (uint64_t)(uintptr_t)block, &entry, kept->values))
        return false;
    kept->stack = entry.stack;
    kept->labels = entry.labels;
    lower_place(block);
    return true;
}

/* Where another block is known at this address, it was freed where nobody saw it. */
static void put_entry(const void *block, const cprof__heap_block *b)
{
    cprof__heap_block unseen;
    const cprof__entry entry = {(uint64_t)(uintptr_t)block, b->stack, b->labels, b->values};
    int code = cprof__entries_add(&live, &entry);
    if (code == CPROF_EEXIST && take_entry(block, &unseen))
        code = cprof__entries_add(&live, &entry);
    if (code)
        atomic_fetch_add(&lost, 1);
    else
        raise_place(block);
}

/* ---- What cannot be done at once ---- */

/* An allocation that was sampled while another thread forked. What it waits for takes no part in the fork, so a child
 * finds the list whole. */
typedef struct waiting {
    struct waiting *next;
    const void *block;
    cprof__heap_block kept; /* but for the stack */
    uint32_t count;
    uint64_t pcs[];
} waiting;

static _Atomic(waiting *) allocations;
static _Atomic(waiting *) endings; /* of VMs' blocks, which are freed all the same: only BLOCK counts */
static _Atomic(void *) frees;      /* blocks to forget and free; each begins with a pointer to the next */
static _Atomic(void (*)(void *)) release;
static cprof__lock settling = CPROF__LOCK_INIT(CPROF__RANK_HEAP);
static _Atomic bool is_settling; /* written under that lock */

static void push(_Atomic(waiting *) *list, waiting *w)
{
    w->next = atomic_load(list);
    while (!atomic_compare_exchange_weak(list, &w->next, w)) {}
}

/* Its native stack alone: more cannot be had without waiting. */
static void wait_with(const void *block, const cprof__heap_block *b, const cprof__regs *regs)
{
    uint64_t pcs[WAITING_DEPTH];
    cprof__regs at = *regs;
    cprof__walk_end end;
    bool transient;
    (void)cprof__thread_self(); /* which learns where the stack lies */
    const cprof__walk_memory memory = {cprof__current.stack_low, cprof__current.stack_high, false};
    size_t count = cprof__walk(cprof__code_current(), &at, &memory, pcs, WAITING_DEPTH, &end, &transient);
    waiting *w = cprof__malloc(sizeof *w + count * sizeof *pcs);
    if (!w) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    *w = (waiting){.block = block, .kept = *b, .count = (uint32_t)count};
    memcpy(w->pcs, pcs, count * sizeof *pcs);
    raise_place(block); /* from now on it is not freed before it is settled */
    push(&allocations, w);
}

void cprof__heap_add(const void *block, const cprof__heap_block *b)
{
    if (b->stack && cprof__events_add(&allocated, b->stack, b->labels, b->values) == 0)
        put_entry(block, b);
    else
        atomic_fetch_add(&lost, 1);
}

void cprof__heap_move(const void *block, const cprof__heap_block *from, const cprof__heap_block *to)
{
    const int64_t minus[2] = {-from->values[0], -from->values[1]};
    cprof__entries_change(&live, (uint64_t)(uintptr_t)block, from->stack, to->stack, to->labels);
    /* Where there is no memory for the new stack it stays with the old one. */
    if (cprof__events_move(&allocated, to->stack, to->labels, to->values) == 0)
        (void)cprof__events_move(&allocated, from->stack, from->labels, minus);
}

static void settle_allocations(waiting *list)
{
    while (list) {
        waiting *w = list;
        list = w->next;
        w->kept.stack = cprof__stacks_intern(w->pcs, w->count, 1);
        cprof__heap_add(w->block, &w->kept);
        lower_place(w->block);
        cprof__free(w);
    }
}

static void settle_frees(void *block)
{
    void (*release_now)(void *) = atomic_load(&release);
    while (block) {
        void *next;
        cprof__heap_block kept;
        memcpy(&next, block, sizeof next);
        (void)take_entry(block, &kept);
        release_now(block);
        block = next;
    }
}

static void settle_endings(waiting *list)
{
    while (list) {
        waiting *w = list;
        list = w->next;
        (void)take_entry(w->block, &w->kept);
        cprof__free(w);
    }
}

/* Who looks for a block finds all settled that came before. */
static void settle(void)
{
    if (!atomic_load_explicit(&allocations, memory_order_relaxed) &&
        !atomic_load_explicit(&endings, memory_order_relaxed) &&
        !atomic_load_explicit(&frees, memory_order_relaxed) && !atomic_load(&is_settling))
        return;
    cprof__lock_take(&settling);
    atomic_store(&is_settling, true);
    /* What is freed was allocated before: it is in the other list, or was settled. */
    void *freed = atomic_exchange(&frees, NULL);
    waiting *ended = atomic_exchange(&endings, NULL);
    settle_allocations(atomic_exchange(&allocations, NULL));
    settle_endings(ended);
    settle_frees(freed);
    atomic_store(&is_settling, false);
    cprof__lock_give(&settling);
}

void cprof__heap_defer(void *block, void (*free)(void *))
{
    void *first = atomic_load(&frees);
    atomic_store(&release, free);
    do
        memcpy(block, &first, sizeof first);
    while (!atomic_compare_exchange_weak(&frees, &first, block));
}

/* ---- Inside ---- */

/* Whether the thread is inside cprof already: what it allocates is ours, or a handler of the host's has interrupted
 * us. */
static bool is_inside(void)
{
    return cprof__current.quiet || cprof__locks_held();
}

bool cprof__heap_enter(void)
{
    if (is_inside())
        return false;
    cprof__current.quiet++;
    atomic_signal_fence(memory_order_seq_cst);
    if (cprof__fork_enter()) {
        settle();
        return true;
    }
    cprof__current.quiet--;
    return false;
}

void cprof__heap_leave(void)
{
    settle();
    cprof__fork_leave();
    atomic_signal_fence(memory_order_seq_cst);
    cprof__current.quiet--;
}

/* ---- Sampling ---- */

/* Whether what came below zero is sampled. Where the countdown is of another rate, or was never begun, it begins now,
 * with the SIZE that was counted off it. *MEAN gets the rate. */
static bool is_due(cprof_vm_countdown *c, size_t size, int64_t *mean)
{
    uint16_t epoch = atomic_load(&cprof__heap_epoch);
    *mean = atomic_load(&rate);
    if (!*mean) {
        *c = (cprof_vm_countdown){INT64_MAX, epoch, 1};
        return false;
    }
    if (!c->started || c->epoch != epoch) {
        *c = (cprof_vm_countdown){(int64_t)((uint64_t)draw_gap(*mean) - size), epoch, 1};
        if (c->left >= 0)
            return false;
    }
    c->left = draw_gap(*mean);
    return true;
}

static bool thread_is_due(size_t size, int64_t *mean)
{
    cprof__current_thread *t = &cprof__current;
    cprof_vm_countdown c = {t->heap_left, t->heap_epoch, t->heap_started};
    bool due = is_due(&c, size, mean);
    t->heap_left = c.left;
    t->heap_epoch = c.epoch;
    t->heap_started = c.started;
    return due;
}

void cprof__heap_sample(const void *block, size_t size, const cprof__regs *regs)
{
    int saved = errno;
    int64_t mean;
    if (!thread_is_due(size, &mean) || !block || is_inside())
        return;
    cprof__heap_block b = {0};
    weigh(size, mean, b.values);
    if (cprof__heap_enter()) {
        cprof__vmheap_record(block, &b, regs, NULL);
        cprof__heap_leave();
    } else {
        cprof__current.quiet++;
        b.labels = cprof__current.labels;
        wait_with(block, &b, regs);
        cprof__current.quiet--;
    }
    errno = saved;
}

void cprof_vm_heap_sample(cprof_vm_state *state, cprof_vm_countdown *count, const void *block, size_t size,
                          const cprof_labels *labels)
{
    int saved = errno;
    int64_t mean;
    if (!is_due(count, size, &mean) || !block || is_inside())
        return;
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    cprof__heap_block b = {.labels = cprof__labels_number(labels)};
    weigh(size, mean, b.values);
    if (cprof__heap_enter()) {
        cprof__vmheap_record(block, &b, &regs, state);
        cprof__heap_leave();
    } else {
        cprof__current.quiet++;
        wait_with(block, &b, &regs);
        cprof__current.quiet--;
    }
    errno = saved;
}

enum cprof__heap_taken cprof__heap_take(const void *block, cprof__heap_block *kept)
{
    int saved = errno;
    enum cprof__heap_taken result = CPROF__HEAP_LATER;
    if (cprof__heap_enter()) {
        result = take_entry(block, kept) ? CPROF__HEAP_TAKEN : CPROF__HEAP_NOT;
        cprof__heap_leave();
    }
    errno = saved;
    return result;
}

void cprof__heap_put_back(const void *block, const cprof__heap_block *kept)
{
    int saved = errno;
    if (cprof__heap_enter()) {
        put_entry(block, kept);
        cprof__heap_leave();
    } else {
        atomic_fetch_add(&lost, 1);
    }
    errno = saved;
}

/* ---- Of VMs ---- */

int cprof_vm_heap_take(const void *block, cprof_vm_heap_block *kept)
{
    cprof__heap_block b;
    enum cprof__heap_taken taken = cprof__heap_take(block, &b);
    if (taken == CPROF__HEAP_TAKEN) {
        _Static_assert(sizeof b <= sizeof *kept, "what is kept of a block has room");
        memcpy(kept, &b, sizeof b);
    } else if (taken == CPROF__HEAP_LATER && !is_inside()) {
        waiting *w = cprof__malloc(sizeof *w);
        if (w) {
            *w = (waiting){.block = block};
            push(&endings, w);
        }
    }
    return taken == CPROF__HEAP_TAKEN;
}

void cprof_vm_heap_put_back(const void *block, const cprof_vm_heap_block *kept)
{
    cprof__heap_block b;
    memcpy(&b, kept, sizeof b);
    cprof__heap_put_back(block, &b);
}

const cprof_vm_heap_view *cprof_vm_heap_look(void)
{
    static const cprof_vm_heap_view view = {
        (const volatile uint16_t *)&cprof__heap_epoch, (const volatile uint8_t *)cprof__heap_places,
        (const volatile uint8_t *)&cprof__nativeheap_on, (const volatile uint8_t *)&is_on};
    return &view;
}

/* ---- On and off ---- */

static int forget_entry(void *context, const cprof__entry *entry)
{
    (void)context;
    lower_place((const void *)(uintptr_t)entry->key);
    return 0;
}

/* Under the sampler's lock. */
static void forget_all(void)
{
    (void)cprof__entries_each(&live, forget_entry, NULL);
    cprof__entries_remove_range(&live, 1, UINT64_MAX);
    cprof__events_clear(&allocated);
    atomic_store(&lost, 0);
}

int64_t cprof__heap_set_rate(int64_t bytes)
{
    pthread_once(&tables_once, make_tables);
    int64_t before = atomic_exchange(&rate, bytes);
    atomic_store(&is_on, bytes != 0);
    if (before != bytes)
        atomic_fetch_add(&cprof__heap_epoch, 1);
    if (!bytes)
        forget_all();
    return before;
}

int64_t cprof_mem_profile_rate(void)
{
    return atomic_load(&rate);
}

/* ---- What there is ---- */

static int add_live(void *context, const cprof__entry *entry)
{
    const int64_t values[4] = {0, 0, entry->values ? entry->values[0] : 1,
                               entry->values ? entry->values[1] : 0};
    return cprof__sums_add(context, entry->stack, entry->labels, values) ? 0 : CPROF_ENOMEM;
}

static int64_t whole(int64_t objects)
{
    return (objects + (1 << (CPROF__HEAP_OBJECT_BITS - 1))) >> CPROF__HEAP_OBJECT_BITS;
}

/* What was moved from one stack to another may have left zeros. */
static void drop_zeros(cprof__sums *sums)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sums->count; i++) {
        const int64_t *v = sums->rows[i].values;
        if (v[0] || v[1] || v[2] || v[3])
            sums->rows[kept++] = sums->rows[i];
    }
    sums->count = kept;
}

int cprof__heap_add_up(cprof__sums *sums)
{
    if (cprof__heap_enter())
        cprof__heap_leave(); /* settles what waits */
    /* What lives first: what is freed in between was allocated all the same. */
    int code = cprof__entries_each(&live, add_live, sums);
    if (!code)
        code = cprof__events_sum(&allocated, sums);
    if (!code)
        drop_zeros(sums);
    for (uint32_t i = 0; i < sums->count; i++) {
        int64_t *values = sums->rows[i].values;
        values[0] = whole(values[0]);
        values[2] = whole(values[2]);
    }
    return code ? cprof__fail_memory() : 0;
}

int64_t cprof__heap_live_count(void)
{
    return cprof__entries_count(&live);
}

int64_t cprof__heap_allocated_count(void)
{
    return cprof__events_count(&allocated);
}

int64_t cprof__heap_lost(void)
{
    return atomic_load(&lost);
}
