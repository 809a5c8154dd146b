/* SPDX-License-Identifier: MIT
 *
 * See load.h.
 */
#define _GNU_SOURCE
#include "sigsafe/load.h"

#include "sigsafe/fault.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

bool cprof__load_bytes(uint64_t address, void *bytes, size_t size)
{
    int kept = errno;
    struct iovec here = {bytes, size};
    struct iovec there = {(void *)(uintptr_t)address, size};
    ssize_t got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    errno = kept;
    return got >= 0 && (size_t)got == size;
}

bool cprof__load_word(cprof__load *load, uint64_t address, uint64_t *word)
{
    /* A chunk is aligned to its size, so it never straddles a page, of which one could be missing. */
    uint64_t base = address & ~(uint64_t)(sizeof load->words - 1);
    if (!address || address & 7)
        return false;
    if (load->guarded)
        return cprof__fault_load(address, word);
    if (base != load->base || !load->base) {
        if (!cprof__load_bytes(base, load->words, sizeof load->words))
            return false;
        load->base = base;
    }
    *word = load->words[(address - base) / 8];
    return true;
}
