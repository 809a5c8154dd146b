/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/recorder.h"

#include "preload/library.h"
#include "preload/scribe.h"
#include "preload/top.h"
#include "preload/voice.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOP_ROWS 10
#define FEW_SAMPLES 100 /* below, a function's share of 50% is known to ten points at best (two sigma) */

static struct {
    const cprof__settings *settings;
    cprof_recording *recording; /* written before the scribe starts */
    atomic_bool forked;
    _Atomic(const char *) remark;
} recorder;

void cprof__recorder_remark(const char *text)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&recorder.remark, &none, text);
}

void cprof__recorder_forked(void)
{
    atomic_store(&recorder.forked, true);
}

int cprof__recorder_start(const cprof__settings *settings)
{
    recorder.settings = settings;
    recorder.recording = NULL;
    atomic_store(&recorder.forked, false);
    return cprof__library.cprof_start_cpu_profile(&settings->cpu, &recorder.recording);
}

/* ---- Words ---- */

static void print_seconds(FILE *out, const cprof__top *top)
{
    const char *mode = recorder.settings->cpu.mode;
    fprintf(out, "%" PRId64 " sample%s, %.2fs%s", top->samples, top->samples == 1 ? "" : "s",
            (double)top->total / 1e9, mode && strcmp(mode, "wall") == 0 ? "" : " of CPU time");
}

/* What is said at the end: of the first process all, of others a line. */
static void print_end(FILE *out, const cprof__top *top, const char *list, const char *file, bool first)
{
    const char *name = recorder.settings->name, *remark = atomic_load(&recorder.remark);
    if (first)
        fprintf(out, "%s%scprof: %s: ", *list ? "cprof: the most used functions\n" : "", list, name);
    else
        fprintf(out, "cprof: %s (process %d): ", name, (int)getpid());
    print_seconds(out, top);
    fprintf(out, ": %s\n", file);
    if (!first)
        return;
    if (top->samples < FEW_SAMPLES)
        fprintf(out, "cprof: only %" PRId64 " sample%s: shares are rough; run longer, or raise --hz\n",
                top->samples, top->samples == 1 ? "" : "s");
    if (remark)
        fprintf(out, "cprof: %s\n", remark);
    char path[PATH_MAX];
    if (atomic_load(&recorder.forked) && !cprof__settings_numbered(recorder.settings) &&
        cprof__settings_path(recorder.settings, 0, path))
        fprintf(out, "cprof: its children write files of their own: %s.PID\n", path);
}

static void say_end(const cprof__top *top, const char *list, const char *file, bool first)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        return;
    print_end(out, top, list, file, first);
    if (fclose(out) == 0)
        cprof__voice_say(text, length);
    free(text);
}

/* ---- The end ---- */

/* The file for what ran before an exec: its name is not yet taken. */
static bool part_path(char *path)
{
    for (int part = 1; part < 1000; part++) {
        if (!cprof__settings_path(recorder.settings, part, path))
            return false;
        if (access(path, F_OK) != 0)
            return true;
    }
    return false;
}

/* Writes the file, and to TEXT what is said of it: its name, or what went wrong. */
static void write_file(cprof_snapshot *snapshot, bool part, char *text, size_t size)
{
    char path[PATH_MAX];
    if (!(part ? part_path(path) : cprof__settings_path(recorder.settings, 0, path)))
        snprintf(text, size, "not written: no name is left for the file");
    else if (cprof__library.cprof_snapshot_write(snapshot, path, NULL) != 0)
        snprintf(text, size, "not written: %s", cprof__library.cprof_last_error());
    else
        snprintf(text, size, "%s", path);
}

static void finish(cprof_snapshot *snapshot, bool part)
{
    char *list = NULL, file[PATH_MAX + 64];
    size_t length = 0;
    bool first = getpid() == recorder.settings->root && !part;
    cprof__top top;
    FILE *out = open_memstream(&list, &length);
    int code = cprof__top_print(snapshot, TOP_ROWS, out, &top);
    bool told = (!out || fclose(out) == 0) && code == 0;
    if (first || top.samples || !told) {
        write_file(snapshot, part, file, sizeof file);
        say_end(&top, told && list ? list : "", file, first);
    }
    free(list);
}

void cprof__recorder_finish(int why)
{
    cprof_snapshot *snapshot = NULL;
    if (!recorder.recording)
        return;
    /* No output was given to the recording, so that nothing but memory can fail. */
    (void)cprof__library.cprof_recording_stop(recorder.recording, &snapshot);
    if (snapshot)
        finish(snapshot, why == CPROF__END_EXEC);
    else
        cprof__voice_complain("leaves no file", cprof__library.cprof_last_error());
    cprof__library.cprof_snapshot_free(snapshot);
    cprof__library.cprof_recording_free(recorder.recording);
    recorder.recording = NULL;
}
