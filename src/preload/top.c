/* SPDX-License-Identifier: MIT */
#include "preload/top.h"

#include "base/alloc.h"
#include "base/map.h"
#include "preload/library.h"

#include <stdlib.h>
#include <string.h>

/* pprof leaves out functions below this share of the total (nodefraction), and so does the list. */
#define SHARE_MIN 0.005

typedef struct node {
    const char *name; /* the snapshot's */
    int64_t flat, cum;
    size_t seen; /* the last sample, plus 1, in which it was met: recursion counts once */
} node;

typedef struct table {
    node *nodes;
    size_t count, room;
    cprof__map index;
} table;

typedef struct wanted {
    const node *nodes;
    const char *name;
} wanted;

static bool same_name(const void *context, uint32_t number)
{
    const wanted *w = context;
    return strcmp(w->nodes[number].name, w->name) == 0;
}

/* The node called NAME, made where there is none; NULL where memory ran out. */
static node *find(table *t, const char *name)
{
    uint64_t hash = cprof__hash_bytes(0, name, strlen(name));
    int64_t number = cprof__map_find(&t->index, hash, same_name, &(wanted){t->nodes, name});
    if (number >= 0)
        return &t->nodes[number];
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        node *nodes = cprof__realloc(t->nodes, room * sizeof *nodes);
        if (!nodes)
            return NULL;
        t->nodes = nodes;
        t->room = room;
    }
    if (!cprof__map_add(&t->index, hash, (uint32_t)t->count))
        return NULL;
    t->nodes[t->count] = (node){name, 0, 0, 0};
    return &t->nodes[t->count++];
}

static int add_sample(table *t, const cprof_sample *sample, int64_t value, size_t serial)
{
    for (size_t i = 0; i < sample->frame_count; i++) {
        const char *name = sample->frames[i].name;
        node *n = find(t, *name ? name : "<unknown>");
        if (!n)
            return CPROF_ENOMEM;
        if (i == 0)
            n->flat += value;
        if (n->seen != serial)
            n->cum += value;
        n->seen = serial;
    }
    return 0;
}

static int by_flat(const void *left, const void *right)
{
    const node *a = left, *b = right;
    if (a->flat != b->flat)
        return a->flat > b->flat ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* ---- Text, as pprof 1.19 has it ---- */

static const struct {
    const char *name;
    double ns;
} UNITS[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"hrs", 3600e9}};

static int unit_of(int64_t value)
{
    int unit = sizeof UNITS / sizeof *UNITS - 1;
    while (unit > 0 && (double)value < UNITS[unit].ns)
        unit--;
    return unit;
}

static void print_value(FILE *out, const char *format, int64_t value, int unit)
{
    char text[48];
    int length = snprintf(text, sizeof text, "%.2f", (double)value / UNITS[unit].ns);
    if (length > 3 && strcmp(text + length - 3, ".00") == 0)
        text[length -= 3] = 0;
    if (strcmp(text, "0") != 0)
        strcpy(text + length, UNITS[unit].name);
    fprintf(out, format, text);
}

static void print_share(FILE *out, int64_t value, int64_t total)
{
    double share = total ? (double)value / (double)total * 100 : 0;
    if (share >= 99.95 && share <= 100.05)
        fputs("  100%", out);
    else if (share >= 1)
        fprintf(out, "%5.2f%%", share);
    else
        fprintf(out, "%5.2g%%", share);
}

/* One unit for all: the smallest value's, or that of a hundred times it where the total has a larger one. */
static int common_unit(const node *nodes, size_t count, int64_t total)
{
    int64_t least = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t value = nodes[i].flat ? nodes[i].flat : nodes[i].cum;
        if (value && (!least || value < least))
            least = value;
    }
    if (!least)
        least = total;
    int unit = unit_of(least);
    return unit != unit_of(total) && least * 100 < total ? unit_of(least * 100) : unit;
}

static void print(FILE *out, const node *nodes, size_t count, int64_t total)
{
    int unit = common_unit(nodes, count, total);
    int64_t sum = 0;
    fprintf(out, "%10s %5s%% %5s%% %10s %5s%%\n", "flat", "flat", "sum", "cum", "cum");
    for (size_t i = 0; i < count; i++) {
        sum += nodes[i].flat;
        print_value(out, "%10s ", nodes[i].flat, unit);
        print_share(out, nodes[i].flat, total);
        fputc(' ', out);
        print_share(out, sum, total);
        print_value(out, " %10s ", nodes[i].cum, unit);
        print_share(out, nodes[i].cum, total);
        fprintf(out, "  %s\n", nodes[i].name);
    }
}

static void print_top(table *t, size_t rows, FILE *out, int64_t total)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++)
        if ((double)t->nodes[i].cum >= (double)total * SHARE_MIN)
            t->nodes[kept++] = t->nodes[i];
    if (kept)
        qsort(t->nodes, kept, sizeof *t->nodes, by_flat);
    if (kept)
        print(out, t->nodes, kept < rows ? kept : rows, total);
}

int cprof__top_print(cprof_snapshot *snapshot, size_t rows, FILE *out, cprof__top *top)
{
    const cprof_value_type *types;
    size_t last = cprof__library.cprof_snapshot_sample_types(snapshot, &types) - 1;
    size_t count = cprof__library.cprof_snapshot_sample_count(snapshot);
    table t = {0};
    int code = 0;
    *top = (cprof__top){0, 0};
    for (size_t i = 0; i < count && !code; i++) {
        cprof_sample sample;
        code = cprof__library.cprof_snapshot_sample(snapshot, i, &sample);
        if (code)
            break;
        top->samples += sample.values[0];
        top->total += sample.values[last];
        if (out)
            code = add_sample(&t, &sample, sample.values[last], i + 1);
    }
    if (!code && out)
        print_top(&t, rows, out, top->total);
    cprof__map_fini(&t.index);
    cprof__free(t.nodes);
    return code;
}
