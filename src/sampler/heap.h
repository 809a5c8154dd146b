/* SPDX-License-Identifier: MIT
 *
 * The profiles "heap" and "allocs": a sample of what is allocated, and of that what still lives.
 *
 * Sampling. Every thread (and every state of a VM) counts down the bytes that it allocates; whoever comes below zero is
 * sampled, and the next gap is drawn. Gaps are exponential with mean RATE, so each byte is hit with the same chance,
 * whatever came before, and an allocation of SIZE bytes with the probability
 *
 *     p(SIZE) = 1 - exp(-SIZE / RATE)
 *
 * It therefore stands for 1 / p(SIZE) allocations and SIZE / p(SIZE) bytes: the expected value of what is recorded of
 * it is exactly 1 and SIZE, for each allocation by itself, whatever the sizes are mixed of. At a rate of 1 all are
 * recorded, as they are. Source: https://github.com/google/tcmalloc/blob/master/docs/sampling.md
 *
 * Signals. A host's handler may allocate and free while its thread is in here: then nothing is sampled, and what is
 * freed waits until the thread is out. The same holds while another thread forks (base/lock.h).
 */
#ifndef CPROF_SAMPLER_HEAP_H
#define CPROF_SAMPLER_HEAP_H

#include "core/builtin.h"
#include "core/events.h"
#include "cprof_vm.h"
#include "sigsafe/current.h"
#include "sigsafe/walk.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const cprof__builtin cprof__heap_heap, cprof__heap_allocs;

/* ---- What is asked for each allocation ---- */

/* Moves with each change of the rate. */
extern _Atomic uint16_t cprof__heap_epoch;

/* Counts SIZE bytes. Returns whether that allocation may have to be sampled: then cprof__heap_sample it. */
static inline bool cprof__heap_count(size_t size)
{
    int64_t left = (int64_t)((uint64_t)cprof__current.heap_left - size);
    cprof__current.heap_left = left;
    return left < 0 ||
           cprof__current.heap_epoch != atomic_load_explicit(&cprof__heap_epoch, memory_order_relaxed);
}

/* How many sampled blocks that live share a place, up to 255, which is never counted down. */
extern _Atomic uint8_t cprof__heap_places[CPROF_VM_HEAP_PLACES];

/* Whether BLOCK can be a sampled one: then cprof__heap_forget it before it is freed. */
static inline bool cprof__heap_may_hold(const void *block)
{
    return atomic_load_explicit(&cprof__heap_places[cprof_vm_heap_place(block)], memory_order_relaxed) != 0;
}

/* ---- The rest is slow ---- */

/* What is known of a sampled block. */
typedef struct cprof__heap_block {
    uint32_t stack, labels;
    int64_t values[2]; /* objects << CPROF__HEAP_OBJECT_BITS, bytes */
} cprof__heap_block;

#define CPROF__HEAP_OBJECT_BITS 20

/* Above, one sample could stand for more objects than there is room to count. */
#define CPROF__HEAP_RATE_MAX (INT64_C(1) << 40)

/* BLOCK (NULL: there was no memory) of SIZE bytes was allocated, and cprof__heap_count said so. REGS are those of the
 * function that the program called. Keeps errno. */
void cprof__heap_sample(const void *block, size_t size, const cprof__regs *regs);

enum cprof__heap_taken { CPROF__HEAP_NOT, CPROF__HEAP_TAKEN, CPROF__HEAP_LATER };

/* BLOCK is about to be freed or moved: it is forgotten, and *KEPT gets what was known of it. LATER: that cannot be done
 * now, so it must stay as it is; give it to cprof__heap_defer. Keeps errno. */
enum cprof__heap_taken cprof__heap_take(const void *block, cprof__heap_block *kept);

/* Undoes a take: BLOCK was not moved. */
void cprof__heap_put_back(const void *block, const cprof__heap_block *kept);

/* Leaves BLOCK, of 8 bytes or more, to be forgotten and then freed by FREE, which is the same for all. */
void cprof__heap_defer(void *block, void (*free)(void *));

/* ---- For vmheap.c ---- */

/* From here on the thread's allocations are ours, until leave. Returns false where it is inside already, or would
 * have to wait for a fork. */
bool cprof__heap_enter(void);
void cprof__heap_leave(void);

/* Inside: BLOCK lives, and was allocated; B says which stack, labels and weight. */
void cprof__heap_add(const void *block, const cprof__heap_block *b);

/* Inside: BLOCK, which was added with FROM, is now known to have the stack and labels of TO. */
void cprof__heap_move(const void *block, const cprof__heap_block *from, const cprof__heap_block *to);

/* ---- For heapprofile.c ---- */

/* Under the sampler's lock: returns the rate before. 0: forgets all. */
int64_t cprof__heap_set_rate(int64_t bytes);

/* Adds up what there is: SUMS has the four columns of the profiles. Returns: 0 or CPROF_ENOMEM (recorded). */
int cprof__heap_add_up(cprof__sums *sums);

/* Sampled blocks that live, sampled allocations, and those for which there was no memory. */
int64_t cprof__heap_live_count(void);
int64_t cprof__heap_allocated_count(void);
int64_t cprof__heap_lost(void);

#endif
