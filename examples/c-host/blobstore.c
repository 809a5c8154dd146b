/* SPDX-License-Identifier: MIT */
#include "blobstore.h"

#include "cprof.h"

#include <stdlib.h>
#include <string.h>

struct blob {
    size_t length;
    char name[];
};

static cprof_profile *open_blobs;

int blobstore_init(void)
{
    return cprof_profile_new("blobstore.Open", NULL, &open_blobs);
}

blob *blobstore_open(const char *name)
{
    size_t length = strlen(name);
    blob *opened = malloc(sizeof *opened + length + 1);
    if (!opened)
        return NULL;
    opened->length = length;
    memcpy(opened->name, name, length + 1);

    cprof_profile_add(open_blobs, opened, 2); /* 2: blame the caller of blobstore_open */
    return opened;
}

void blobstore_close(blob *closing)
{
    if (!closing)
        return;
    cprof_profile_remove(open_blobs, closing);
    free(closing);
}
