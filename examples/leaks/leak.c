/* SPDX-License-Identifier: MIT
 *
 * A program that leaks: each session is put on a list when it begins, and forgotten there when it ends. Two heap
 * profiles, written some sessions apart, tell who keeps what; see README.md.
 *
 *   leak [FOLDER]   writes before.pb.gz and after.pb.gz there ("." where none is given)
 */
#include "cprof.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct session {
    struct session *next;
    char *name;
    char buffer[4000];
} session;

static session *sessions;

static char *copy_name(int number)
{
    char name[64];
    int length = snprintf(name, sizeof name, "session %d", number);
    char *copy = malloc((size_t)length + 1);
    if (copy)
        memcpy(copy, name, (size_t)length + 1);
    return copy;
}

static session *begin_session(int number)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->name = copy_name(number);
    s->next = sessions;
    sessions = s;
    return s;
}

/* The leak: the name is freed, the session itself stays on the list. */
static void end_session(session *s)
{
    free(s->name);
    s->name = NULL;
}

static void serve_sessions(int first, int last)
{
    for (int number = first; number <= last; number++) {
        session *s = begin_session(number);
        if (s)
            end_session(s);
    }
}

static int write_heap(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int code = cprof_profile_write(cprof_lookup("heap"), path, NULL);
    if (code)
        fprintf(stderr, "leak: %s\n", cprof_last_error());
    return code;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : ".";
    if (cprof_set_mem_profile_rate(4096, NULL) || cprof_heap_native(1, NULL)) {
        fprintf(stderr, "leak: %s\n", cprof_last_error());
        return 1;
    }
    serve_sessions(1, 1000);
    int code = write_heap(folder, "before.pb.gz");
    serve_sessions(1001, 6000);
    return code || write_heap(folder, "after.pb.gz") ? 1 : 0;
}
