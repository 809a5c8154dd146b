/* SPDX-License-Identifier: MIT
 *
 * The page at /debug/pprof/: which profiles there are, how much is in them, and how to read them.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_HTTP_PAGE_H
#define CPROF_HTTP_PAGE_H

#include "http/buffer.h"

/* Appends the page; AUTHORITY ("host:port") is what the client calls us. Returns: 0 or CPROF_ENOMEM. */
int cprof__page_index(cprof__buffer *page, const char *authority);

/* Appends the path and query of the profile NAME relative to /debug/pprof/, encoded: "blobstore.Open", or
 * "?name=.." where a path cannot carry it. Text where TEXT is set. */
void cprof__page_link(cprof__buffer *page, const char *name, bool text);

/* Appends what the program was started as, arguments separated by 0. */
void cprof__page_cmdline(cprof__buffer *page);

#endif
