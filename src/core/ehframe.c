/* SPDX-License-Identifier: MIT
 *
 * See ehframe.h. The functions are found by .eh_frame_hdr's sorted table, or one after the other where it has
 * none.
 */
#include "core/ehframe.h"

#include "base/alloc.h"
#include "core/cfi.h"
#include "cprof.h"

#include <dwarf.h>
#include <stdlib.h>

/* Where one function's entry (FDE) lies. */
typedef struct entry {
    uint64_t start, at; /* of its code; of the entry itself */
} entry;

typedef struct parser {
    const cprof__eh_source *source;
    entry *entries;
    size_t entry_count, entry_room;
    cprof__row *rows;
    size_t row_count, row_room;
    cprof__row_function *functions;
    size_t function_count, function_room;
    uint64_t common_at; /* which common entry COMMON is; they are few and stand in runs */
    cprof__cfi_common common;
    uint64_t limit; /* of the function at hand */
    bool out_of_memory;
} parser;

/* Makes room for one more. */
static bool reserve(parser *p, void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return true;
    size_t grown = *room ? *room * 2 : 256;
    void *moved = cprof__realloc(*array, grown * size);
    if (!moved) {
        p->out_of_memory = true;
        return false;
    }
    *array = moved;
    *room = grown;
    return true;
}

/* The bytes from ADDRESS to the end of the source; none where ADDRESS is outside. */
static cprof__cursor cursor_at(const cprof__eh_source *s, uint64_t address)
{
    uint64_t offset = address - s->address;
    if (offset >= s->size)
        return (cprof__cursor){s->bytes + s->size, s->bytes + s->size, true};
    return (cprof__cursor){s->bytes + offset, s->bytes + s->size, false};
}

static uint64_t address_of(const cprof__eh_source *s, const cprof__cursor *c)
{
    return s->address + (uint64_t)(c->at - s->bytes);
}

/* A number in the format of DW_EH_PE ENCODING, not yet relative to anything. */
static uint64_t plain(cprof__cursor *c, uint8_t encoding)
{
    switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
        return cprof__cursor_uint(c, 8);
    case DW_EH_PE_udata4:
        return cprof__cursor_uint(c, 4);
    case DW_EH_PE_sdata4:
        return (uint64_t)cprof__cursor_int(c, 4);
    case DW_EH_PE_udata2:
        return cprof__cursor_uint(c, 2);
    case DW_EH_PE_sdata2:
        return (uint64_t)cprof__cursor_int(c, 2);
    case DW_EH_PE_uleb128:
        return cprof__cursor_uleb(c);
    case DW_EH_PE_sleb128:
        return (uint64_t)cprof__cursor_sleb(c);
    default:
        c->bad = true;
        return 0;
    }
}

/* The address that is encoded so. What is relative to data is so to the header. */
static uint64_t encoded(const cprof__eh_source *s, cprof__cursor *c, uint8_t encoding)
{
    uint64_t place = address_of(s, c), value = plain(c, encoding);
    switch (encoding & 0xf0) {
    case DW_EH_PE_absptr:
        return value - s->bias;
    case DW_EH_PE_pcrel:
        return value + place;
    case DW_EH_PE_datarel:
        return value + s->header;
    default:
        c->bad = true;
        return 0;
    }
}

/* Begins an entry: *C is left behind its length, ending where the entry ends. Returns false at the section's
 * end. */
static bool open_entry(cprof__cursor *c)
{
    uint64_t length = cprof__cursor_uint(c, 4);
    if (length == UINT32_MAX)
        length = cprof__cursor_uint(c, 8);
    if (!length || c->bad || length > cprof__cursor_left(c))
        return false;
    c->end = c->at + length;
    return true;
}

/* The augmentation's data, of which only the encoding and the signal mark concern us. */
static bool parse_augmentation(cprof__cursor *c, const char *letters, cprof__cfi_common *out)
{
    uint64_t size = cprof__cursor_uleb(c);
    cprof__cursor data = *c;
    cprof__cursor_skip(c, size);
    if (c->bad)
        return false;
    data.end = c->at;
    for (const char *letter = letters + 1; *letter; letter++) {
        if (*letter == 'R')
            out->pointer_encoding = (uint8_t)cprof__cursor_uint(&data, 1);
        else if (*letter == 'L')
            cprof__cursor_uint(&data, 1);
        else if (*letter == 'P')
            plain(&data, (uint8_t)cprof__cursor_uint(&data, 1));
        else if (*letter == 'S')
            out->is_signal = true;
        else if (*letter != 'B')
            return false;
    }
    return !data.bad;
}

