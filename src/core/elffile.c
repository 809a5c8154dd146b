/* SPDX-License-Identifier: MIT
 *
 * See elffile.h.
 */
#define _GNU_SOURCE
#include "core/elffile.h"

#include "core/objects.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define DEBUG_ROOT "/usr/lib/debug"

static bool open_path(const char *path, cprof__elf *out)
{
    elf_version(EV_CURRENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    /* Read and not mapped: a file that is cut short meanwhile is then an error and not a SIGBUS. */
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    if (!elf || elf_kind(elf) != ELF_K_ELF) {
        elf_end(elf);
        close(fd);
        return false;
    }
    *out = (cprof__elf){elf, fd};
    return true;
}

void cprof__elf_close(cprof__elf *file)
{
    elf_end(file->elf);
    if (file->elf && file->fd >= 0)
        close(file->fd);
    *file = (cprof__elf){NULL, -1};
}

/* Whether FILE has the build id of what is mapped. Where that has none, there is nothing to compare. */
static bool same_build(const cprof__file_identity *mapped, const cprof__elf *file)
{
    const void *id;
    ssize_t size = dwelf_elf_gnu_build_id(file->elf, &id);
    if (!mapped->build_id_size)
        return true;
    return size > 0 && (size_t)size == mapped->build_id_size &&
           memcmp(id, mapped->build_id, (size_t)size) == 0;
}

static bool open_same(const cprof__mapping *mapping, const char *path, cprof__elf *out)
{
    if (!open_path(path, out))
        return false;
    if (same_build(&mapping->file->identity, out))
        return true;
    cprof__elf_close(out);
    return false;
}

bool cprof__elf_open(const cprof__mapping *mapping, cprof__elf *out)
{
    if (strcmp(mapping->path, "[vdso]") == 0) {
        elf_version(EV_CURRENT);
        uint64_t start = mapping->bias + mapping->file->identity.base;
        *out = (cprof__elf){elf_memory((char *)(uintptr_t)start, mapping->limit - start), -1};
        return out->elf != NULL;
    }
    if (open_same(mapping, mapping->path, out))
        return true;
    /* The kernel still has the program where its file was deleted or replaced; without a build id nothing
     * would tell it from another file. */
    return mapping->file->identity.build_id_size && open_same(mapping, "/proc/self/exe", out);
}

static bool same_checksum(const cprof__elf *file, GElf_Word expected)
{
    unsigned char buffer[16384];
    uLong sum = crc32(0, NULL, 0);
    off_t offset = 0;
    for (ssize_t got; (got = pread(file->fd, buffer, sizeof buffer, offset)) > 0; offset += got)
        sum = crc32(sum, buffer, (uInt)got);
    return sum == expected;
}

static bool open_linked(const cprof__mapping *mapping, const char *path, GElf_Word checksum, cprof__elf *out)
{
    if (!open_path(path, out))
        return false;
    bool same = mapping->file->identity.build_id_size ? same_build(&mapping->file->identity, out)
                                                      : same_checksum(out, checksum);
    if (!same)
        cprof__elf_close(out);
    return same;
}

bool cprof__elf_open_debug(const cprof__mapping *mapping, const cprof__elf *main, cprof__elf *out)
{
    char path[PATH_MAX];
    const char *id = mapping->build_id;
    if (strlen(id) > 2) {
        snprintf(path, sizeof path, DEBUG_ROOT "/.build-id/%.2s/%s.debug", id, id + 2);
        if (open_same(mapping, path, out))
            return true;
    }
    if (!main->elf)
        return false;
    GElf_Word checksum = 0;
    const char *link = dwelf_elf_gnu_debuglink(main->elf, &checksum);
    const char *slash = strrchr(mapping->path, '/');
    if (!link || !slash)
        return false;
    static const char *const places[] = {"", "", DEBUG_ROOT}, *const folders[] = {"", ".debug/", ""};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int length = snprintf(path, sizeof path, "%s%.*s%s%s", places[i], (int)(slash - mapping->path) + 1,
                              mapping->path, folders[i], link);
        /* The link of a file to itself is no other file. */
        if (length > 0 && (size_t)length < sizeof path && strcmp(path, mapping->path) != 0 &&
            open_linked(mapping, path, checksum, out))
            return true;
    }
    return false;
}

Elf_Scn *cprof__elf_section(const cprof__elf *file, unsigned type, const char *name)
{
    size_t names;
    if (elf_getshdrstrndx(file->elf, &names) != 0)
        return NULL;
    for (Elf_Scn *section = NULL; (section = elf_nextscn(file->elf, section)) != NULL;) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || header.sh_type != type)
            continue;
        const char *its_name = name ? elf_strptr(file->elf, names, header.sh_name) : NULL;
        if (!name || (its_name && strcmp(its_name, name) == 0))
            return section;
    }
    return NULL;
}

bool cprof__elf_bytes(const cprof__elf *file, uint64_t address, void *bytes, size_t size)
{
    size_t count;
    if (elf_getphdrnum(file->elf, &count) != 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr p;
        if (!gelf_getphdr(file->elf, (int)i, &p) || p.p_type != PT_LOAD || address < p.p_vaddr ||
            address - p.p_vaddr >= p.p_filesz || size > p.p_filesz - (address - p.p_vaddr))
            continue;
        Elf_Data *data =
            elf_getdata_rawchunk(file->elf, (int64_t)(p.p_offset + (address - p.p_vaddr)), size, ELF_T_BYTE);
        if (!data)
            return false;
        memcpy(bytes, data->d_buf, size);
        return true;
    }
    return false;
}
