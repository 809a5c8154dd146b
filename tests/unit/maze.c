/* SPDX-License-Identifier: MIT
 *
 * See maze.h. Each turn is a function that goes on with the chain from the middle of its own work; what it
 * computes afterwards keeps the compiler from making a tail call of it.
 */
#define _GNU_SOURCE
#include "maze.h"

#include <alloca.h>
#include <link.h>
#include <pthread.h>
#include <search.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define NOINLINE __attribute__((noinline, noclone))

typedef struct maze {
    uint64_t random;
    unsigned sides; /* of the die */
    int left;
    void (*visit)(void *context);
    void *context;
} maze;

static maze *entered; /* for the callbacks that get no argument of ours; there is one maze at a time */

static unsigned roll(maze *m, unsigned sides)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(m->random >> 33) % sides;
}

static int turn(maze *m);

/* ---- Frames ---- */

NOINLINE static int plain(maze *m)
{
    return turn(m) + 1;
}

NOINLINE static int saves_registers(maze *m)
{
    unsigned a = roll(m, 100), b = roll(m, 100), c = roll(m, 100), d = roll(m, 100), e = roll(m, 100);
    unsigned f = roll(m, 100), result = (unsigned)turn(m);
    return (int)(result + (a ^ b) * c + (d ^ e) * f);
}

NOINLINE static int big_frame(maze *m)
{
    char room[20000];
    memset(room, (int)roll(m, 100), sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
    return turn(m) + room[roll(m, sizeof room)];
}

NOINLINE static int grows(maze *m)
{
    size_t size = 16 + roll(m, 3000);
    char *room = alloca(size);
    memset(room, 1, size);
    __asm__ volatile("" : : "r"(room) : "memory");
    return turn(m) + room[size / 2];
}

NOINLINE static int aligned(maze *m)
{
    _Alignas(64) char room[128];
    memset(room, (int)roll(m, 100), sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
    return turn(m) + room[5];
}

/* Realigned and with arguments on the stack, for which GCC takes another way. */
NOINLINE static int aligned_arguments(maze *m, int a, int b, int c, int d, int e, int f, int g, int h)
{
    _Alignas(64) char room[128];
    memset(room, a, sizeof room);
    char *more = alloca(16 + roll(m, 200));
    more[0] = 1;
    __asm__ volatile("" : : "r"(room), "r"(more) : "memory");
    return turn(m) + room[b] + c + d + e + f + g + h + more[0];
}

NOINLINE static int many_arguments(maze *m)
{
    return aligned_arguments(m, 1, 2, 3, 4, 5, 6, 7, (int)roll(m, 9)) + 1;
}

__attribute__((noinline, noclone, optimize("no-omit-frame-pointer"))) static int with_frame_pointer(maze *m)
{
    return turn(m) + 1;
}

NOINLINE static int variadic_part(maze *m, ...)
{
    va_list list;
    va_start(list, m);
    int result = turn(m) + va_arg(list, int);
    va_end(list);
    return result;
}

NOINLINE static int variadic(maze *m)
{
    return variadic_part(m, 5, 1.0) + 1;
}

/* The call is the last instruction of its function: the return address belongs to the next one. */
NOINLINE __attribute__((noreturn)) static void never_returns(maze *m, jmp_buf back)
{
    turn(m);
    longjmp(back, 1);
}

NOINLINE static int ends_in_a_call(maze *m, jmp_buf back)
{
    if (m->left < 1000000)
        never_returns(m, back);
    return m->left;
}

NOINLINE static int jumps_back(maze *m)
{
    jmp_buf back;
    if (setjmp(back) == 0)
        ends_in_a_call(m, back);
    return m->left;
}

NOINLINE static int early_out(maze *m)
{
    if (roll(m, 1000) == 999)
        return 0;
    char room[64];
    memset(room, 1, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
    return turn(m) + room[3];
}

/* ---- Callbacks ---- */

/* Goes on once, however often a library calls back. */
static int once(void)
{
    maze *m = entered;
    entered = NULL;
    return m ? turn(m) + 1 : 0;
}

static int compare(const void *a, const void *b)
{
    int more = once();
    return (*(const int *)a - *(const int *)b) + more * 0;
}

NOINLINE static int sorts(maze *m)
{
    int values[] = {5, 3, 8, 1, 9, 2};
    entered = m;
    qsort(values, 6, sizeof *values, compare);
    return values[0];
}

NOINLINE static int searches(maze *m)
{
    int values[] = {5, 3, 8, 1}, key = 8;
    size_t count = 4;
    entered = m;
    return lfind(&key, values, &count, sizeof *values, compare) != NULL;
}

static void walk_action(const void *node, VISIT which, void *closure)
{
    (void)node, (void)which, (void)closure;
    once();
}

NOINLINE static int walks_a_tree(maze *m)
{
    int value = 4;
    void *root = NULL;
    entered = NULL;
    tsearch(&value, &root, compare);
    entered = m;
    twalk_r(root, walk_action, NULL);
    tdelete(&value, &root, compare);
    return value;
}

static void *zlib_alloc(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    once();
    return calloc(count, size);
}

static void zlib_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

NOINLINE static int compresses(maze *m)
{
    z_stream stream = {.zalloc = zlib_alloc, .zfree = zlib_free};
    entered = m;
    int result = deflateInit(&stream, 1);
    deflateEnd(&stream);
    return result + 1;
}

static int object_action(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)info, (void)size, (void)context;
    once();
    return 1;
}

NOINLINE static int lists_objects(maze *m)
{
    entered = m;
    return dl_iterate_phdr(object_action, NULL) + 1;
}

static void once_action(void)
{
    once();
}

NOINLINE static int first_time(maze *m)
{
    pthread_once_t control = PTHREAD_ONCE_INIT;
    entered = m;
    return pthread_once(&control, once_action) + 1;
}

/* The last one is not quiet. */
static int (*const turns[])(maze *m) = {
    plain,    saves_registers, big_frame,  grows, aligned,      many_arguments, with_frame_pointer,
    variadic, early_out,       jumps_back, sorts, walks_a_tree, compresses,     first_time,
    searches, lists_objects,
};

NOINLINE static int turn(maze *m)
{
    if (m->left-- > 0)
        return turns[roll(m, m->sides)](m) + 1;
    m->visit(m->context);
    return m->left;
}

void maze_run(uint64_t seed, int depth, bool quiet, void (*visit)(void *context), void *context)
{
    maze m = {seed * UINT64_C(0x9e3779b97f4a7c15) + 1, sizeof turns / sizeof *turns - quiet, depth, visit,
              context};
    turn(&m);
}
