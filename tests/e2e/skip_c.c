/* SPDX-License-Identifier: MIT
 *
 * Adds entries through wrappers that an optimiser inlines, that leave by a tail call, and that do neither,
 * with skip 0 to 4, and writes a profile for each into the folder of the first argument. Built at -O0 and at
 * -O2; skip_c_test.sh holds both against one golden: what the user sees does not depend on the optimiser.
 */
#include "cprof.h"

#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline, noclone))
#define INLINE static inline __attribute__((always_inline))

/* After a call: it can then be no jump. */
#define STAY __asm__ volatile("")

static cprof_profile *profile;
static char key;
static int (*volatile add_through_pointer)(cprof_profile *profile, const void *key,
                                           int skip) = cprof_profile_add;

NOINLINE int open_plain(int skip)
{
    int code = cprof_profile_add(profile, &key, skip);
    STAY;
    return code;
}

INLINE int open_inlined(int skip)
{
    int code = cprof_profile_add(profile, &key, skip);
    STAY;
    return code;
}

INLINE int open_inlined_twice(int skip)
{
    int code = open_inlined(skip);
    STAY;
    return code;
}

NOINLINE int open_tail(int skip)
{
    return cprof_profile_add(profile, &key, skip);
}

NOINLINE int open_pointer(int skip)
{
    int code = add_through_pointer(profile, &key, skip);
    STAY;
    return code;
}

NOINLINE int user_plain(int skip)
{
    int code = open_plain(skip);
    STAY;
    return code;
}

NOINLINE int user_inlined(int skip)
{
    int code = open_inlined(skip);
    STAY;
    return code;
}

NOINLINE int user_inlined_twice(int skip)
{
    int code = open_inlined_twice(skip);
    STAY;
    return code;
}

NOINLINE int user_tail(int skip)
{
    int code = open_tail(skip);
    STAY;
    return code;
}

NOINLINE int user_pointer(int skip)
{
    int code = open_pointer(skip);
    STAY;
    return code;
}

static void run(const char *directory, const char *name, int (*user)(int skip))
{
    for (int skip = 0; skip <= 4; skip++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s.%d.pb.gz", directory, name, skip);
        if (user(skip) || cprof_profile_write(profile, path, NULL) || cprof_profile_remove(profile, &key)) {
            fprintf(stderr, "%s: %s\n", path, cprof_last_error());
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 || cprof_profile_new("skip", NULL, &profile))
        return 2;
    run(argv[1], "plain", user_plain);
    run(argv[1], "inlined", user_inlined);
    run(argv[1], "inlined_twice", user_inlined_twice);
    run(argv[1], "tail", user_tail);
    run(argv[1], "pointer", user_pointer);
    return 0;
}
