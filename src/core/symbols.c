/* SPDX-License-Identifier: MIT
 *
 * See symbols.h. All state is under one lock, CPROF__RANK_SYMBOLS. A symbol never changes and is never freed,
 * so it may be used when the lock is given back.
 */
#define _GNU_SOURCE
#include "core/symbols.h"

#include "base/alloc.h"
#include "base/lock.h"
#include "base/strings.h"
#include "core/calltarget.h"
#include "core/nativenames.h"
#include "core/symfile.h"
#include "cprof.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static cprof__lock lock = CPROF__LOCK_INIT(CPROF__RANK_SYMBOLS);
static cprof__arena arena;     /* symbols and their lines */
static cprof__strings strings; /* what they point at */

/* What was found: by address, in a mapping (of other addresses there is no end). A slot's symbol is exchanged
 * when a better name turns up. */
typedef struct found {
    uint64_t address;
    const cprof__symbol *symbol;
    uint32_t names_seen; /* of an unnamed one: how many native names there were when it was last looked at */
} found;

static found *cache;
static uint32_t cache_count, cache_room;
static cprof__map cache_map;

/* TEXT kept for ever; NULL where memory ran out. */
static const char *keep(const char *text)
{
    int64_t number = cprof__strings_intern(&strings, text, strlen(text));
    return number < 0 ? NULL : strings.list[number].text;
}

static bool reserve(void **array, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room)
        return true;
    uint32_t grown = *room ? *room * 2 : 64;
    void *moved = cprof__realloc(*array, grown * size);
    if (!moved)
        return false;
    *array = moved;
    *room = grown;
    return true;
}

int cprof__symbols_name_native(uint64_t entry, const char *name)
{
    const cprof__mapping *mapping = cprof__code_mapping(entry, cprof__code_era());
    if (!mapping) {
        int error = cprof__code_refresh(NULL);
        mapping = error ? NULL : cprof__code_mapping(entry, cprof__code_era());
        if (!mapping)
            return error;
    }
    return cprof__nativenames_add(mapping, entry, name);
}

/* ---- Making a symbol ---- */

/* What the tables of its file say of an address; no DWARF is read for it. */
typedef struct outline {
    cprof__symfile *file;
    const char *name; /* NULL: no symbol */
    uint64_t start;   /* of the function; 0: unknown */
} outline;

static int outline_of(const cprof__mapping *mapping, uint64_t address, outline *out)
{
    int error = cprof__symfile_get(mapping, &out->file);
    if (error)
        return error;
    uint64_t start = 0, limit;
    bool rows = cprof__code_function_in(mapping, address, &start, &limit);
    const cprof__elf_symbol *symbol = cprof__elfsyms_find(&out->file->symbols, address - mapping->bias);
    /* A label without a size reaches to the next; but not into another function. */
    if (symbol && !symbol->sized && rows && start - mapping->bias > symbol->start)
        symbol = NULL;
    out->name = symbol ? symbol->name : NULL;
    out->start = symbol ? mapping->bias + symbol->start : start;
    return CPROF_OK;
}

/* TARGET where a function starts there, by symbol or (ROWS_TOO) by unwind rows; else 0. */
static int start_at(uint64_t target, uint32_t era, bool rows_too, uint64_t *out)
{
    uint64_t start, limit;
    const cprof__mapping *mapping = cprof__code_mapping(target, era);
    cprof__symfile *file;
    *out = 0;
    if (!mapping)
        return CPROF_OK;
    int error = cprof__symfile_get(mapping, &file);
    if (error)
        return error;
    const cprof__elf_symbol *symbol = cprof__elfsyms_find(&file->symbols, target - mapping->bias);
    if (symbol && symbol->start == target - mapping->bias)
        *out = target;
    else if (rows_too && cprof__code_function_in(mapping, target, &start, &limit) && start == target)
        *out = target;
    return CPROF_OK;
}

/* A function with a symbol may look like a PLT entry (it is a tail call), and the PLT's first entry starts
 * where its unwind rows do; so the symbol is asked before, the rows after. */
static int find_call_target(uint64_t address, uint32_t era, uint64_t *out)
{
    uint64_t target = cprof__call_destination(address);
    *out = 0;
    if (!target)
        return CPROF_OK;
    int error = start_at(target, era, false, out);
    if (error || *out)
        return error;
    uint64_t through_plt = cprof__plt_destination(target);
    return start_at(through_plt ? through_plt : target, era, true, out);
}

