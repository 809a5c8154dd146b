/* SPDX-License-Identifier: MIT
 *
 * See objects.h.
 */
#define _GNU_SOURCE
#include "core/objects.h"

#include "base/alloc.h"
#include "base/lock.h"
#include "core/ehframe.h"
#include "cprof.h"

#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES UINT64_C(4096)

static uint64_t changes_of(const struct dl_phdr_info *info)
{
    return (uint64_t)info->dlpi_adds + (uint64_t)info->dlpi_subs;
}

/* dl_iterate_phdr, which a fork by another thread waits for. */
static void iterate(int (*callback)(struct dl_phdr_info *info, size_t size, void *context), void *context)
{
    cprof__fork_hold_off();
    dl_iterate_phdr(callback, context);
    cprof__fork_allow();
}

static int take_changes(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(uint64_t *)context = changes_of(info);
    return 1;
}

uint64_t cprof__objects_changes(void)
{
    uint64_t changes = 0;
    iterate(take_changes, &changes);
    return changes;
}

/* The loaded segment that holds [address, address + size) of the file, or NULL. */
static const ElfW(Phdr) * segment_around(const struct dl_phdr_info *info, uint64_t address, uint64_t size)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && address >= p->p_vaddr && address - p->p_vaddr < p->p_memsz &&
            size <= p->p_memsz - (address - p->p_vaddr))
            return p;
    }
    return NULL;
}

static const void *at(const struct dl_phdr_info *info, uint64_t address)
{
    return (const void *)(uintptr_t)(info->dlpi_addr + address);
}

/* Takes the build id out of the notes at NOTES, if it is there. */
static void read_build_id(const uint8_t *notes, uint64_t size, uint64_t align, cprof__file_identity *identity)
{
    uint64_t step = align == 8 ? 8 : 4;
    while (size >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, notes, sizeof note);
        uint64_t name_size = (note.n_namesz + step - 1) / step * step;
        uint64_t data_size = (note.n_descsz + step - 1) / step * step, head = sizeof note + name_size;
        if (head > size || data_size > size - head)
            return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(notes + sizeof note, "GNU", 4) == 0 && note.n_descsz <= CPROF__BUILD_ID_BYTES_MAX) {
            identity->build_id_size = note.n_descsz;
            memcpy(identity->build_id, notes + head, note.n_descsz);
            return;
        }
        notes += head + data_size;
        size -= head + data_size;
    }
}

static void identify(const struct dl_phdr_info *info, cprof__file_identity *identity)
{
    memset(identity, 0, sizeof *identity);
    identity->base = UINT64_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD) {
            if (p->p_vaddr < identity->base)
                identity->base = p->p_vaddr & ~(PAGE_BYTES - 1);
            if (p->p_vaddr + p->p_memsz > identity->limit)
                identity->limit = p->p_vaddr + p->p_memsz;
        } else if (p->p_type == PT_GNU_EH_FRAME && segment_around(info, p->p_vaddr, p->p_memsz)) {
            identity->header = p->p_vaddr;
            identity->header_size = p->p_memsz;
        } else if (p->p_type == PT_NOTE && !identity->build_id_size &&
                   segment_around(info, p->p_vaddr, p->p_memsz)) {
            read_build_id(at(info, p->p_vaddr), p->p_memsz, p->p_align, identity);
        }
    }
    struct stat status;
    if (!identity->build_id_size && *info->dlpi_name && stat(info->dlpi_name, &status) == 0) {
        identity->device = status.st_dev;
        identity->inode = status.st_ino;
        identity->mtime_ns =
            (uint64_t)status.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)status.st_mtim.tv_nsec;
    }
}

/* ---- The list ---- */

typedef struct listing {
    cprof__segments *out;
    bool started; /* what comes now was loaded by dlopen */
    bool out_of_memory;
} listing;

static cprof__segment *new_segment(cprof__segments *out)
{
    if (out->count == out->room) {
        size_t room = out->room ? out->room * 2 : 64;
        cprof__segment *moved = cprof__realloc(out->list, room * sizeof *moved);
        if (!moved)
            return NULL;
        out->list = moved;
        out->room = room;
    }
    return &out->list[out->count++];
}

