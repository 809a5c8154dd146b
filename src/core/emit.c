/* SPDX-License-Identifier: MIT
 *
 * See emit.h. One pass over the samples: a mapping, function or location is written when the first sample
 * that needs it comes, so ids are 1, 2, 3 … in the order of the file. The program itself is mapping 1, as
 * pprof wants it.
 */
#include "core/emit.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/strings.h"
#include "base/thread.h"
#include "core/labels.h"
#include "core/resolve.h"
#include "core/vmcode.h"
#include "cprof_vm.h"
#include "encode/encoder.h"
#include "encode/text.h"

#include <sys/auxv.h>

/* A growing array of 64-bit keys with an index: the number of a key is its place, from 1. */
struct numbering {
    cprof__map map;
    struct key {
        uint64_t a, b, c;
    } * keys;
    uint32_t count, room;
};

struct writer {
    cprof__encoder *encoder;
    const cprof__emission *emission;
    bool symbolize;
    struct numbering mappings, functions, locations;
    cprof__strings names; /* of functions and files */
    cprof__places places;
    uint64_t *ids;
    cprof__encode_line *lines;
    size_t id_room, line_room;
};

static bool equal(const void *context, uint32_t number)
{
    const struct numbering *numbering = context;
    const struct key *a = &numbering->keys[numbering->count], *b = &numbering->keys[number];
    return a->a == b->a && a->b == b->b && a->c == b->c;
}

/* The number of KEY, from 1; *NEW tells whether it is the first time. 0: memory ran out. */
static uint64_t number_of(struct numbering *numbering, struct key key, bool *new)
{
    if (numbering->count == numbering->room) {
        uint32_t room = numbering->room ? numbering->room * 2 : 64;
        struct key *keys = cprof__realloc(numbering->keys, room * sizeof *keys);
        if (!keys)
            return 0;
        numbering->keys = keys;
        numbering->room = room;
    }
    uint64_t hash = cprof__hash_word(cprof__hash_word(cprof__hash_word(0, key.a), key.b), key.c);
    numbering->keys[numbering->count] = key; /* where EQUAL looks for it */
    int64_t found = cprof__map_find(&numbering->map, hash, equal, numbering);
    *new = found < 0;
    if (found >= 0)
        return (uint64_t)found + 1;
    if (!cprof__map_add(&numbering->map, hash, numbering->count))
        return 0;
    return ++numbering->count;
}

static void numbering_fini(struct numbering *numbering)
{
    cprof__map_fini(&numbering->map);
    cprof__free(numbering->keys);
}

static void *grown(void *list, size_t *room, size_t needed, size_t size)
{
    if (needed <= *room)
        return list;
    void *longer = cprof__realloc(list, needed * 2 * size);
    if (longer)
        *room = needed * 2;
    return longer;
}

/* MAPPING's id; NULL is the range of the VMs' functions. */
static uint64_t emit_mapping(struct writer *w, const cprof__mapping *mapping)
{
    bool new;
    uint64_t id = number_of(&w->mappings, (struct key){mapping ? mapping->number + 1 : 0, 0, 0}, &new);
    if (!id || !new)
        return id;
    cprof__encode_mapping out = {
        id, CPROF_VM_ADDRESS_MIN, CPROF_VM_ADDRESS_MAX, 0, "[lua]", "", true, true, true, true};
    if (mapping) {
        cprof__mapping_has has = {false, false, false, false};
        if (w->symbolize)
            has = cprof__symbols_mapping_has(mapping);
        out = (cprof__encode_mapping){id,
                                      mapping->start,
                                      mapping->limit,
                                      mapping->file_offset,
                                      mapping->path,
                                      mapping->build_id,
                                      has.functions,
                                      has.filenames,
                                      has.line_numbers,
                                      has.inline_frames};
    }
    cprof__encoder_mapping(w->encoder, &out);
    return id;
}