/* "lua5.4+0x4d20": the file and where in it the function starts, or the address where even that is unknown.
 */
static const char *invented_name(const cprof__mapping *mapping, uint64_t address)
{
    char text[PATH_MAX + 32];
    const char *slash = strrchr(mapping->path, '/');
    snprintf(text, sizeof text, "%s+0x%" PRIx64, slash ? slash + 1 : mapping->path, address - mapping->bias);
    return keep(text);
}

/* The lines of frames that DWARF gave, of which at least one. NAME is the outermost function's. */
static const cprof__line *make_lines(const cprof__dwarf_frame *frames, int count, const char *name)
{
    cprof__line *lines = cprof__arena_alloc(&arena, (size_t)count * sizeof *lines);
    for (int i = 0; lines && i < count; i++) {
        const char *function = frames[i].function ? frames[i].function : "";
        lines[i] = (cprof__line){.function = keep(i == count - 1 ? name : function),
                                 .file = keep(frames[i].file ? frames[i].file : ""),
                                 .line = frames[i].line,
                                 .start_line = frames[i].start_line};
        if (!lines[i].function || !lines[i].file)
            return NULL;
    }
    return lines;
}

static int new_symbol(const cprof__symbol *from, const cprof__symbol **out)
{
    cprof__symbol *symbol = from->lines ? cprof__arena_alloc(&arena, sizeof *symbol) : NULL;
    if (!symbol)
        return CPROF_ENOMEM;
    *symbol = *from;
    *out = symbol;
    return CPROF_OK;
}

/* The outermost function's name: the source's, but where that is the symbol's behind underscores (a library's
 * own alias, `__qsort_r`), the symbol's. NULL: neither is known. */
static const char *best_name(const char *dwarf, const char *symbol)
{
    if (!dwarf || !symbol)
        return dwarf ? dwarf : symbol;
    return strcmp(dwarf + strspn(dwarf, "_"), symbol) == 0 ? symbol : dwarf;
}

static int make_symbol(uint64_t address, const cprof__mapping *mapping, uint32_t era,
                       const cprof__symbol **out)
{
    cprof__symbol symbol = {.mapping = mapping};
    cprof__dwarf_frame frames[CPROF__DWARF_FRAMES_MAX] = {{0}};
    outline o;
    int error = outline_of(mapping, address, &o);
    if (!error)
        error = find_call_target(address, era, &symbol.call_target);
    if (error)
        return error;
    int count = cprof__symfile_frames(o.file, mapping, address - mapping->bias, frames);
    if (count < 0)
        return count;
    if (!count)
        count = 1;
    const char *name = best_name(frames[count - 1].function, o.name);
    if (!name)
        name = cprof__nativenames_find(mapping, o.start);
    symbol.named = name != NULL;
    if (!name)
        name = invented_name(mapping, o.start ? o.start : address);
    symbol.lines = name ? make_lines(frames, count, name) : NULL;
    symbol.line_count = (uint32_t)count;
    symbol.function_start = o.start;
    return new_symbol(&symbol, out);
}

/* Of every address in no mapping. */
static const cprof__line stray_line = {"", "", 0, 0};
static const cprof__symbol stray = {.lines = &stray_line, .line_count = 1};
static const cprof__line full_line = {"[symbol table full]", "", 0, 0};
static const cprof__symbol full = {.lines = &full_line, .line_count = 1};

/* ---- The cache ---- */

typedef struct wanted {
    uint64_t address;
    uint32_t era;
} wanted;

static bool found_equal(const void *context, uint32_t number)
{
    const wanted *w = context;
    const found *f = &cache[number];
    if (f->address != w->address)
        return false;
    const cprof__mapping *mapping = f->symbol->mapping;
    return w->era >= mapping->era_first && w->era < cprof__code_era_limit(mapping);
}

static int remember(uint64_t hash, uint64_t address, const cprof__symbol *symbol, uint32_t names_seen)
{
    if (!reserve((void **)&cache, cache_count, &cache_room, sizeof *cache))
        return CPROF_ENOMEM;
    cache[cache_count] = (found){address, symbol, names_seen};
    if (!cprof__map_add(&cache_map, hash, cache_count))
        return CPROF_ENOMEM;
    cache_count++;
    return CPROF_OK;
}

