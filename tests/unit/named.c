/* SPDX-License-Identifier: MIT
 *
 * A program that prints what its own stack is called, as "FUNCTION FILE:LINE named|unnamed" a line; then
 * gives one of its functions a name, as a VM does, and prints it again. It is built stripped, stripped at a
 * fixed address, with its debug information in a file beside it, and with what is known of its functions
 * split off into a .dwo file.
 */
#include "core/symbols.h"

#include <stdio.h>

__attribute__((noinline)) static int show(int depth)
{
    uint64_t pcs[64];
    cprof__regs regs;
    CPROF__REGS_HERE(&regs);
    size_t count = cprof__code_capture(&regs, pcs, sizeof pcs / sizeof *pcs, NULL);
    for (size_t i = 0; i < count; i++) {
        const cprof__symbol *symbol;
        if (cprof__symbols_find(pcs[i], cprof__code_era(), &symbol))
            return 1;
        for (uint32_t k = 0; k < symbol->line_count; k++)
            printf("%s %s:%ld %s\n", symbol->lines[k].function, symbol->lines[k].file,
                   (long)symbol->lines[k].line, symbol->named ? "named" : "unnamed");
    }
    return depth;
}

__attribute__((always_inline)) static inline int inlined(int depth)
{
    return show(depth + 1) - 1;
}

__attribute__((noinline)) static int nameless(int depth)
{
    return inlined(depth);
}

int main(void)
{
    int depth = nameless(0);
    if (cprof__symbols_name_native((uint64_t)(uintptr_t)nameless, "given") ||
        cprof__symbols_name_native((uint64_t)(uintptr_t)nameless, "given too late"))
        return 1;
    printf("again\n");
    return nameless(depth) != 0;
}
