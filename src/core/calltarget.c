/* SPDX-License-Identifier: MIT
 *
 * See calltarget.h.
 */
#include "core/calltarget.h"

#include "sigsafe/load.h"

#include <string.h>

uint64_t cprof__call_destination(uint64_t address)
{
    uint8_t code[5]; /* call rel32 */
    int32_t distance;
    if (!cprof__load_bytes(address + 1 - sizeof code, code, sizeof code) || code[0] != 0xe8)
        return 0;
    memcpy(&distance, code + 1, sizeof distance);
    return address + 1 + (uint64_t)(int64_t)distance;
}

/* [endbr64] [bnd] jmp *slot(%rip): the first instruction that does something in the PLTs of every x86_64
 * linker. */
uint64_t cprof__plt_destination(uint64_t address)
{
    uint8_t code[11] = {0};
    int32_t distance;
    uint64_t target;
    size_t at = 0;
    if (!cprof__load_bytes(address, code, sizeof code))
        return 0;
    if (memcmp(code, "\xf3\x0f\x1e\xfa", 4) == 0)
        at += 4;
    if (code[at] == 0xf2)
        at++;
    if (code[at] != 0xff || code[at + 1] != 0x25)
        return 0;
    memcpy(&distance, &code[at + 2], sizeof distance);
    uint64_t slot = address + at + 6 + (uint64_t)(int64_t)distance;
    return cprof__load_bytes(slot, &target, sizeof target) ? target : 0;
}