/* The lines of OLD, whose outermost function is called NAME. */
static const cprof__line *renamed_lines(const cprof__symbol *old, const char *name)
{
    cprof__line *lines = cprof__arena_alloc(&arena, old->line_count * sizeof *lines);
    if (!lines)
        return NULL;
    memcpy(lines, old->lines, old->line_count * sizeof *lines);
    lines[old->line_count - 1].function = keep(name);
    return lines[old->line_count - 1].function ? lines : NULL;
}

/* A function that had no name may have got one since. */
static int rename_found(found *f)
{
    const cprof__symbol *old = f->symbol;
    uint32_t names_seen = cprof__nativenames_count(); /* before the look, so that none is missed */
    const char *name = cprof__nativenames_find(old->mapping, old->function_start);
    if (name) {
        cprof__symbol symbol = *old;
        symbol.named = true;
        symbol.lines = renamed_lines(old, name);
        int error = new_symbol(&symbol, &f->symbol);
        if (error)
            return error;
    }
    f->names_seen = names_seen;
    return CPROF_OK;
}

static int find(uint64_t address, uint32_t era, const cprof__symbol **out)
{
    wanted w = {address, era};
    uint64_t hash = cprof__hash_word(0, address);
    int64_t number = cprof__map_find(&cache_map, hash, found_equal, &w);
    if (number >= 0) {
        found *f = &cache[number];
        int error =
            f->symbol->named || f->names_seen == cprof__nativenames_count() ? CPROF_OK : rename_found(f);
        if (!error)
            *out = f->symbol;
        return error;
    }
    const cprof__mapping *mapping = cprof__code_mapping(address, era);
    if (!mapping) {
        *out = &stray;
        return CPROF_OK;
    }
    if (cache_count >= CPROF__SYMBOLS_MAX) {
        *out = &full;
        return CPROF_OK;
    }
    const cprof__symbol *symbol;
    uint32_t names_seen = cprof__nativenames_count();
    int error = make_symbol(address, mapping, era, &symbol);
    if (!error)
        error = remember(hash, address, symbol, names_seen);
    if (!error)
        *out = symbol;
    return error;
}

int cprof__symbols_find(uint64_t address, uint32_t era, const cprof__symbol **out)
{
    cprof__lock_take(&lock);
    int error = find(address, era, out);
    cprof__lock_give(&lock);
    return error;
}

/* ---- Questions about symbols ---- */

/* GCC moves what is rarely run of `f` to `f.cold`, which is still f. */
static size_t hot_length(const char *name)
{
    const char *cold = strstr(name, ".cold");
    return cold && cold != name ? (size_t)(cold - name) : strlen(name);
}

static bool same_function(const cprof__symbol *a, const cprof__symbol *b)
{
    if (a->function_start == b->function_start)
        return true;
    const char *one = a->lines[a->line_count - 1].function, *other = b->lines[b->line_count - 1].function;
    size_t length = hot_length(one);
    return a->mapping == b->mapping && length == hot_length(other) && strncmp(one, other, length) == 0;
}

uint64_t cprof__symbols_tail_called(const cprof__symbol *outer, const cprof__symbol *inner)
{
    const cprof__symbol *target;
    if (!outer->call_target || !inner->named)
        return 0;
    /* The newest era in which OUTER's code was there. */
    uint32_t era = cprof__code_era(), limit = cprof__code_era_limit(outer->mapping);
    if (era >= limit)
        era = limit - 1;
    if (cprof__symbols_find(outer->call_target, era, &target) || !target->named ||
        same_function(target, inner))
        return 0;
    return outer->call_target;
}

cprof__mapping_has cprof__symbols_mapping_has(const cprof__mapping *mapping)
{
    cprof__symfile *file;
    cprof__lock_take(&lock);
    bool dwarf = cprof__symfile_get(mapping, &file) == CPROF_OK && file->has_dwarf;
    cprof__lock_give(&lock);
    return (cprof__mapping_has){true, dwarf, dwarf, dwarf};
}

void cprof__symbols_rest(void)
{
    cprof__lock_take(&lock);
    cprof__symfile_rest();
    cprof__lock_give(&lock);
}
