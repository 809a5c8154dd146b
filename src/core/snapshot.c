/* SPDX-License-Identifier: MIT
 *
 * Snapshots of profiles and the calls that write them (cprof.h). A profile is locked only while it is added
 * up; what comes after, names and bytes, works on the copy.
 */
#define _GNU_SOURCE
#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/output.h"
#include "core/emit.h"
#include "core/labels.h"
#include "core/profile.h"
#include "core/resolve.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cprof_snapshot {
    const cprof_profile *profile;
    int64_t count, time_ns;
    cprof__sums sums;     /* rows sorted: largest first value first */
    cprof__arena arena;   /* of FRAMES */
    cprof_sample *frames; /* the samples that were resolved; NULL where none was */
};

/* Largest first; equals by their frames, so that two snapshots of the same entries are the same bytes. */
static int by_value(const void *left, const void *right)
{
    const struct cprof__sums_row *a = left, *b = right;
    for (int i = 0; i < CPROF_SAMPLE_TYPES_MAX; i++)
        if (a->values[i] != b->values[i])
            return a->values[i] > b->values[i] ? -1 : 1;
    cprof__stack s = cprof__stacks_get(a->stack), t = cprof__stacks_get(b->stack);
    for (uint32_t i = 0; i < s.depth && i < t.depth; i++)
        if (s.frames[i] != t.frames[i])
            return s.frames[i] < t.frames[i] ? -1 : 1;
    if (s.depth != t.depth)
        return s.depth < t.depth ? -1 : 1;
    return a->labels < b->labels ? -1 : a->labels > b->labels;
}

int cprof_profile_snapshot(cprof_profile *profile, cprof_snapshot **out)
{
    if (!profile || !out)
        return cprof__fail(CPROF_EINVAL, "profile: NULL");
    cprof_snapshot *snapshot = cprof__calloc(1, sizeof *snapshot);
    if (!snapshot)
        return cprof__fail_memory();
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snapshot->profile = profile;
    snapshot->count = cprof_profile_count(profile);
    snapshot->time_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    int code = cprof__profile_sum(profile, &snapshot->sums);
    if (code) {
        cprof_snapshot_free(snapshot);
        return code;
    }
    if (snapshot->sums.count)
        qsort(snapshot->sums.rows, snapshot->sums.count, sizeof *snapshot->sums.rows, by_value);
    *out = snapshot;
    return 0;
}

void cprof_snapshot_free(cprof_snapshot *snapshot)
{
    if (!snapshot)
        return;
    if (snapshot->frames)
        cprof__symbols_rest();
    cprof__sums_fini(&snapshot->sums);
    cprof__arena_fini(&snapshot->arena);
    cprof__free(snapshot->frames);
    cprof__free(snapshot);
}

const char *cprof_snapshot_name(const cprof_snapshot *snapshot)
{
    return snapshot->profile->name;
}

int64_t cprof_snapshot_count(const cprof_snapshot *snapshot)
{
    return snapshot->count;
}

size_t cprof_snapshot_sample_types(const cprof_snapshot *snapshot, const cprof_value_type **types)
{
    return cprof_profile_sample_types(snapshot->profile, types);
}

size_t cprof_snapshot_sample_count(const cprof_snapshot *snapshot)
{
    return snapshot->sums.count;
}

/* ---- Samples ---- */

static const char *mapping_name(const cprof__place *place)
{
    if (place->mapping)
        return place->mapping->path;
    return place->symbol ? "" : "[lua]";
}

static size_t frame_count(const cprof__places *places)
{
    size_t count = 0;
    for (size_t i = 0; i < places->count; i++)
        count += places->list[i].line_count;
    return count;
}

static void fill_frames(cprof_frame *frames, const cprof__places *places)
{
    for (size_t i = 0; i < places->count; i++)
        for (uint32_t j = 0; j < places->list[i].line_count; j++) {
            const cprof__place *place = &places->list[i];
            const cprof__line *line = &cprof__place_lines(place)[j];
            *frames++ = (cprof_frame){line->function,   line->file,     line->line,
                                      line->start_line, place->address, mapping_name(place)};
        }
}

