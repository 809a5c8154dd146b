/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "blobstore.h"

#include "cprof.h"

#include <stdlib.h>
#include <string.h>

struct blob {
    char *name;
};

static cprof_profile *open_blobs;

int blobstore_init(void)
{
    return cprof_profile_new("blobstore.Open", NULL, &open_blobs);
}

blob *blobstore_open(const char *name)
{
    blob *opened = malloc(sizeof *opened);
    if (!opened)
        return NULL;
    opened->name = strdup(name);
    if (!opened->name ||
        cprof_profile_add(open_blobs, opened, 2) != 0) { /* 2: blame the caller of blobstore_open */
        free(opened->name);
        free(opened);
        return NULL;
    }
    return opened;
}

void blobstore_close(blob *closing)
{
    if (!closing)
        return;
    cprof_profile_remove(open_blobs, closing);
    free(closing->name);
    free(closing);
}
