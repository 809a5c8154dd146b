/* SPDX-License-Identifier: MIT
 *
 * What the dynamic loader has mapped, seen through dl_iterate_phdr. No lock of ours is held while the
 * loader's is, for a program may call cprof from inside a callback of its own. Threads: any. Signals: unsafe.
 */
#ifndef CPROF_CORE_OBJECTS_H
#define CPROF_CORE_OBJECTS_H

#include "base/arena.h"
#include "sigsafe/codemap.h"

#define CPROF__BUILD_ID_BYTES_MAX 32

/* What a file is known by: the same contents have the same identity. */
typedef struct cprof__file_identity {
    uint64_t base, limit;             /* lowest and highest address of the file */
    uint64_t header, header_size;     /* of its .eh_frame_hdr, 0 where there is none */
    uint64_t device, inode, mtime_ns; /* where it has no build id */
    uint64_t build_id_size;           /* 64 bits: no padding, since identities are compared as bytes */
    uint8_t build_id[CPROF__BUILD_ID_BYTES_MAX];
} cprof__file_identity;

/* A file that is or was mapped. Never freed; made by core/code.c. */
struct cprof__file {
    cprof__code_file code; /* first: the walker's part */
    cprof__file_identity identity;
    uint32_t number;      /* unique, from 0 */
    const char *path;     /* as in cprof__mapping */
    const char *build_id; /* hex digits */
};

/* One executable segment of one object. */
typedef struct cprof__segment {
    uint64_t start, limit, file_offset, bias;
    cprof__file_identity identity;
    const char *name; /* as the loader has it; "" is the program */
    bool transient;   /* it may be unloaded */
} cprof__segment;

typedef struct cprof__segments {
    cprof__arena arena; /* of the names */
    cprof__segment *list;
    size_t count, room;
    uint64_t changes; /* the loader's counters when this was seen */
} cprof__segments;

/* How often the loader has added or removed an object so far. */
uint64_t cprof__objects_changes(void);

/* Lists what is mapped into OUT (zeros before). Returns: 0 or CPROF_ENOMEM. */
int cprof__objects_list(cprof__segments *out);
void cprof__segments_fini(cprof__segments *segments);

/* Parses the unwind rows of the object around ADDRESS. Returns: 0 and *OUT with its IDENTITY (NULL where no
 * object is there), or CPROF_ENOMEM. */
int cprof__objects_rows(uint64_t address, cprof__rows **out, cprof__file_identity *identity);

/* NAME of an object with a segment at START, made absolute, copied to PATH, of PATH_MAX bytes. */
void cprof__objects_path(const char *name, uint64_t start, char *path);

#endif
