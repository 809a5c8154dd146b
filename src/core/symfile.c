/* SPDX-License-Identifier: MIT
 *
 * See symfile.h.
 */
#define _GNU_SOURCE
#include "core/symfile.h"

#include "base/alloc.h"
#include "base/stack.h"
#include "core/objects.h"
#include "cprof.h"

#include <gelf.h>
#include <string.h>
#include <sys/auxv.h>

/* By the number of the file. */
static cprof__symfile **files;
static uint32_t room;

static bool is_program(const cprof__mapping *mapping, const cprof__elf *file)
{
    GElf_Ehdr header;
    return gelf_getehdr(file->elf, &header) && mapping->bias + header.e_entry == getauxval(AT_ENTRY);
}

static int load(const cprof__mapping *mapping, cprof__symfile *out)
{
    cprof__elf main = {NULL, -1}, debug = {NULL, -1};
    cprof__elf_open(mapping, &main);
    out->has_dwarf = cprof__dwarf_present(&main);
    if (!out->has_dwarf && cprof__elf_open_debug(mapping, &main, &debug))
        out->has_dwarf = out->dwarf_apart = cprof__dwarf_present(&debug);
    int error = cprof__elfsyms_read(&main, &debug, is_program(mapping, &main), &out->symbols);
    cprof__elf_close(&debug);
    cprof__elf_close(&main);
    return error;
}

static bool reserve(uint32_t number)
{
    if (number < room)
        return true;
    uint32_t grown = room ? room * 2 : 64;
    while (grown <= number)
        grown *= 2;
    cprof__symfile **moved = cprof__realloc(files, grown * sizeof *moved);
    if (!moved)
        return false;
    memset(moved + room, 0, (grown - room) * sizeof *moved);
    files = moved;
    room = grown;
    return true;
}

int cprof__symfile_get(const cprof__mapping *mapping, cprof__symfile **out)
{
    uint32_t number = mapping->file->number;
    if (!reserve(number))
        return CPROF_ENOMEM;
    if (!files[number]) {
        cprof__symfile *file = cprof__calloc(1, sizeof *file);
        int error = file ? load(mapping, file) : CPROF_ENOMEM;
        if (error) {
            cprof__free(file);
            return error;
        }
        files[number] = file;
    }
    *out = files[number];
    return CPROF_OK;
}

/* Opens the DWARF of FILE if it is not open. A file that has gone meanwhile has none any more. */
static bool open_dwarf(cprof__symfile *file, const cprof__mapping *mapping)
{
    if (file->dwarf.dwarf)
        return true;
    cprof__elf main = {NULL, -1};
    bool opened = cprof__elf_open(mapping, &main);
    if (file->dwarf_apart) {
        opened = cprof__elf_open_debug(mapping, &main, &file->debug);
        cprof__elf_close(&main);
    } else {
        file->debug = main;
    }
    if (opened && cprof__dwarf_open(&file->debug, &file->dwarf))
        return true;
    cprof__elf_close(&file->debug);
    return false;
}

/* libdw keeps the line table of a unit on the stack while it reads it: a 128 KiB thread is too small for
 * libc's. */
#define DWARF_STACK_BYTES (1024u * 1024u)

typedef struct question {
    cprof__symfile *file;
    const cprof__mapping *mapping;
    uint64_t address;
    cprof__dwarf_frame *frames;
    int answer;
} question;

static void ask_dwarf(void *context)
{
    question *q = context;
    if (open_dwarf(q->file, q->mapping))
        q->answer = cprof__dwarf_frames(&q->file->dwarf, q->address, q->frames);
}

int cprof__symfile_frames(cprof__symfile *file, const cprof__mapping *mapping, uint64_t address,
                          cprof__dwarf_frame frames[CPROF__DWARF_FRAMES_MAX])
{
    question q = {file, mapping, address, frames, 0};
    if (file->has_dwarf && !cprof__with_stack(DWARF_STACK_BYTES, ask_dwarf, &q))
        return CPROF_ENOMEM;
    return q.answer;
}

void cprof__symfile_rest(void)
{
    for (uint32_t i = 0; i < room; i++) {
        if (!files[i] || !files[i]->dwarf.dwarf)
            continue;
        cprof__dwarf_close(&files[i]->dwarf);
        cprof__elf_close(&files[i]->debug);
    }
}
