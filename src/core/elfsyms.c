/* SPDX-License-Identifier: MIT
 *
 * See elfsyms.h.
 */
#include "core/elfsyms.h"

#include "base/alloc.h"
#include "cprof.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

/* A symbol with what decides which of several names for one address is shown. */
typedef struct candidate {
    cprof__elf_symbol symbol;
    unsigned demerit;
    size_t order;
} candidate;

typedef struct candidates {
    candidate *list;
    size_t count, room;
} candidates;

#define INNER_MAX 16

/* People know `read` and `memcpy` by these names, not by `__read` or `__GI_memcpy`. */
static unsigned demerit_of(const GElf_Sym *symbol, const char *name)
{
    unsigned underscores = (unsigned)strspn(name, "_");
    return (symbol->st_size == 0 ? 100u : 0) + (underscores < 20 ? underscores * 2 : 40) +
           (GELF_ST_BIND(symbol->st_info) == STB_LOCAL ? 1u : 0);
}

static bool add(candidates *c, cprof__elf_symbol symbol, unsigned demerit)
{
    if (c->count == c->room) {
        size_t room = c->room ? c->room * 2 : 256;
        candidate *moved = cprof__realloc(c->list, room * sizeof *moved);
        if (!moved)
            return false;
        c->list = moved;
        c->room = room;
    }
    c->list[c->count] = (candidate){symbol, demerit, c->count};
    c->count++;
    return true;
}

/* Functions, and labels of hand-written code; not what the assembler left over. */
static bool names_code(Elf *elf, const GElf_Sym *symbol, const char *name)
{
    unsigned type = GELF_ST_TYPE(symbol->st_info);
    GElf_Shdr header;
    if (!name || !*name || !symbol->st_value || symbol->st_shndx == SHN_UNDEF ||
        symbol->st_shndx >= SHN_LORESERVE ||
        (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
        return false;
    if (type == STT_NOTYPE && (*name == '$' || *name == '.'))
        return false;
    Elf_Scn *section = elf_getscn(elf, symbol->st_shndx);
    return section && gelf_getshdr(section, &header) && header.sh_flags & SHF_EXECINSTR;
}

/* Adds the symbols of SECTION; their names are the file's still. */
static bool collect(const cprof__elf *file, Elf_Scn *section, candidates *out)
{
    GElf_Shdr header;
    Elf_Data *data = elf_getdata(section, NULL);
    if (!data || !gelf_getshdr(section, &header) || !header.sh_entsize)
        return true;
    for (int i = 0; (uint64_t)i < header.sh_size / header.sh_entsize; i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, i, &symbol))
            continue;
        const char *name = elf_strptr(file->elf, header.sh_link, symbol.st_name);
        if (!names_code(file->elf, &symbol, name))
            continue;
        cprof__elf_symbol found = {symbol.st_value, symbol.st_value + symbol.st_size, name,
                                   symbol.st_size != 0};
        if (!add(out, found, demerit_of(&symbol, name)))
            return false;
    }
    return true;
}

/* What _start passes to __libc_start_main first, in rdi; 0 where its code is not as expected. The instruction
 * is `lea main(%rip),%rdi`, or in a program at a fixed address `mov $main,%rdi` or `mov $main,%edi`. */
static uint64_t main_from_start(const cprof__elf *file, uint64_t entry)
{
    uint8_t code[64];
    size_t size = sizeof code;
    while (size > 8 && !cprof__elf_bytes(file, entry, code, size))
        size /= 2;
    for (size_t i = 0; size > 8 && i + 7 <= size; i++) {
        int32_t operand;
        if (code[i] == 0xe8 || (code[i] == 0xff && code[i + 1] == 0x15))
            return 0; /* the call itself */
        memcpy(&operand, &code[i + 3], sizeof operand);
        if (memcmp(&code[i], "\x48\x8d\x3d", 3) == 0)
            return entry + i + 7 + (uint64_t)(int64_t)operand;
        if (memcmp(&code[i], "\x48\xc7\xc7", 3) == 0)
            return (uint64_t)operand;
        memcpy(&operand, &code[i + 1], sizeof operand);
        if (code[i] == 0xbf)
            return (uint64_t)operand;
    }
    return 0;
}

static bool add_start_and_main(const cprof__elf *file, candidates *out)
{
    GElf_Ehdr header;
    if (!gelf_getehdr(file->elf, &header) || !header.e_entry)
        return true;
    uint64_t entry = header.e_entry, start_of_main = main_from_start(file, entry);
    if (!add(out, (cprof__elf_symbol){entry, entry, "_start", false}, 1000))
        return false;
    return !start_of_main || add(out, (cprof__elf_symbol){start_of_main, start_of_main, "main", false}, 1000);
}

static int by_address(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->symbol.start != b->symbol.start)
        return a->symbol.start < b->symbol.start ? -1 : 1;
    if (a->demerit != b->demerit)
        return a->demerit < b->demerit ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Keeps the best of each address, with a name of its own. */
static int finish(candidates *c, cprof__elf_symbols *out)
{
    if (c->count)
        qsort(c->list, c->count, sizeof *c->list, by_address);
    out->list = cprof__malloc((c->count + 1) * sizeof *out->list);
    if (!out->list)
        return CPROF_ENOMEM;
    for (size_t i = 0; i < c->count; i++) {
        cprof__elf_symbol symbol = c->list[i].symbol;
        if (out->count && out->list[out->count - 1].start == symbol.start)
            continue;
        symbol.name = cprof__arena_copy(&out->names, symbol.name, strlen(symbol.name));
        if (!symbol.name)
            return CPROF_ENOMEM;
        if (out->count && !out->list[out->count - 1].sized)
            out->list[out->count - 1].limit = symbol.start;
        out->list[out->count++] = symbol;
    }
    if (out->count && !out->list[out->count - 1].sized)
        out->list[out->count - 1].limit = UINT64_MAX;
    return CPROF_OK;
}

int cprof__elfsyms_read(const cprof__elf *file, const cprof__elf *debug, bool program,
                        cprof__elf_symbols *out)
{
    candidates all = {0};
    const cprof__elf *from = file;
    Elf_Scn *section = cprof__elf_section(file, SHT_SYMTAB, NULL);
    if (!section && debug && (section = cprof__elf_section(debug, SHT_SYMTAB, NULL)) != NULL)
        from = debug;
    bool stripped = !section, added = true;
    if (stripped)
        section = cprof__elf_section(file, SHT_DYNSYM, NULL);
    if (section)
        added = collect(from, section, &all);
    if (added && stripped && program)
        added = add_start_and_main(file, &all);
    int error = added ? finish(&all, out) : CPROF_ENOMEM;
    cprof__free(all.list);
    if (error)
        cprof__elfsyms_fini(out);
    return error;
}

void cprof__elfsyms_fini(cprof__elf_symbols *symbols)
{
    cprof__free(symbols->list);
    cprof__arena_fini(&symbols->names);
    *symbols = (cprof__elf_symbols){0};
}

const cprof__elf_symbol *cprof__elfsyms_find(const cprof__elf_symbols *symbols, uint64_t address)
{
    size_t low = 0, high = symbols->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->list[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    /* Labels may stand inside of a function: behind the last one's end it goes on. */
    for (size_t i = low; i > 0 && low - i < INNER_MAX; i--)
        if (address < symbols->list[i - 1].limit)
            return &symbols->list[i - 1];
    return NULL;
}