static bool parse_common(const cprof__eh_source *s, uint64_t at, cprof__cfi_common *out)
{
    cprof__cursor c = cursor_at(s, at);
    *out = (cprof__cfi_common){.pointer_encoding = DW_EH_PE_absptr};
    if (!open_entry(&c) || cprof__cursor_uint(&c, 4) != 0)
        return false;
    uint64_t version = cprof__cursor_uint(&c, 1);
    const char *letters = (const char *)c.at;
    const uint8_t *letters_end = memchr(c.at, 0, cprof__cursor_left(&c));
    if ((version != 1 && version != 3) || !letters_end)
        return false;
    c.at = letters_end + 1;
    out->code_align = cprof__cursor_uleb(&c);
    out->data_align = cprof__cursor_sleb(&c);
    uint64_t return_register = version == 1 ? cprof__cursor_uint(&c, 1) : cprof__cursor_uleb(&c);
    out->has_augmentation = *letters == 'z';
    if (*letters && (!out->has_augmentation || !parse_augmentation(&c, letters, out)))
        return false;
    out->initial = c;
    return !c.bad && return_register == 16;
}

static const cprof__cfi_common *common_at(parser *p, uint64_t at)
{
    if (p->common_at != at) {
        p->common_at = 0;
        if (!parse_common(p->source, at, &p->common))
            return NULL;
        p->common_at = at;
    }
    return &p->common;
}

static bool add_row(void *context, uint64_t address, cprof__rule rule)
{
    parser *p = context;
    uint32_t start = (uint32_t)(address - p->source->base);
    if (address >= p->limit)
        return true; /* said beyond the function's end; or the last row, and the function ended with an
                        advance */
    if (p->row_count && p->rows[p->row_count - 1].rule == rule)
        return true;
    if (p->row_count && p->rows[p->row_count - 1].start == start) {
        p->rows[p->row_count - 1].rule = rule;
        return true;
    }
    if (!reserve(p, (void **)&p->rows, p->row_count, &p->row_room, sizeof *p->rows))
        return false;
    p->rows[p->row_count++] = (cprof__row){start, rule};
    return true;
}

/* Reads an entry's head: START and SIZE of its code, *C left at its instructions. Returns NULL where it is
 * none. */
static const cprof__cfi_common *open_function(parser *p, cprof__cursor *c, uint64_t *start, uint64_t *size)
{
    const cprof__eh_source *s = p->source;
    if (!open_entry(c))
        return NULL;
    uint64_t place = address_of(s, c), distance = cprof__cursor_uint(c, 4);
    const cprof__cfi_common *common = distance ? common_at(p, place - distance) : NULL;
    if (!common)
        return NULL;
    *start = encoded(s, c, common->pointer_encoding);
    *size = plain(c, common->pointer_encoding);
    if (common->has_augmentation)
        cprof__cursor_skip(c, cprof__cursor_uleb(c));
    return c->bad ? NULL : common;
}

/* Adds the rows of the entry at AT, where it is sound and lies behind what is there already. */
static bool add_function(parser *p, uint64_t at)
{
    const cprof__eh_source *s = p->source;
    cprof__cursor c = cursor_at(s, at);
    uint64_t start, size;
    const cprof__cfi_common *common = open_function(p, &c, &start, &size);
    if (!common || start < s->base || start >= s->limit || size == 0 || size > s->limit - start)
        return true;
    uint64_t last = p->function_count ? s->base + p->functions[p->function_count - 1].limit : s->base;
    if (start < last)
        return true;
    if (!reserve(p, (void **)&p->functions, p->function_count, &p->function_room, sizeof *p->functions))
        return false;
    p->limit = UINT64_MAX;
    if (start > last && !add_row(p, last, CPROF__RULE_FRAME))
        return false;
    p->limit = start + size;
    p->functions[p->function_count++] =
        (cprof__row_function){(uint32_t)(start - s->base), (uint32_t)(start + size - s->base)};
    return cprof__cfi_run(common, c, start, add_row, p);
}

