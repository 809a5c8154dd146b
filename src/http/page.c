/* SPDX-License-Identifier: MIT
 *
 * See page.h. The page needs nothing but itself (no script, no font, no image), works without a mouse and on
 * a phone, and all its links are relative, so it works behind a proxy that gives it another prefix.
 */
#define _GNU_SOURCE
#include "http/page.h"

#include "base/alloc.h"
#include "base/error.h"
#include "cprof.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_LINE_BYTES_MAX 256
#define CPU_NAME "profile"
#define CPU_LINK "profile?seconds=30"

static const char HEAD[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>/debug/pprof/</title>\n"
    "<style>\n"
    ":root { color-scheme: light dark; --ink: #1c2733; --dim: #5b6875; --line: #d8dee5;\n"
    "  --sheet: #fff; --code: #f2f5f8; --link: #00677f }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ee; --dim: #93a1b0; --line: #34404d;\n"
    "  --sheet: #161c23; --code: #202932; --link: #5dc9e2 } }\n"
    "body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 60rem;\n"
    "  color: var(--ink); background: var(--sheet); font: 1rem/1.5 system-ui, sans-serif }\n"
    "h1 { margin: 0; font-size: 1.4rem }\n"
    "p { margin: .3rem 0 }\n"
    "a { color: var(--link) }\n"
    ".dim { color: var(--dim); font-size: .9rem; overflow-wrap: anywhere }\n"
    "code { font: .85rem/1.5 ui-monospace, monospace }\n"
    "td code { display: block; margin-top: .4rem; padding: .3rem .6rem; border-radius: .3rem;\n"
    "  background: var(--code); overflow-wrap: anywhere; user-select: all }\n"
    "table { width: 100%; border-collapse: collapse; margin: 1.5rem 0 }\n"
    "th { padding: .3rem .6rem; text-align: left; color: var(--dim); font-size: .9rem;\n"
    "  font-weight: normal }\n"
    "td { padding: .8rem .6rem; border-top: 1px solid var(--line); vertical-align: top }\n"
    "th:first-child, td:first-child { width: 1%; padding-left: 0; text-align: right;\n"
    "  font-variant-numeric: tabular-nums }\n"
    "th:last-child, td:last-child { width: 1%; padding-right: 0; white-space: nowrap }\n"
    "td:last-child a:first-child { margin-right: .8rem }\n"
    ".name { font-weight: 600; overflow-wrap: anywhere }\n"
    "@media (max-width: 40rem) { thead { display: none } table, tbody { display: block }\n"
    "  tr { display: grid; grid-template-columns: minmax(3rem, auto) 1fr; gap: .3rem .8rem; padding: .8rem "
    "0;\n"
    "    border-top: 1px solid var(--line) }\n"
    "  td { border: 0; padding: 0 } td:last-child { grid-column: 2; padding: .4rem 0 } }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<h1>/debug/pprof/</h1>\n";

static const char TAIL[] =
    "<p class=\"dim\">Also here: <a href=\"cmdline\">cmdline</a>, the command line of this program, and\n"
    "<a href=\"symbol\">symbol</a>, names for addresses (<code>symbol?0x401234+0x401300</code>, or a POST of "
    "them).</p>\n"
    "<p class=\"dim\">A profile is a gzipped pprof protobuf; with <code>?debug=1</code> it is text.</p>\n"
    "</body>\n"
    "</html>\n";

/* What the profiles that Go and cprof define themselves hold. */
static const struct {
    const char *name, *text;
} DESCRIPTIONS[] = {
    {"allocs", "A sample of all memory allocations so far"},
    {"block", "Stacks that led to waiting on synchronization primitives"},
    {"goroutine", "Stacks of all threads and coroutines as they are now"},
    {"heap", "A sample of the memory allocations that are live"},
    {"mutex", "Stacks of those who held a contended mutex"},
    {"profile", "Where CPU time goes; seconds says for how long to look, hz how often a second"},
    {"threadcreate", "Stacks that led to new threads"},
};

/* Whether NAME can stand in a path as it is, slashes and all: no segment is empty or dots, which clients
 * resolve before they ask. (The names of pages are built-in: no profile can have them.) */
static bool fits_a_path(const char *name)
{
    for (const char *segment = name;; segment++) {
        size_t length = strcspn(segment, "/");
        if (length == 0 || (length <= 2 && memcmp(segment, "..", length) == 0))
            return false;
        segment += length;
        if (!*segment)
            return true;
    }
}

void cprof__page_link(cprof__buffer *page, const char *name, bool text)
{
    bool path = fits_a_path(name);
    if (!path)
        cprof__buffer_text(page, "?name=");
    cprof__buffer_url(page, name, path ? "/" : "");
    if (text)
        cprof__buffer_text(page, path ? "?debug=1" : "&debug=1");
}

/* For attributes: the link's '&' is the one character in it that HTML minds. */
static void link_attribute(cprof__buffer *page, const char *name, bool text)
{
    cprof__buffer link = {0};
    cprof__page_link(&link, name, text);
    page->failed |= link.failed;
    if (!link.failed)
        cprof__buffer_html(page, link.data);
    cprof__buffer_fini(&link);
}

/* The command to copy. A shell would take '?' for a pattern, so such a URL is quoted. */
static void command(cprof__buffer *page, const char *authority, const char *name)
{
    const char *quote = fits_a_path(name) ? "" : "'";
    cprof__buffer_format(page, "<code>go tool pprof %shttp://", quote);
    cprof__buffer_html(page, authority);
    cprof__buffer_text(page, "/debug/pprof/");
    link_attribute(page, name, false);
    cprof__buffer_format(page, "%s</code>", quote);
}

/* NULL where NAME is not built in. */
static const char *built_in_description(const char *name)
{
    for (size_t i = 0; i < sizeof DESCRIPTIONS / sizeof DESCRIPTIONS[0]; i++)
        if (strcmp(DESCRIPTIONS[i].name, name) == 0)
            return DESCRIPTIONS[i].text;
    return NULL;
}

static void description(cprof__buffer *page, const cprof_profile *profile)
{
    const char *name = cprof_profile_name(profile);
    const char *built_in = built_in_description(name);
    if (built_in) {
        cprof__buffer_text(page, built_in);
        return;
    }
    const cprof_value_type *types;
    size_t count = cprof_profile_sample_types(profile, &types);
    if (count == 1 && strcmp(types[0].type, name) == 0) {
        cprof__buffer_text(page, "The stacks that its entries were added from");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        cprof__buffer_text(page, i == 0 ? "Stacks with " : i + 1 < count ? ", " : " and ");
        cprof__buffer_html(page, types[i].type);
        cprof__buffer_text(page, " (");
        cprof__buffer_html(page, types[i].unit);
        cprof__buffer_text(page, ")");
    }
}

/* Heap profiles hold nothing until they are turned on. */
static bool is_off(const char *name)
{
    return cprof_mem_profile_rate() == 0 && (strcmp(name, "heap") == 0 || strcmp(name, "allocs") == 0);
}

static void off_row(cprof__buffer *page, const char *name)
{
    cprof__buffer_format(
        page,
        "<tr><td></td>\n<td><span class=\"name\">%s</span>\n<div class=\"dim\">%s; turned off</div>"
        "</td>\n<td></td></tr>\n",
        name, built_in_description(name));
}

static void row(cprof__buffer *page, const cprof_profile *profile, const char *authority)
{
    const char *name = cprof_profile_name(profile);
    if (is_off(name)) {
        off_row(page, name);
        return;
    }
    cprof__buffer_format(page, "<tr><td>%" PRId64 "</td>\n<td><a class=\"name\" href=\"",
                         cprof_profile_count(profile));
    link_attribute(page, name, true);
    cprof__buffer_text(page, "\">");
    cprof__buffer_html(page, name);
    cprof__buffer_text(page, "</a>\n<div class=\"dim\">");
    description(page, profile);
    cprof__buffer_text(page, "</div>\n");
    command(page, authority, name);
    cprof__buffer_text(page, "</td>\n<td><a href=\"");
    link_attribute(page, name, true);
    cprof__buffer_text(page, "\">text</a> <a href=\"");
    link_attribute(page, name, false);
    cprof__buffer_text(page, "\">download</a></td></tr>\n");
}

/* The CPU profile is recorded when it is asked for: it has no count and no text, and its links take their time.
 */
static void cpu_row(cprof__buffer *page, const char *authority)
{
    cprof__buffer_format(page,
                         "<tr><td></td>\n<td><a class=\"name\" href=\"%s\">" CPU_NAME "</a>\n"
                         "<div class=\"dim\">%s</div>\n<code>go tool pprof 'http://",
                         CPU_LINK, built_in_description(CPU_NAME));
    cprof__buffer_html(page, authority);
    cprof__buffer_format(page, "/debug/pprof/%s'</code></td>\n<td><a href=\"%s\">record 30 s</a></td></tr>\n",
                         CPU_LINK, CPU_LINK);
}

/* The rows, sorted by name as PROFILES are. */
static void rows(cprof__buffer *page, cprof_profile *const *profiles, size_t count, const char *authority)
{
    size_t i = 0;
    for (; i < count && strcmp(cprof_profile_name(profiles[i]), CPU_NAME) < 0; i++)
        row(page, profiles[i], authority);
    cpu_row(page, authority);
    for (; i < count; i++)
        row(page, profiles[i], authority);
}

void cprof__page_cmdline(cprof__buffer *page)
{
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    char piece[4096];
    for (ssize_t length; (length = read(file, piece, sizeof piece)) > 0;)
        cprof__buffer_append(page, piece, (size_t)length);
    close(file);
    if (page->length > 0 &&
        page->data[page->length - 1] == 0) /* arguments end with 0; Go only parts them by it */
        page->length--;
}

/* Who answers here: a person may have several such pages open. */
static void program(cprof__buffer *page)
{
    cprof__buffer line = {0};
    cprof__page_cmdline(&line);
    cprof__buffer_format(page, "<p class=\"dim\">process %ld", (long)getpid());
    if (line.length > 0) {
        size_t length = line.length < COMMAND_LINE_BYTES_MAX ? line.length : COMMAND_LINE_BYTES_MAX;
        for (size_t i = 0; i < length; i++)
            if (line.data[i] == 0)
                line.data[i] = ' ';
        line.data[length] = 0;
        cprof__buffer_text(page, ": <code>");
        cprof__buffer_html(page, line.data);
        cprof__buffer_text(page, length < line.length ? "…</code>" : "</code>");
    }
    cprof__buffer_text(page, "</p>\n");
    page->failed |= line.failed;
    cprof__buffer_fini(&line);
}

static bool any_own(cprof_profile *const *profiles, size_t count)
{
    size_t i = 0;
    while (i < count && built_in_description(cprof_profile_name(profiles[i])))
        i++;
    return i < count;
}

int cprof__page_index(cprof__buffer *page, const char *authority)
{
    cprof_profile **profiles;
    size_t count;
    int error = cprof_profiles(&profiles, &count);
    if (error)
        return error;
    cprof__buffer_text(page, HEAD);
    program(page);
    cprof__buffer_text(
        page, "<table>\n<thead><tr><th>Count</th><th>Profile</th><th>Open as</th></tr></thead>\n<tbody>\n");
    rows(page, profiles, count, authority);
    cprof__buffer_text(page, "</tbody>\n</table>\n");
    if (!any_own(profiles, count))
        cprof__buffer_text(page, "<p>This program has defined no profile of its own yet.</p>\n");
    cprof__buffer_text(page, TAIL);
    cprof_free(profiles);
    return page->failed ? cprof__fail_memory() : CPROF_OK;
}