int cprof_snapshot_sample(cprof_snapshot *snapshot, size_t index, cprof_sample *sample)
{
    if (!snapshot || !sample || index >= snapshot->sums.count)
        return cprof__fail(CPROF_EINVAL, "index: %zu is not a sample of this snapshot", index);
    if (!snapshot->frames) {
        snapshot->frames = cprof__calloc(snapshot->sums.count, sizeof *snapshot->frames);
        if (!snapshot->frames)
            return cprof__fail_memory();
    }
    const struct cprof__sums_row *row = &snapshot->sums.rows[index];
    cprof_sample *resolved = &snapshot->frames[index];
    if (!resolved->values) {
        cprof__places places = {0};
        cprof__stack stack = cprof__stacks_get(row->stack);
        (void)cprof__code_refresh(NULL);
        int code = cprof__resolve(&places, &stack);
        size_t count = frame_count(&places);
        cprof_frame *frames =
            code ? NULL : cprof__arena_alloc(&snapshot->arena, (count + 1) * sizeof *frames);
        if (frames)
            fill_frames(frames, &places);
        cprof__places_fini(&places);
        if (!frames)
            return cprof__fail_memory();
        *resolved = (cprof_sample){row->values, cprof__labels_get(row->labels), frames, count};
    }
    *sample = *resolved;
    return 0;
}

int cprof_symbolize(uint64_t address, cprof_frame **frames, size_t *count)
{
    if (!frames || !count)
        return cprof__fail(CPROF_EINVAL, "frames: NULL");
    cprof__places places = {0};
    (void)cprof__code_refresh(NULL);
    int code = cprof__resolve_address(&places, address);
    if (!code && (places.count == 0 || (!places.list[0].mapping && !places.list[0].function_start)))
        code = cprof__fail(CPROF_ENOENT, "nothing is known of address 0x%llx", (unsigned long long)address);
    if (!code) {
        cprof_frame *list = cprof__malloc(frame_count(&places) * sizeof *list);
        if (list) {
            fill_frames(list, &places);
            *frames = list;
            *count = frame_count(&places);
        } else {
            code = cprof__fail_memory();
        }
    }
    cprof__places_fini(&places);
    return code;
}

/* ---- Writing ---- */

int cprof_snapshot_write_to(const cprof_snapshot *snapshot, cprof_write_fn write, void *context,
                            const cprof_write_options *options)
{
    if (!snapshot || !write)
        return cprof__fail(CPROF_EINVAL, "%s: NULL", snapshot ? "write" : "snapshot");
    const cprof_profile *profile = snapshot->profile;
    cprof__emission emission = {profile->name,       profile->types,       profile->columns,
                                snapshot->sums.rows, snapshot->sums.count, snapshot->time_ns};
    return cprof__emit(&emission, write, context, options);
}

int cprof_snapshot_write(const cprof_snapshot *snapshot, const char *path, const cprof_write_options *options)
{
    if (!path || !*path)
        return cprof__fail(CPROF_EINVAL, "path: empty");
    cprof__file file;
    int code = cprof__file_open(&file, path);
    if (code)
        return code;
    return cprof__file_close(&file, cprof_snapshot_write_to(snapshot, cprof__file_write, &file, options));
}

int cprof_snapshot_encode(const cprof_snapshot *snapshot, const cprof_write_options *options, void **bytes,
                          size_t *length)
{
    if (!bytes || !length)
        return cprof__fail(CPROF_EINVAL, "bytes: NULL");
    cprof__memory memory = {0};
    int code = cprof_snapshot_write_to(snapshot, cprof__memory_write, &memory, options);
    if (code == CPROF_ECANCELED)
        code = cprof__fail_memory();
    if (code) {
        cprof__free(memory.bytes);
        return code;
    }
    *bytes = memory.bytes;
    *length = memory.length;
    return 0;
}

int cprof_profile_write(cprof_profile *profile, const char *path, const cprof_write_options *options)
{
    cprof_snapshot *snapshot = NULL;
    int code = cprof_profile_snapshot(profile, &snapshot);
    if (code)
        return code;
    code = cprof_snapshot_write(snapshot, path, options);
    cprof_snapshot_free(snapshot);
    return code;
}

int cprof_profile_write_to(cprof_profile *profile, cprof_write_fn write, void *context,
                           const cprof_write_options *options)
{
    cprof_snapshot *snapshot = NULL;
    int code = cprof_profile_snapshot(profile, &snapshot);
    if (code)
        return code;
    code = cprof_snapshot_write_to(snapshot, write, context, options);
    cprof_snapshot_free(snapshot);
    return code;
}

int cprof_profile_encode(cprof_profile *profile, const cprof_write_options *options, void **bytes,
                         size_t *length)
{
    cprof_snapshot *snapshot = NULL;
    int code = cprof_profile_snapshot(profile, &snapshot);
    if (code)
        return code;
    code = cprof_snapshot_encode(snapshot, options, bytes, length);
    cprof_snapshot_free(snapshot);
    return code;
}

const char *cprof_version(void)
{
    return CPROF_VERSION;
}
