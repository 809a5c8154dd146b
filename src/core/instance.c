/* SPDX-License-Identifier: MIT
 *
 * See instance.h. Each copy carries an ELF note named "cprof" that leads to its own flag, so copies find one
 * another among the loaded objects without a dynamic symbol, which static and hidden copies do not have.
 */
#define _GNU_SOURCE
#include "core/instance.h"

#include "base/error.h"
#include "base/lock.h"

#include <link.h>
#include <stdatomic.h>
#include <string.h>

#define NOTE_NAME "cprof"
#define NOTE_TYPE 1

atomic_int cprof__instance_active __attribute__((visibility("hidden")));

/* An Elf64_Nhdr {6, 8, 1}, the name padded to four, and the distance from the description to the flag. */
__asm__(".pushsection .note.cprof,\"a\",@note\n"
        ".balign 4\n"
        ".long 6, 8, 1\n"
        ".asciz \"cprof\"\n"
        ".balign 4\n"
        ".quad cprof__instance_active - .\n"
        ".popsection\n");

struct search {
    const char *other; /* the object that holds an active copy */
};

static const atomic_int *flag_of(const ElfW(Nhdr) * note)
{
    const char *name = (const char *)(note + 1);
    if (note->n_type != NOTE_TYPE || note->n_namesz != sizeof NOTE_NAME ||
        note->n_descsz != sizeof(int64_t) || memcmp(name, NOTE_NAME, sizeof NOTE_NAME) != 0)
        return NULL;
    const char *description = name + ((note->n_namesz + 3) & ~(size_t)3);
    int64_t distance;
    memcpy(&distance, description, sizeof distance);
    return (const atomic_int *)(description + distance);
}

static int look(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    struct search *search = context;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_NOTE)
            continue;
        const char *at = (const char *)(info->dlpi_addr + header->p_vaddr), *end = at + header->p_memsz;
        size_t align = header->p_align == 8 ? 7 : 3;
        while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
            const atomic_int *flag = flag_of(note);
            if (flag && flag != &cprof__instance_active && atomic_load(flag)) {
                search->other = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "the program itself";
                return 1;
            }
            size_t name = (note->n_namesz + align) & ~align, description = (note->n_descsz + align) & ~align;
            if (name + description > (size_t)(end - at) - sizeof *note)
                break;
            at += sizeof *note + name + description;
        }
    }
    return 0;
}

int cprof__instance_claim(void)
{
    if (atomic_load_explicit(&cprof__instance_active, memory_order_relaxed))
        return 0;
    struct search search = {NULL};
    cprof__fork_hold_off();
    dl_iterate_phdr(look, &search);
    cprof__fork_allow();
    if (search.other)
        return cprof__fail(CPROF_EDUPLICATE, "another copy of cprof is active in this process, in %s",
                           search.other);
    atomic_store(&cprof__instance_active, 1);
    return 0;
}
