/* SPDX-License-Identifier: MIT
 *
 * See encoder.h. Every message leaves as a Profile that holds nothing else: the concatenation of encoded
 * messages is the encoding of their merger (https://protobuf.dev/programming-guides/encoding/#last-one-wins),
 * so the stream as a whole is one Profile, and no more than one sample is ever in memory. Scalars appear
 * once, because pprof takes a second time_nanos as the sign of two profiles in one file.
 */
#include "encode/encoder.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/strings.h"
#include "encode/stream.h"
#include "encode/utf8.h"

#include <assert.h>
#include <profile.pb-c.h>
#include <string.h>

typedef Perftools__Profiles__Profile profile_message;
typedef Perftools__Profiles__ValueType value_type_message;
typedef Perftools__Profiles__Sample sample_message;
typedef Perftools__Profiles__Label label_message;
typedef Perftools__Profiles__Mapping mapping_message;
typedef Perftools__Profiles__Location location_message;
typedef Perftools__Profiles__Line line_message;
typedef Perftools__Profiles__Function function_message;

#define STRINGS_AT_ONCE 64

/* Memory that is used anew for each message. */
struct scratch {
    void *memory;
    size_t size;
};

struct cprof__encoder {
    cprof__stream output; /* its error is the encoder's */
    cprof__strings strings;
    struct scratch packed; /* the message's bytes */
    struct scratch parts;  /* its lines or labels */
    size_t sample_types;
    bool time_given, period_given;
    /* Ids given so far, and the greatest ones referred to. */
    uint64_t mappings, functions, locations;
    uint64_t mapping_max, function_max, location_max;
};

static void fail_memory(cprof__encoder *encoder)
{
    if (!encoder->output.error)
        encoder->output.error = CPROF_ENOMEM;
}

static void *reserve(cprof__encoder *encoder, struct scratch *scratch, size_t size)
{
    if (size <= scratch->size)
        return scratch->memory;
    size_t grown = size < 1024 ? 1024 : size + size / 2;
    void *memory = cprof__realloc(scratch->memory, grown);
    if (!memory) {
        fail_memory(encoder);
        return NULL;
    }
    *scratch = (struct scratch){memory, grown};
    return memory;
}

static void put(cprof__encoder *encoder, const profile_message *message)
{
    if (encoder->output.error)
        return;
    size_t size = perftools__profiles__profile__get_packed_size(message);
    uint8_t *packed = reserve(encoder, &encoder->packed, size);
    if (!packed)
        return;
    perftools__profiles__profile__pack(message, packed);
    cprof__stream_put(&encoder->output, packed, size);
}

/* Interns TEXT with each ill-formed byte replaced. */
static int64_t intern_repaired(cprof__encoder *encoder, const char *text, size_t length)
{
    const size_t replacement = sizeof CPROF__UTF8_REPLACEMENT - 1;
    char *repaired = cprof__malloc(length * replacement);
    if (!repaired)
        return -1;
    size_t used = 0;
    for (size_t i = 0, size; i < length; i += size ? size : 1) {
        size = cprof__utf8_character(text + i, length - i);
        memcpy(repaired + used, size ? text + i : CPROF__UTF8_REPLACEMENT, size ? size : replacement);
        used += size ? size : replacement;
    }
    int64_t number = cprof__strings_intern(&encoder->strings, repaired, used);
    cprof__free(repaired);
    return number;
}

static int64_t string(cprof__encoder *encoder, const char *text)
{
    if (encoder->output.error)
        return 0;
    size_t length = strlen(text);
    int64_t number = cprof__utf8_valid(text, length) ? cprof__strings_intern(&encoder->strings, text, length)
                                                     : intern_repaired(encoder, text, length);
    if (number < 0)
        fail_memory(encoder);
    return number < 0 ? 0 : number;
}

static void refer(uint64_t *greatest, uint64_t id)
{
    if (id > *greatest)
        *greatest = id;
}