static uint64_t emit_function(struct writer *w, const cprof__line *line)
{
    bool new;
    int64_t name = cprof__strings_intern(&w->names, line->function, strlen(line->function));
    int64_t file = cprof__strings_intern(&w->names, line->file, strlen(line->file));
    if (name < 0 || file < 0)
        return 0;
    struct key key = {(uint64_t)name, (uint64_t)file, (uint64_t)line->start_line};
    uint64_t id = number_of(&w->functions, key, &new);
    if (!id || !new)
        return id;
    cprof__encode_function out = {id, line->function, line->function, line->file, line->start_line};
    cprof__encoder_function(w->encoder, &out);
    return id;
}

static uint64_t emit_location(struct writer *w, const cprof__place *place)
{
    bool new, vm = cprof__vmcode_is(place->address), symbolize = vm || w->symbolize;
    size_t count = symbolize ? place->line_count : 0;
    struct key key = {place->address, count, place->mapping ? place->mapping->number : UINT64_MAX};
    uint64_t id = number_of(&w->locations, key, &new);
    if (!id || !new)
        return id;
    cprof__encode_line *lines = grown(w->lines, &w->line_room, count + 1, sizeof *lines);
    uint64_t mapping = vm || place->mapping ? emit_mapping(w, place->mapping) : 0;
    if (!lines || ((vm || place->mapping) && !mapping))
        return 0;
    w->lines = lines;
    for (size_t i = 0; i < count; i++) {
        const cprof__line *line = &cprof__place_lines(place)[i];
        lines[i] = (cprof__encode_line){emit_function(w, line), line->line};
        if (!lines[i].function_id)
            return 0;
    }
    cprof__encode_location out = {id, mapping, place->address, lines, count};
    cprof__encoder_location(w->encoder, &out);
    return id;
}

static int emit_row(struct writer *w, const struct cprof__sums_row *row)
{
    cprof__stack stack = cprof__stacks_get(row->stack);
    int code = cprof__resolve(&w->places, &stack);
    if (code)
        return code;
    uint64_t *ids = grown(w->ids, &w->id_room, w->places.count + 1, sizeof *ids);
    if (!ids)
        return cprof__fail_memory();
    w->ids = ids;
    for (size_t i = 0; i < w->places.count; i++) {
        ids[i] = emit_location(w, &w->places.list[i]);
        if (!ids[i])
            return cprof__fail_memory();
    }
    cprof__encode_sample sample = {
        .location_ids = ids, .location_count = w->places.count, .values = row->values};
    sample.labels = cprof_labels_list(cprof__labels_get(row->labels), &sample.label_count);
    cprof__encoder_sample(w->encoder, &sample);
    return 0;
}

static int emit_program(struct writer *w)
{
    const cprof__mapping *program = cprof__code_mapping(getauxval(AT_ENTRY), cprof__code_era());
    return !program || emit_mapping(w, program) ? 0 : cprof__fail_memory();
}

static int emit_proto(const cprof__emission *emission, cprof_write_fn write, void *context,
                      const cprof_write_options *options)
{
    struct writer w = {.emission = emission, .symbolize = options->symbolize != 0};
    int code = cprof__encoder_open(write, context, options->gzip_level, &w.encoder);
    if (code)
        return code;
    const cprof__description *about = emission->about;
    cprof__encoder_sample_types(w.encoder, about->types, about->columns);
    cprof__encoder_period(w.encoder, &about->period_type, about->period);
    if (about->default_type)
        cprof__encoder_default_sample_type(w.encoder, about->default_type);
    cprof__encoder_time(w.encoder, about->time_ns, about->duration_ns);
    for (size_t i = 0; i < about->comment_count; i++)
        cprof__encoder_comment(w.encoder, about->comments[i]);
    (void)cprof__code_refresh(NULL);
    code = emit_program(&w);
    for (size_t i = 0; i < emission->row_count && !code && !cprof__encoder_failed(w.encoder); i++)
        code = emit_row(&w, &emission->rows[i]);
    numbering_fini(&w.mappings);
    numbering_fini(&w.functions);
    numbering_fini(&w.locations);
    cprof__strings_fini(&w.names);
    cprof__places_fini(&w.places);
    cprof__free(w.ids);
    cprof__free(w.lines);
    int closed = cprof__encoder_close(w.encoder);
    return code ? code : closed;
}

