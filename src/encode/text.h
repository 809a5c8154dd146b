/* SPDX-License-Identifier: MIT
 *
 * debug=1 text in the layout of Go's runtime/pprof (printCountProfile), which `go tool pprof` reads back:
 *
 *     blobstore.Open profile: total 800
 *     800 @ 0x47e1f2 0x47e2a1
 *     # labels: {"route":"/blob"}
 *     #	0x47e1f1	main.open+0x51	/src/main.c:12
 *
 * NAME is one word to readers: white space, control characters, '%' and '#' in it are percent-encoded, as in
 * its URL. Readers subtract one from every address, so each is printed plus one. Errors are sticky as in
 * encoder.h. Threads: one at a time. Signals: unsafe.
 */
#ifndef CPROF_ENCODE_TEXT_H
#define CPROF_ENCODE_TEXT_H

#include "cprof.h"

#include <stdbool.h>

typedef struct cprof__text cprof__text;

/* One frame to print; LOGICAL inlined frames of one address come one after the other with the same address.
 */
typedef struct cprof__text_frame {
    uint64_t address;        /* inside the call */
    uint64_t function_start; /* 0 where unknown: then no +0x… is printed */
    const char *function, *file;
    int64_t line;
} cprof__text_frame;

/* Opens a text for profile NAME with TOTAL (the sum of the first column) and prints its first line.
 * TYPES says what the columns are; with more than one, each record prints its values after the first in
 * brackets in a comment line. Returns: 0 or CPROF_ENOMEM. */
int cprof__text_open(cprof_write_fn write, void *context, const char *name, int64_t total,
                     const cprof_value_type *types, size_t type_count, cprof__text **out);

/* The same for a heap profile, whose columns are TYPES: objects and bytes allocated, then in use. The first line and
 * the records are in the layout of Go's writeHeap, but say (by "heapprofile") that the values are no raw samples:
 * readers scale those.
 *
 *     heap profile: 3: 4096 [10: 81920] @ heapprofile
 *     3: 4096 [10: 81920] @ 0x47e1f2 0x47e2a1
 */
int cprof__text_open_heap(cprof_write_fn write, void *context, const int64_t *totals,
                          const cprof_value_type *types, cprof__text **out);

/* One record: distinct addresses of FRAMES on the first line, then labels, then a line for each frame. */
void cprof__text_sample(cprof__text *text, const int64_t *values, const cprof_label *labels,
                        size_t label_count, const cprof__text_frame *frames, size_t frame_count);

/* A comment line ("# " and TEXT). */
void cprof__text_comment(cprof__text *text, const char *comment);

/* Whether there was an error: what is given from then on is for nothing. */
bool cprof__text_failed(const cprof__text *text);

/* Flushes and frees. Returns: 0 or the first error. */
int cprof__text_close(cprof__text *text);

#endif
