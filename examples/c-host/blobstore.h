/* SPDX-License-Identifier: MIT
 *
 * A client of a blob server. Its users want to know how many blobs they hold open, and who opened them: each
 * open blob is an entry of the profile "blobstore.Open". All of it may be called from any thread.
 */
#ifndef BLOBSTORE_H
#define BLOBSTORE_H

typedef struct blob blob;

/* Defines the profile; once, before the first blob. Returns: 0 or cprof's error. */
int blobstore_init(void);

/* Opens the blob NAME; NULL where memory ran out. */
blob *blobstore_open(const char *name);

/* Closes CLOSING and frees it. NULL is fine. */
void blobstore_close(blob *closing);

#endif
