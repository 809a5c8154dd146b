/* SPDX-License-Identifier: MIT
 *
 * See hooks.h. Source: System V ABI, AMD64 supplement: R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT; PT_GNU_RELRO.
 */
#define _GNU_SOURCE
#include "sampler/hooks.h"

#include "base/alloc.h"
#include "base/lock.h"

#include <elf.h>
#include <link.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES UINT64_C(4096)

/* A slot that was changed: its place, and what it holds without and with us. */
typedef struct changed {
    uint64_t slot, before, ours;
} changed;

static changed *list; /* under the sampler's lock */
static size_t count, room;

/* ---- Memory of objects ---- */

static bool contains(const struct dl_phdr_info *info, uint32_t type, uint64_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == type && address >= info->dlpi_addr + p->p_vaddr &&
            address + 8 <= info->dlpi_addr + p->p_vaddr + p->p_memsz)
            return true;
    }
    return false;
}

/* Whether the loader has made SLOT read-only after relocation: whole pages only, the last one of such a segment may be
 * half the program's own data. */
static bool is_protected(const struct dl_phdr_info *info, uint64_t slot)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uint64_t start = info->dlpi_addr + p->p_vaddr, end = start + p->p_memsz;
        if (p->p_type == PT_GNU_RELRO && slot >= (start & ~(PAGE_BYTES - 1)) &&
            slot < (end & ~(PAGE_BYTES - 1)))
            return true;
    }
    return false;
}

/* Whether SLOT may be written to: the kernel adds nothing to it, as one operation, or says that it cannot. */
static bool is_writable(uint64_t slot)
{
    uint32_t nobody = 0;
    return syscall(SYS_futex, &nobody, FUTEX_WAKE_OP_PRIVATE, 0, NULL, (void *)(uintptr_t)slot,
                   FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

/* Slots that the loader has made read-only after relocation are so again afterwards. */
static bool store(const struct dl_phdr_info *info, uint64_t slot, uint64_t value)
{
    uint64_t page = slot & ~(PAGE_BYTES - 1);
    bool protected = is_protected(info, slot);
    if (protected && mprotect((void *)(uintptr_t)page, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
        return false;
    __atomic_store_n((uint64_t *)(uintptr_t)slot, value, __ATOMIC_RELEASE);
    if (protected)
        mprotect((void *)(uintptr_t)page, PAGE_BYTES, PROT_READ);
    return true;
}

/* ---- Finding slots ---- */

/* What an object's dynamic section tells of its relocations. */
typedef struct tables {
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * lists[2];
    size_t sizes[2]; /* in bytes */
} tables;

static const void *pointer_of(const struct dl_phdr_info *info, uint64_t value)
{
    /* glibc has added the base to most of them, the vdso's and some others' are as in the file. */
    uint64_t address = value < info->dlpi_addr ? value + info->dlpi_addr : value;
    return contains(info, PT_LOAD, address) ? (const void *)(uintptr_t)address : NULL;
}

static bool read_tables(const struct dl_phdr_info *info, tables *t)
{
    const ElfW(Dyn) *entry = NULL;
    memset(t, 0, sizeof *t);
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const void *)(uintptr_t)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB)
            t->symbols = pointer_of(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_STRTAB)
            t->strings = pointer_of(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_JMPREL)
            t->lists[0] = pointer_of(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_PLTRELSZ)
            t->sizes[0] = entry->d_un.d_val;
        else if (entry->d_tag == DT_RELA)
            t->lists[1] = pointer_of(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_RELASZ)
            t->sizes[1] = entry->d_un.d_val;
    }
    return t->symbols && t->strings;
}

static const cprof__hook *find_hook(const cprof__hook *hooks, const char *name)
{
    for (; hooks->name; hooks++)
        if (strcmp(hooks->name, name) == 0)
            return hooks;
    return NULL;
}

/* Another thread may be loading the object this moment: it is listed before it is relocated, and what the loader adds
 * to a slot then would be added to ours. Such a slot holds nothing, or an offset in the file. Where the loader will
 * make a page read-only and has not yet, it has more to write there: were we to make it so, it would be killed. */
static bool is_relocated(const struct dl_phdr_info *info, uint64_t slot, uint64_t value)
{
    return value && (value >= info->dlpi_addr || value >= PAGE_BYTES << 20) &&
           !(is_protected(info, slot) && is_writable(slot));
}

static void change(const struct dl_phdr_info *info, uint64_t slot, uint64_t ours)
{
    uint64_t before = *(const volatile uint64_t *)(uintptr_t)slot;
    if (before == ours || !is_relocated(info, slot, before))
        return;
    if (count == room) {
        size_t grown = room ? room * 2 : 64;
        changed *longer = cprof__realloc(list, grown * sizeof *longer);
        if (!longer)
            return;
        list = longer;
        room = grown;
    }
    if (store(info, slot, ours))
        list[count++] = (changed){slot, before, ours};
}

static int apply_to(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    const cprof__hook *hooks = context;
    tables t;
    if (contains(info, PT_LOAD, (uint64_t)(uintptr_t)apply_to) || !read_tables(info, &t))
        return 0;
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; t.lists[i] && k < t.sizes[i] / sizeof *t.lists[i]; k++) {
            const ElfW(Rela) *r = &t.lists[i][k];
            uint64_t type = ELF64_R_TYPE(r->r_info);
            if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT)
                continue;
            const char *name = t.strings + t.symbols[ELF64_R_SYM(r->r_info)].st_name;
            const cprof__hook *hook = find_hook(hooks, name);
            uint64_t slot = info->dlpi_addr + r->r_offset;
            if (hook && contains(info, PT_LOAD, slot))
                change(info, slot, (uint64_t)(uintptr_t)hook->replacement);
        }
    return 0;
}

void cprof__hooks_apply(const cprof__hook *hooks)
{
    cprof__fork_hold_off();
    dl_iterate_phdr(apply_to, (void *)hooks);
    cprof__fork_allow();
}

/* ---- Taking back ---- */

static bool is_of(const changed *c, const cprof__hook *hooks)
{
    while (hooks->name && (uint64_t)(uintptr_t)hooks->replacement != c->ours)
        hooks++;
    return hooks->name != NULL;
}

static int undo_in(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    for (size_t i = 0; i < count; i++)
        if (contains(info, PT_LOAD, list[i].slot) && is_of(&list[i], context) &&
            *(const volatile uint64_t *)(uintptr_t)list[i].slot == list[i].ours)
            store(info, list[i].slot, list[i].before);
    return 0;
}

void cprof__hooks_undo(const cprof__hook *hooks)
{
    size_t kept = 0;
    cprof__fork_hold_off();
    dl_iterate_phdr(undo_in, (void *)hooks);
    cprof__fork_allow();
    for (size_t i = 0; i < count; i++)
        if (!is_of(&list[i], hooks))
            list[kept++] = list[i];
    count = kept;
    if (!count) {
        cprof__free(list);
        list = NULL;
        room = 0;
    }
}