int cprof__encoder_open(cprof_write_fn write, void *context, int gzip_level, cprof__encoder **out)
{
    cprof__encoder *encoder = cprof__calloc(1, sizeof *encoder);
    if (!encoder)
        return cprof__fail_memory();
    int error = cprof__stream_open(&encoder->output, write, context, gzip_level);
    if (error) {
        cprof__free(encoder);
        return error;
    }
    *out = encoder;
    return CPROF_OK;
}

void cprof__encoder_sample_types(cprof__encoder *encoder, const cprof_value_type *types, size_t count)
{
    assert(encoder->sample_types == 0 && count > 0);
    encoder->sample_types = count;
    for (size_t i = 0; i < count; i++) {
        value_type_message type = PERFTOOLS__PROFILES__VALUE_TYPE__INIT;
        type.type = string(encoder, types[i].type);
        type.unit = string(encoder, types[i].unit);
        profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
        message.n_sample_type = 1;
        message.sample_type = &(value_type_message *){&type};
        put(encoder, &message);
    }
}

void cprof__encoder_period(cprof__encoder *encoder, const cprof_value_type *type, int64_t period)
{
    assert(!encoder->period_given);
    encoder->period_given = true;
    value_type_message period_type = PERFTOOLS__PROFILES__VALUE_TYPE__INIT;
    period_type.type = string(encoder, type->type);
    period_type.unit = string(encoder, type->unit);
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.period_type = &period_type;
    message.period = period;
    put(encoder, &message);
}

void cprof__encoder_time(cprof__encoder *encoder, int64_t time_ns, int64_t duration_ns)
{
    assert(!encoder->time_given);
    encoder->time_given = true;
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.time_nanos = time_ns;
    message.duration_nanos = duration_ns;
    put(encoder, &message);
}

void cprof__encoder_comment(cprof__encoder *encoder, const char *text)
{
    int64_t comment = string(encoder, text);
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_comment = 1;
    message.comment = &comment;
    put(encoder, &message);
}

void cprof__encoder_default_sample_type(cprof__encoder *encoder, const char *type)
{
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.default_sample_type = string(encoder, type);
    put(encoder, &message);
}

void cprof__encoder_mapping(cprof__encoder *encoder, const cprof__encode_mapping *mapping)
{
    assert(mapping->id == encoder->mappings + 1);
    assert(mapping->start < mapping->limit);
    encoder->mappings = mapping->id;
    mapping_message packed = PERFTOOLS__PROFILES__MAPPING__INIT;
    packed.id = mapping->id;
    packed.memory_start = mapping->start;
    packed.memory_limit = mapping->limit;
    packed.file_offset = mapping->file_offset;
    packed.filename = string(encoder, mapping->file);
    packed.build_id = string(encoder, mapping->build_id);
    packed.has_functions = mapping->has_functions;
    packed.has_filenames = mapping->has_filenames;
    packed.has_line_numbers = mapping->has_line_numbers;
    packed.has_inline_frames = mapping->has_inline_frames;
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_mapping = 1;
    message.mapping = &(mapping_message *){&packed};
    put(encoder, &message);
}

void cprof__encoder_function(cprof__encoder *encoder, const cprof__encode_function *function)
{
    assert(function->id == encoder->functions + 1);
    encoder->functions = function->id;
    function_message packed = PERFTOOLS__PROFILES__FUNCTION__INIT;
    packed.id = function->id;
    packed.name = string(encoder, function->name);
    packed.system_name = string(encoder, function->system_name);
    packed.filename = string(encoder, function->file);
    packed.start_line = function->start_line;
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_function = 1;
    message.function = &(function_message *){&packed};
    put(encoder, &message);
}