static int emit_text_row(cprof__text *text, cprof__places *places, const struct cprof__sums_row *row,
                         cprof__text_frame **frames, size_t *room)
{
    cprof__stack stack = cprof__stacks_get(row->stack);
    int code = cprof__resolve(places, &stack);
    if (code)
        return code;
    size_t count = 0, labels;
    for (size_t i = 0; i < places->count; i++)
        count += places->list[i].line_count;
    cprof__text_frame *list = grown(*frames, room, count + 1, sizeof *list);
    if (!list)
        return cprof__fail_memory();
    *frames = list;
    count = 0;
    for (size_t i = 0; i < places->count; i++)
        for (uint32_t j = 0; j < places->list[i].line_count; j++) {
            const cprof__place *place = &places->list[i];
            const cprof__line *line = &cprof__place_lines(place)[j];
            list[count++] = (cprof__text_frame){place->address, place->function_start, line->function,
                                                line->file, line->line};
        }
    const cprof_label *label = cprof_labels_list(cprof__labels_get(row->labels), &labels);
    cprof__text_sample(text, row->values, label, labels, list, count);
    return 0;
}

static int emit_text(const cprof__emission *emission, cprof_write_fn write, void *context)
{
    int64_t totals[CPROF_SAMPLE_TYPES_MAX] = {0};
    for (size_t i = 0; i < emission->row_count; i++)
        for (size_t j = 0; j < CPROF_SAMPLE_TYPES_MAX; j++) /* they wrap */
            totals[j] = (int64_t)((uint64_t)totals[j] + (uint64_t)emission->rows[i].values[j]);
    cprof__text *text;
    const cprof__description *about = emission->about;
    int code = about->heap ? cprof__text_open_heap(write, context, totals, about->types, &text)
                           : cprof__text_open(write, context, about->name, totals[0], about->types,
                                              about->columns, &text);
    if (code)
        return code;
    for (size_t i = 0; i < about->comment_count; i++)
        cprof__text_comment(text, about->comments[i]);
    cprof__places places = {0};
    cprof__text_frame *frames = NULL;
    size_t room = 0;
    (void)cprof__code_refresh(NULL);
    for (size_t i = 0; i < emission->row_count && !code && !cprof__text_failed(text); i++)
        code = emit_text_row(text, &places, &emission->rows[i], &frames, &room);
    cprof__places_fini(&places);
    cprof__free(frames);
    int closed = cprof__text_close(text);
    return code ? code : closed;
}

/* The program's function, in which the program's memory is allocated. */
struct receiver {
    cprof_write_fn write;
    void *context;
};

static int receive(void *context, const void *bytes, size_t length)
{
    const struct receiver *receiver = context;
    cprof__thread_end_quiet();
    int result = receiver->write(receiver->context, bytes, length);
    cprof__thread_begin_quiet();
    return result;
}

int cprof__emit(const cprof__emission *emission, cprof_write_fn write, void *context,
                const cprof_write_options *options)
{
    static const cprof_write_options defaults = CPROF_WRITE_OPTIONS_INIT;
    if (!options)
        options = &defaults;
    if (options->struct_size < sizeof *options)
        return cprof__fail(CPROF_EINVAL, "options: struct_size is %zu", options->struct_size);
    if (options->debug < 0 || options->debug > 1)
        return cprof__fail(CPROF_EINVAL, "debug: %d is not 0 or 1", options->debug);
    if (options->gzip_level < 0 || options->gzip_level > 9)
        return cprof__fail(CPROF_EINVAL, "gzip_level: %d is not between 0 and 9", options->gzip_level);
    struct receiver receiver = {write, context};
    cprof__thread_begin_quiet();
    int code = options->debug ? emit_text(emission, receive, &receiver)
                              : emit_proto(emission, receive, &receiver, options);
    cprof__symbols_rest();
    cprof__thread_end_quiet();
    return code;
}