static bool add_entry(parser *p, entry e)
{
    if (!reserve(p, (void **)&p->entries, p->entry_count, &p->entry_room, sizeof *p->entries))
        return false;
    p->entries[p->entry_count++] = e;
    return true;
}

/* All functions from AT on, for files whose header has no table. */
static bool scan_entries(parser *p, uint64_t at)
{
    for (;;) {
        cprof__cursor c = cursor_at(p->source, at), whole = c;
        if (!open_entry(&whole))
            return true;
        uint64_t start, size;
        if (open_function(p, &c, &start, &size) && !add_entry(p, (entry){start, at}))
            return false;
        at = p->source->address + (uint64_t)(whole.end - p->source->bytes);
    }
}

/* Reads .eh_frame_hdr. */
static bool find_entries(parser *p)
{
    const cprof__eh_source *s = p->source;
    if (!s->size)
        return true;
    cprof__cursor c = cursor_at(s, s->header);
    if (s->header_size < cprof__cursor_left(&c))
        c.end = c.at + s->header_size;
    uint64_t version = cprof__cursor_uint(&c, 1);
    uint8_t section_encoding = (uint8_t)cprof__cursor_uint(&c, 1);
    uint8_t count_encoding = (uint8_t)cprof__cursor_uint(&c, 1);
    uint8_t table_encoding = (uint8_t)cprof__cursor_uint(&c, 1);
    if (version != 1)
        return true;
    uint64_t section = encoded(s, &c, section_encoding);
    if (c.bad)
        return true;
    if (count_encoding == DW_EH_PE_omit || table_encoding == DW_EH_PE_omit)
        return scan_entries(p, section);
    uint64_t count = plain(&c, count_encoding);
    for (uint64_t i = 0; i < count && cprof__cursor_left(&c) && !c.bad; i++) {
        entry e;
        e.start = encoded(s, &c, table_encoding);
        e.at = encoded(s, &c, table_encoding);
        if (!c.bad && !add_entry(p, e))
            return false;
    }
    return true;
}

static int by_start(const void *left, const void *right)
{
    const entry *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

static bool sorted(const parser *p)
{
    for (size_t i = 1; i < p->entry_count; i++)
        if (p->entries[i].start < p->entries[i - 1].start)
            return false;
    return true;
}

static bool parse(parser *p)
{
    if (!find_entries(p))
        return false;
    if (p->entry_count && !sorted(p))
        qsort(p->entries, p->entry_count, sizeof *p->entries, by_start);
    for (size_t i = 0; i < p->entry_count; i++)
        if (!add_function(p, p->entries[i].at))
            return false;
    uint64_t end = p->function_count ? p->functions[p->function_count - 1].limit : 0;
    p->limit = UINT64_MAX;
    return add_row(p, p->source->base + end, CPROF__RULE_FRAME);
}

/* What has grown beyond what it holds gives the rest back; where that fails it stays as it is. */
static void *shrunk(void *array, size_t bytes)
{
    void *moved = bytes ? cprof__realloc(array, bytes) : NULL;
    return moved ? moved : array;
}

int cprof__ehframe_parse(const cprof__eh_source *source, cprof__rows **out)
{
    parser p = {.source = source};
    cprof__rows *rows = cprof__calloc(1, sizeof *rows);
    cprof__eh_source narrowed = *source;
    if (narrowed.limit - narrowed.base > UINT32_MAX)
        narrowed.limit = narrowed.base + UINT32_MAX;
    p.source = &narrowed;
    bool parsed = rows && parse(&p);
    cprof__free(p.entries);
    if (!parsed) {
        cprof__free(p.rows);
        cprof__free(p.functions);
        cprof__free(rows);
        return CPROF_ENOMEM;
    }
    rows->rows = shrunk(p.rows, p.row_count * sizeof *p.rows);
    rows->row_count = (uint32_t)p.row_count;
    rows->functions = shrunk(p.functions, p.function_count * sizeof *p.functions);
    rows->function_count = (uint32_t)p.function_count;
    *out = rows;
    return CPROF_OK;
}

void cprof__rows_free(cprof__rows *rows)
{
    if (!rows)
        return;
    cprof__free((void *)rows->rows);
    cprof__free((void *)rows->functions);
    cprof__free(rows);
}
