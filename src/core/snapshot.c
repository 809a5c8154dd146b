/* SPDX-License-Identifier: MIT
 *
 * Snapshots of profiles and the calls that write them (cprof.h). A profile is locked only while it is added
 * up; what comes after, names and bytes, works on the copy.
 */
#define _GNU_SOURCE
#include "core/snapshot.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/output.h"
#include "core/emit.h"
#include "core/labels.h"
#include "core/profile.h"
#include "core/resolve.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cprof_snapshot {
    cprof__description about; /* its comments are in ARENA */
    int64_t count;
    atomic_int references;
    cprof__sums sums;     /* rows sorted: largest first value first */
    cprof__arena arena;   /* of FRAMES, and of comments */
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

int64_t cprof__realtime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int copy_comments(cprof_snapshot *snapshot, const cprof__description *about)
{
    const char **comments =
        cprof__arena_alloc(&snapshot->arena, (about->comment_count + 1) * sizeof *comments);
    if (!comments)
        return cprof__fail_memory();
    for (size_t i = 0; i < about->comment_count; i++) {
        comments[i] = cprof__arena_copy(&snapshot->arena, about->comments[i], strlen(about->comments[i]));
        if (!comments[i])
            return cprof__fail_memory();
    }
    snapshot->about.comments = comments;
    return 0;
}

int cprof__snapshot_make(const cprof__description *about, int64_t count, cprof__sums *sums,
                         cprof_snapshot **out)
{
    cprof_snapshot *snapshot = cprof__calloc(1, sizeof *snapshot);
    if (!snapshot) {
        cprof__sums_fini(sums);
        return cprof__fail_memory();
    }
    snapshot->about = *about;
    snapshot->count = count;
    snapshot->sums = *sums;
    *sums = (cprof__sums){.columns = sums->columns};
    atomic_init(&snapshot->references, 1);
    int code = copy_comments(snapshot, about);
    if (code) {
        cprof_snapshot_free(snapshot);
        return code;
    }
    if (snapshot->sums.count)
        qsort(snapshot->sums.rows, snapshot->sums.count, sizeof *snapshot->sums.rows, by_value);
    *out = snapshot;
    return 0;
}

cprof_snapshot *cprof__snapshot_share(cprof_snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->references, 1);
    return snapshot;
}

int cprof_profile_snapshot(cprof_profile *profile, cprof_snapshot **out)
{
    if (!profile || !out)
        return cprof__fail(CPROF_EINVAL, "profile: NULL");
    if (profile->builtin)
        return profile->builtin->snapshot(profile->builtin, out);
    const cprof__description about = {.name = profile->name,
                                      .types = profile->types,
                                      .columns = profile->columns,
                                      .period_type = profile->types[0],
                                      .period = 1,
                                      .time_ns = cprof__realtime_ns()};
    cprof__sums sums = {0};
    int64_t count = cprof_profile_count(profile);
    int code = cprof__profile_sum(profile, &sums);
    if (code) {
        cprof__sums_fini(&sums);
        return code;
    }
    return cprof__snapshot_make(&about, count, &sums, out);
}

void cprof_snapshot_free(cprof_snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->references, 1) != 1)
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
    return snapshot->about.name;
}

int64_t cprof_snapshot_count(const cprof_snapshot *snapshot)
{
    return snapshot->count;
}

size_t cprof_snapshot_sample_types(const cprof_snapshot *snapshot, const cprof_value_type **types)
{
    *types = snapshot->about.types;
    return snapshot->about.columns;
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
    cprof__emission emission = {&snapshot->about, snapshot->sums.rows, snapshot->sums.count};
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
