/* SPDX-License-Identifier: MIT
 *
 * Dynamic symbols by dladdr, weak, until core/symbols.c is there to replace it.
 */
#define _GNU_SOURCE
#include "base/alloc.h"
#include "core/symbols.h"

#include <dlfcn.h>

#define WEAK __attribute__((weak))

WEAK int cprof__symbols_find(uint64_t address, uint32_t era, const cprof__symbol **out)
{
    struct both {
        cprof__symbol symbol;
        cprof__line line;
    } *both = cprof__calloc(1, sizeof *both);
    if (!both)
        return -4;
    Dl_info info;
    bool found = dladdr((void *)(uintptr_t)address, &info) && info.dli_sname; // NOLINT
    both->line = (cprof__line){found ? info.dli_sname : "?", "", 0, 0};
    both->symbol = (cprof__symbol){&both->line, 1, found, cprof__code_mapping(address, era), 0, 0};
    *out = &both->symbol;
    return 0;
}

WEAK uint64_t cprof__symbols_tail_called(const cprof__symbol *outer, const cprof__symbol *inner)
{
    (void)outer;
    (void)inner;
    return 0;
}

WEAK cprof__mapping_has cprof__symbols_mapping_has(const cprof__mapping *mapping)
{
    (void)mapping;
    return (cprof__mapping_has){true, false, false, false};
}

WEAK int cprof__symbols_name_native(uint64_t entry, const char *name)
{
    (void)entry;
    (void)name;
    return 0;
}