void cprof__encoder_location(cprof__encoder *encoder, const cprof__encode_location *location)
{
    assert(location->id == encoder->locations + 1);
    encoder->locations = location->id;
    refer(&encoder->mapping_max, location->mapping_id);
    size_t count = location->line_count;
    line_message **list =
        reserve(encoder, &encoder->parts, count * (sizeof(line_message *) + sizeof(line_message)));
    if (count && !list)
        return;
    line_message *lines = count ? (line_message *)(list + count) : NULL;
    for (size_t i = 0; i < count; i++) {
        assert(location->lines[i].function_id > 0);
        refer(&encoder->function_max, location->lines[i].function_id);
        lines[i] = (line_message)PERFTOOLS__PROFILES__LINE__INIT;
        lines[i].function_id = location->lines[i].function_id;
        lines[i].line = location->lines[i].line;
        list[i] = &lines[i];
    }
    location_message packed = PERFTOOLS__PROFILES__LOCATION__INIT;
    packed.id = location->id;
    packed.mapping_id = location->mapping_id;
    packed.address = location->address;
    packed.n_line = count;
    packed.line = list;
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_location = 1;
    message.location = &(location_message *){&packed};
    put(encoder, &message);
}

/* The unit that is written for the number of LABEL. A label that has no string and no unit, and is 0, is none for
 * pprof; so it gets the unit that pprof gives to numbers without one, and is shown and filtered as they are. */
static const char *unit_of(const cprof_label *label)
{
    if (label->unit && *label->unit)
        return label->unit;
    if (label->num)
        return "";
    return strcmp(label->key, "request") == 0 || strcmp(label->key, "alignment") == 0 ? "bytes" : label->key;
}

static label_message label_of(cprof__encoder *encoder, const cprof_label *label)
{
    label_message packed = PERFTOOLS__PROFILES__LABEL__INIT;
    packed.key = string(encoder, label->key);
    if (label->str) {
        packed.str = string(encoder, label->str);
    } else {
        packed.num = label->num;
        packed.num_unit = string(encoder, unit_of(label));
    }
    return packed;
}

void cprof__encoder_sample(cprof__encoder *encoder, const cprof__encode_sample *sample)
{
    assert(encoder->sample_types > 0);
    for (size_t i = 0; i < sample->location_count; i++) {
        assert(sample->location_ids[i] > 0);
        refer(&encoder->location_max, sample->location_ids[i]);
    }
    size_t count = sample->label_count;
    label_message **list =
        reserve(encoder, &encoder->parts, count * (sizeof(label_message *) + sizeof(label_message)));
    if (count && !list)
        return;
    label_message *labels = count ? (label_message *)(list + count) : NULL;
    for (size_t i = 0; i < count; i++) {
        labels[i] = label_of(encoder, &sample->labels[i]);
        list[i] = &labels[i];
    }
    /* protobuf-c reads through these pointers only; its structs are not const because they serve to unpack,
     * too. */
    sample_message packed = PERFTOOLS__PROFILES__SAMPLE__INIT;
    packed.n_location_id = sample->location_count;
    packed.location_id = (uint64_t *)sample->location_ids;
    packed.n_value = encoder->sample_types;
    packed.value = (int64_t *)sample->values;
    packed.n_label = count;
    packed.label = list;
    profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
    message.n_sample = 1;
    message.sample = &(sample_message *){&packed};
    put(encoder, &message);
}

static void put_strings(cprof__encoder *encoder)
{
    string(encoder, ""); /* entry 0 is there in a profile without any other string, too */
    for (uint32_t i = 0; i < encoder->strings.count && !encoder->output.error;) {
        char *texts[STRINGS_AT_ONCE];
        profile_message message = PERFTOOLS__PROFILES__PROFILE__INIT;
        message.string_table = texts;
        while (message.n_string_table < STRINGS_AT_ONCE && i < encoder->strings.count)
            texts[message.n_string_table++] = (char *)encoder->strings.list[i++].text;
        put(encoder, &message);
    }
}

bool cprof__encoder_failed(const cprof__encoder *encoder)
{
    return encoder->output.error != 0;
}

int cprof__encoder_close(cprof__encoder *encoder)
{
    assert(encoder->output.error ||
           (encoder->location_max <= encoder->locations && encoder->function_max <= encoder->functions &&
            encoder->mapping_max <= encoder->mappings));
    put_strings(encoder);
    int error = cprof__stream_close(&encoder->output);
    cprof__strings_fini(&encoder->strings);
    cprof__free(encoder->packed.memory);
    cprof__free(encoder->parts.memory);
    cprof__free(encoder);
    return error;
}
