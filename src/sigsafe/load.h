/* SPDX-License-Identifier: MIT
 *
 * Reads memory that may not be there: the stacks of a host's coroutines, whose bounds nobody tells us, a VM's own
 * records seen from a signal, and code that may have been unloaded. In the sampler's handler by a load that may fault
 * (fault.h); else the kernel copies (process_vm_readv on the own process), so that a bad address is an answer and
 * not a fault. Where the kernel forbids that, every address is a bad one.
 */
#ifndef CPROF_SIGSAFE_LOAD_H
#define CPROF_SIGSAFE_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPROF__LOAD_WORDS 32

/* How words are read. GUARDED: by a load that may fault, which only the sampler's handler may ask for, since it
 * knows that the thread does not block the fault's signal. Else the words around the last address that the kernel
 * read, since a walk's next word is mostly near. BASE 0: none yet. */
typedef struct cprof__load {
    bool guarded;
    uint64_t base;
    uint64_t words[CPROF__LOAD_WORDS];
} cprof__load;

/* Copies SIZE bytes from ADDRESS. errno is kept. Returns: whether all could be read. Signals: safe. */
bool cprof__load_bytes(uint64_t address, void *bytes, size_t size);

/* The word at ADDRESS, by way of LOAD. Returns: whether it could be read. Signals: safe. */
bool cprof__load_word(cprof__load *load, uint64_t address, uint64_t *word);

#endif
