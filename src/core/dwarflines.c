/* SPDX-License-Identifier: MIT
 *
 * See dwarflines.h.
 */
#include "core/dwarflines.h"

#include "base/alloc.h"
#include "cprof.h"

#include <dwarf.h>
#include <stdlib.h>

bool cprof__dwarf_present(const cprof__elf *file)
{
    return cprof__elf_section(file, SHT_PROGBITS, ".debug_info") ||
           cprof__elf_section(file, SHT_PROGBITS, ".zdebug_info");
}

bool cprof__dwarf_open(const cprof__elf *file, cprof__dwarf *out)
{
    *out = (cprof__dwarf){.dwarf = dwarf_begin_elf(file->elf, DWARF_C_READ, NULL)};
    return out->dwarf != NULL;
}

void cprof__dwarf_close(cprof__dwarf *handle)
{
    dwarf_end(handle->dwarf);
    cprof__free(handle->ranges);
    *handle = (cprof__dwarf){0};
}

/* ---- Which unit describes an address ---- */

static bool add_range(cprof__dwarf *handle, size_t *room, cprof__dwarf_range range)
{
    if (handle->range_count == *room) {
        size_t grown = *room ? *room * 2 : 256;
        cprof__dwarf_range *moved = cprof__realloc(handle->ranges, grown * sizeof *moved);
        if (!moved)
            return false;
        handle->ranges = moved;
        *room = grown;
    }
    handle->ranges[handle->range_count++] = range;
    return true;
}

static int by_start(const void *left, const void *right)
{
    const cprof__dwarf_range *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Compilers other than GCC leave out .debug_aranges, so the units themselves are asked. */
static bool make_ranges(cprof__dwarf *handle)
{
    size_t room = 0;
    Dwarf_CU *unit = NULL;
    Dwarf_Die die;
    uint8_t type;
    while (dwarf_get_units(handle->dwarf, unit, &unit, NULL, &type, &die, NULL) == 0) {
        Dwarf_Addr base, start, limit;
        for (ptrdiff_t at = 0; (type == DW_UT_compile || type == DW_UT_skeleton) &&
                               (at = dwarf_ranges(&die, at, &base, &start, &limit)) > 0;)
            if (!add_range(handle, &room, (cprof__dwarf_range){start, limit, dwarf_dieoffset(&die)}))
                return false;
    }
    if (handle->range_count)
        qsort(handle->ranges, handle->range_count, sizeof *handle->ranges, by_start);
    return true;
}

/* Returns: 1 and *UNIT, 0 where there is none, CPROF_ENOMEM. */
static int find_unit(cprof__dwarf *handle, uint64_t address, Dwarf_Die *unit)
{
    if (dwarf_addrdie(handle->dwarf, address, unit))
        return 1;
    if (!handle->ranged && !make_ranges(handle)) {
        cprof__free(handle->ranges);
        handle->ranges = NULL;
        handle->range_count = 0;
        return CPROF_ENOMEM;
    }
    handle->ranged = true;
    size_t low = 0, high = handle->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (handle->ranges[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low && address < handle->ranges[low - 1].limit &&
           dwarf_offdie(handle->dwarf, handle->ranges[low - 1].unit, unit) != NULL;
}

/* UNIT, or where its descriptions were split off into a .dwo file, the unit there, if the file is still
 * there. */
static Dwarf_Die described_in(Dwarf_Die *unit)
{
    Dwarf_Die apart;
    uint8_t type;
    bool split = dwarf_cu_info(unit->cu, NULL, &type, NULL, &apart, NULL, NULL, NULL) == 0 &&
                 type == DW_UT_skeleton && apart.cu;
    return split ? apart : *unit;
}

/* ---- Which functions lie around an address ---- */

/* The function and the inlined ones in it, outermost first. */
typedef struct nest {
    uint64_t address;
    Dwarf_Die list[CPROF__DWARF_FRAMES_MAX];
    int count;
} nest;

#define DEPTH_MAX 256

/* Goes down from PARENT to what contains the address. Returns: whether a function was found. */
static bool descend(nest *n, Dwarf_Die *parent, int depth)
{
    Dwarf_Die die;
    if (depth == DEPTH_MAX || dwarf_child(parent, &die) != 0)
        return false;
    do {
        int tag = dwarf_tag(&die);
        bool function = tag == DW_TAG_subprogram, inlined = tag == DW_TAG_inlined_subroutine;
        if (tag == DW_TAG_namespace || tag == DW_TAG_module || tag == DW_TAG_class_type ||
            tag == DW_TAG_structure_type) {
            if (descend(n, &die, depth + 1))
                return true;
        } else if ((function || inlined || tag == DW_TAG_lexical_block) &&
                   dwarf_haspc(&die, n->address) == 1) {
            if (function)
                n->count = 0;
            if ((function || inlined) && n->count < CPROF__DWARF_FRAMES_MAX)
                n->list[n->count++] = die;
            descend(n, &die, depth + 1);
            return true;
        }
    } while (dwarf_siblingof(&die, &die) == 0);
    return false;
}

/* C++ and its like are known by their mangled names, which pprof makes readable. In C the linker's name is an
 * alias of the library's own (`__GI_qsort`) and the source's is what people know. */
static const char *function_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    const char *name = NULL;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attribute))
        name = dwarf_formstring(&attribute);
    if (name && name[0] == '_' && (name[1] == 'Z' || name[1] == 'R'))
        return name;
    return dwarf_diename(die) ? dwarf_diename(die) : name;
}

/* Where an inlined function was called from: FRAME, which is the one around it, is there. */
static void set_call_site(Dwarf_Die *inlined, Dwarf_Die *unit, cprof__dwarf_frame *frame)
{
    Dwarf_Attribute attribute;
    Dwarf_Word number;
    Dwarf_Files *files;
    if (dwarf_attr(inlined, DW_AT_call_line, &attribute) && dwarf_formudata(&attribute, &number) == 0)
        frame->line = (int64_t)number;
    if (dwarf_attr(inlined, DW_AT_call_file, &attribute) && dwarf_formudata(&attribute, &number) == 0 &&
        dwarf_getsrcfiles(unit, &files, NULL) == 0)
        frame->file = dwarf_filesrc(files, number, NULL, NULL);
}

int cprof__dwarf_frames(cprof__dwarf *handle, uint64_t address,
                        cprof__dwarf_frame frames[CPROF__DWARF_FRAMES_MAX])
{
    nest n = {.address = address};
    Dwarf_Die unit;
    int found = find_unit(handle, address, &unit), line, start_line;
    if (found <= 0)
        return found;
    cprof__dwarf_frame innermost = {0};
    Dwarf_Line *row = dwarf_getsrc_die(&unit, address);
    if (row) {
        innermost.file = dwarf_linesrc(row, NULL, NULL);
        if (dwarf_lineno(row, &line) == 0)
            innermost.line = line;
    }
    frames[0] = innermost;
    unit = described_in(&unit);
    if (!descend(&n, &unit, 0))
        return row ? 1 : 0;
    for (int i = 0; i < n.count; i++) {
        Dwarf_Die *die = &n.list[n.count - 1 - i];
        if (i)
            set_call_site(&n.list[n.count - i], &unit, &frames[i]);
        frames[i].function = function_name(die);
        frames[i].start_line = dwarf_decl_line(die, &start_line) == 0 ? start_line : 0;
        if (i + 1 < n.count)
            frames[i + 1] = (cprof__dwarf_frame){0};
    }
    return n.count;
}