/* Whether the object says of itself that it is never to be unloaded. */
static bool no_delete(const struct dl_phdr_info *info)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_DYNAMIC || !segment_around(info, p->p_vaddr, p->p_memsz))
            continue;
        const ElfW(Dyn) *entry = at(info, p->p_vaddr), *end = entry + p->p_memsz / sizeof *entry;
        for (; entry < end && entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_FLAGS_1)
                return entry->d_un.d_val & DF_1_NODELETE;
    }
    return false;
}

/* The loader lists objects in the order in which they came; up to itself, they came with the program and
 * stay. (Of the program's libraries a few may come behind it: to take those for transient costs only time.) */
static bool is_transient(listing *l, const struct dl_phdr_info *info)
{
    uint64_t loader = getauxval(AT_BASE);
    bool transient = l->started && !no_delete(info);
    if (info->dlpi_addr == loader || !loader)
        l->started = true;
    return transient;
}

static int list_object(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    listing *l = context;
    cprof__file_identity identity;
    const char *name = cprof__arena_copy(&l->out->arena, info->dlpi_name, strlen(info->dlpi_name));
    identify(info, &identity);
    bool transient = is_transient(l, info);
    l->out->changes = changes_of(info);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || !p->p_memsz)
            continue;
        cprof__segment *segment = name ? new_segment(l->out) : NULL;
        if (!segment) {
            l->out_of_memory = true;
            return 1;
        }
        /* Whole pages, as the kernel maps them and /proc/self/maps shows them. */
        uint64_t before = p->p_vaddr % PAGE_BYTES;
        segment->bias = info->dlpi_addr;
        segment->start = info->dlpi_addr + p->p_vaddr - before;
        segment->limit = (info->dlpi_addr + p->p_vaddr + p->p_memsz + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
        segment->file_offset = p->p_offset - before;
        segment->identity = identity;
        segment->name = name;
        segment->transient = transient;
    }
    return 0;
}

static int by_start(const void *left, const void *right)
{
    const cprof__segment *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

int cprof__objects_list(cprof__segments *out)
{
    listing l = {.out = out};
    iterate(list_object, &l);
    if (l.out_of_memory)
        return CPROF_ENOMEM;
    qsort(out->list, out->count, sizeof *out->list, by_start);
    return CPROF_OK;
}

void cprof__segments_fini(cprof__segments *segments)
{
    cprof__arena_fini(&segments->arena);
    cprof__free(segments->list);
    *segments = (cprof__segments){0};
}

/* ---- The rows of one object ---- */

typedef struct reading {
    uint64_t address;
    cprof__file_identity *identity;
    cprof__rows *rows;
    int error;
} reading;

/* Parses where the object lies: the loader's lock, which we are under, keeps it there. */
static int read_rows(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    reading *r = context;
    if (!segment_around(info, r->address - info->dlpi_addr, 1))
        return 0;
    identify(info, r->identity);
    cprof__eh_source source = {.bias = info->dlpi_addr,
                               .base = r->identity->base,
                               .limit = r->identity->limit,
                               .header = r->identity->header,
                               .header_size = r->identity->header_size};
    const ElfW(Phdr) *p = segment_around(info, source.header, 1);
    if (p && source.header_size) {
        source.bytes = at(info, p->p_vaddr);
        source.address = p->p_vaddr;
        source.size = p->p_memsz;
    }
    r->error = cprof__ehframe_parse(&source, &r->rows);
    return 1;
}

int cprof__objects_rows(uint64_t address, cprof__rows **out, cprof__file_identity *identity)
{
    reading r = {.address = address, .identity = identity};
    iterate(read_rows, &r);
    if (!r.error)
        *out = r.rows;
    return r.error;
}

/* ---- Paths ---- */

void cprof__objects_path(const char *name, uint64_t start, char *path)
{
    uint64_t vdso = getauxval(AT_SYSINFO_EHDR);
    if (vdso && start == (vdso & ~(PAGE_BYTES - 1))) {
        strcpy(path, "[vdso]");
    } else if (!*name) {
        ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
        path[length > 0 ? length : 0] = 0;
    } else if (*name == '/' || !realpath(name, path)) {
        snprintf(path, PATH_MAX, "%s", name);
    }
}
