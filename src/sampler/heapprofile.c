/* SPDX-License-Identifier: MIT
 *
 * Turning heap profiles on and off, and what they say: the calls of cprof.h, and the built-in profiles.
 */
#define _GNU_SOURCE
#include "base/error.h"
#include "core/instance.h"
#include "core/snapshot.h"
#include "sampler/heap.h"
#include "sampler/nativeheap.h"
#include "sampler/state.h"
#include "sampler/vmheap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

int cprof_set_mem_profile_rate(int64_t bytes, int64_t *old)
{
    if (bytes < 0)
        return cprof__fail(CPROF_EINVAL, "rate: %lld is negative", (long long)bytes);
    if (bytes > CPROF__HEAP_RATE_MAX)
        return cprof__fail(CPROF_EINVAL, "rate: %lld is more than 2^40", (long long)bytes);
    int code = cprof__instance_claim();
    if (code)
        return code;
    int cancellation = cprof__sampler_take();
    if (!bytes) {
        cprof__nativeheap_undo();
        cprof__vmheap_forget();
    }
    int64_t before = cprof__heap_set_rate(bytes);
    cprof__sampler_give(cancellation);
    if (old)
        *old = before;
    return 0;
}

int cprof_heap_native(int on, int *old)
{
    int code = 0, before = cprof__nativeheap_is_on();
    if (on && !cprof_mem_profile_rate())
        code = cprof_set_mem_profile_rate(CPROF_MEM_PROFILE_RATE_DEFAULT, NULL);
    if (code)
        return code;
    int cancellation = cprof__sampler_take();
    if (on)
        code = cprof__nativeheap_apply();
    else
        cprof__nativeheap_undo();
    cprof__sampler_give(cancellation);
    if (!code && old)
        *old = before;
    return code;
}

/* ---- The profiles ---- */

#define TYPES                                                                                                \
    {                                                                                                        \
        {"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"},                    \
        {                                                                                                    \
            "inuse_space", "bytes"                                                                           \
        }                                                                                                    \
    }

/* What a reader should know of the samples. */
typedef struct remarks {
    char texts[4][96];
    const char *list[4];
    size_t count;
} remarks;

static void __attribute__((format(printf, 2, 3))) remark(remarks *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->texts[r->count], sizeof r->texts[0], format, arguments);
    va_end(arguments);
    r->list[r->count] = r->texts[r->count];
    r->count++;
}

static void write_remarks(remarks *r, int64_t mean)
{
    int64_t lost = cprof__heap_lost(), unresolved = cprof__vmheap_unresolved();
    r->count = 0;
    remark(r, "one sample in %" PRId64 " bytes", mean);
    remark(r, "malloc: %s", cprof__nativeheap_is_on() ? "recorded" : "not recorded");
    if (unresolved)
        remark(r, "%" PRId64 " samples without the Lua frames of who asked", unresolved);
    if (lost)
        remark(r, "%" PRId64 " samples lost, for want of memory", lost);
}

static int snapshot(const cprof__builtin *builtin, cprof_snapshot **out)
{
    int64_t mean = cprof_mem_profile_rate();
    remarks r;
    if (!mean)
        return cprof__fail(CPROF_EOFF,
                           "profile '%s' is turned off; set_mem_profile_rate(%d) turns it on, and "
                           "set_native_heap(true) with malloc in it",
                           builtin->name, CPROF_MEM_PROFILE_RATE_DEFAULT);
    write_remarks(&r, mean);
    const cprof__description about = {.name = builtin->name,
                                      .types = builtin->types,
                                      .columns = builtin->columns,
                                      .default_type =
                                          builtin == &cprof__heap_allocs ? "alloc_space" : "inuse_space",
                                      .heap = true,
                                      .period_type = {"space", "bytes"},
                                      .period = mean,
                                      .time_ns = cprof__realtime_ns(),
                                      .comments = r.list,
                                      .comment_count = r.count};
    cprof__sums sums = {.columns = 4};
    int64_t count = builtin->count(builtin);
    int code = cprof__heap_add_up(&sums);
    if (code) {
        cprof__sums_fini(&sums);
        return code;
    }
    return cprof__snapshot_make(&about, count, &sums, out);
}

static int64_t count_live(const cprof__builtin *builtin)
{
    (void)builtin;
    return cprof__heap_live_count();
}

static int64_t count_allocated(const cprof__builtin *builtin)
{
    (void)builtin;
    return cprof__heap_allocated_count();
}

const cprof__builtin cprof__heap_heap = {"heap", TYPES, 4, snapshot, count_live};
const cprof__builtin cprof__heap_allocs = {"allocs", TYPES, 4, snapshot, count_allocated};
