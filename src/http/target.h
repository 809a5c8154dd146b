/* SPDX-License-Identifier: MIT
 *
 * The target of a request, "/debug/pprof/a%20b?debug=1" as it came over the wire, taken apart.
 * Percent-encoding is undone here and nowhere else, once. Source: RFC 9112, section 3.2. Threads: any.
 * Signals: unsafe.
 */
#ifndef CPROF_HTTP_TARGET_H
#define CPROF_HTTP_TARGET_H

typedef struct cprof__target {
    char *path;  /* decoded */
    char *query; /* what followed the '?', as it came; "" where nothing did */
} cprof__target;

/* Takes apart TEXT, in origin form ("/path") or absolute form ("http://host/path").
 * Returns: 0; CPROF_EINVAL (a broken or NUL escape, another form), CPROF_ENOMEM. Owns: cprof__target_fini
 * frees it. */
int cprof__target_parse(const char *text, cprof__target *target);
void cprof__target_fini(cprof__target *target);

/* The first value of KEY in the query, decoded ('+' is a space); "" where there is none. Fields with broken
 * or NUL escapes count as absent, as they do in Go. Returns: 0 or CPROF_ENOMEM. Owns: the caller frees *VALUE
 * with cprof__free. */
int cprof__target_query(const cprof__target *target, const char *key, char **value);

/* The number that TEXT is, as Go's ParseInt says it even where there was an error: 0 for what is no number,
 * the largest for what is too large. */
long long cprof__target_number(const char *text);

#endif
