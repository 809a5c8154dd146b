/* SPDX-License-Identifier: MIT
 *
 * cprof: profiles for C programs and Lua scripts, after Go's runtime/pprof and net/http/pprof.
 *
 * A profile is a named collection of stacks. The program defines one, adds an entry when something
 * begins to live (a blob is opened), removes it when that ends, and anyone may ask at any time who
 * opened what is still open:
 *
 *     static cprof_profile *open_blobs;
 *     cprof_profile_new("blobstore.Open", NULL, &open_blobs);
 *
 *     blob *blob_open(const char *name)
 *     {
 *         blob *b = ...;
 *         cprof_profile_add(open_blobs, b, 2);     // 2: blame the caller of blob_open
 *         return b;
 *     }
 *     void blob_close(blob *b)
 *     {
 *         cprof_profile_remove(open_blobs, b);
 *         ...
 *     }
 *
 *     cprof_http_start(NULL, &server);
 *     // $ go tool pprof http://127.0.0.1:PORT/debug/pprof/blobstore.Open
 *
 * Conventions. Functions return 0 or a negative CPROF_E code; results go through trailing
 * out-parameters, written only on success. cprof_last_error() gives the text. Option structs begin with
 * their size (fill them with the _INIT macro); NULL means the defaults. Nothing here aborts, prints or
 * exits. Unless a comment says otherwise: Threads: any. Signals: unsafe.
 */
#ifndef CPROF_H
#define CPROF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CPROF_API __attribute__((visibility("default")))
#else
#define CPROF_API
#endif

#define CPROF_VERSION "0.1.0"

/* ---- Errors ---- */

/* One row an error: name, value, what it means. */
#define CPROF_ERRORS(X)                                                                                      \
    X(EINVAL, -1, "invalid argument")                                                                        \
    X(EEXIST, -2, "already exists")                                                                          \
    X(ENOENT, -3, "not found")                                                                               \
    X(ENOMEM, -4, "out of memory")                                                                           \
    X(ESYSTEM, -5, "the operating system refused")                                                           \
    X(EADDRINUSE, -6, "address already in use")                                                              \
    X(ECANCELED, -7, "the receiver of the bytes gave up")                                                    \
    X(EDUPLICATE, -8, "another copy of cprof is active in this process")                                     \
    X(ECLOSED, -9, "closed")                                                                                 \
    X(EOFF, -10, "turned off")

#define CPROF__ERROR_ENUM(NAME, VALUE, TEXT) CPROF_##NAME = VALUE,
enum cprof_error { CPROF_OK = 0, CPROF_ERRORS(CPROF__ERROR_ENUM) };
#undef CPROF__ERROR_ENUM

/* The meaning of CODE (0 or a CPROF_E code) as a constant string; never NULL. Signals: safe. */
CPROF_API const char *cprof_strerror(int code);

/* The text of the last error on the calling thread, with the argument, path or errno concerned; "" when
 * there was none. Owns: cprof; valid until the thread's next failing call. */
CPROF_API const char *cprof_last_error(void);

/* The name of the last error on the calling thread: "EINVAL", or for CPROF_ESYSTEM the name of the errno, as
 * "ENOSPC"; "" when there was none. Owns: cprof; constant. */
CPROF_API const char *cprof_last_error_name(void);

/* The version of the library in use, as CPROF_VERSION. Signals: safe. */
CPROF_API const char *cprof_version(void);

/* Frees what a function here returned and said to free with cprof_free. NULL is fine. */
CPROF_API void cprof_free(void *memory);

/* ---- Labels ---- */

/* A label: KEY with a string STR, or, where STR is NULL, the number NUM in UNIT (NULL: none; pprof then takes the key
 * for it, and in files a 0 has it, for otherwise pprof would not see the label). */
typedef struct cprof_label {
    const char *key;
    const char *str;
    int64_t num;
    const char *unit;
} cprof_label;

/* An interned set of labels. Equal sets are one pointer; it stays valid for the life of the process. */
typedef struct cprof_labels cprof_labels;

/* Interns the COUNT labels at LABELS (sorted by key inside; the strings are copied).
 * Returns: 0; CPROF_EINVAL (a NULL or empty key, a key twice), CPROF_ENOMEM. Past 65,536 sets every new one
 * becomes the set {"cprof": "label sets full"}, which the profiles then show.
 * Source: pprof labels, https://pkg.go.dev/runtime/pprof#Labels */
CPROF_API int cprof_labels_intern(const cprof_label *labels, size_t count, const cprof_labels **out);

/* The labels of SET, sorted by key; *COUNT gets how many. NULL is the empty set. Owns: cprof. */
CPROF_API const cprof_label *cprof_labels_list(const cprof_labels *set, size_t *count);

/* The set with the labels of INNER and OUTER (NULL: none); where both have a key, INNER's label. No allocation
 * where the result is interned already. Returns: 0; CPROF_EINVAL (a NULL out), CPROF_ENOMEM. */
CPROF_API int cprof_labels_join(const cprof_labels *inner, const cprof_labels *outer,
                                const cprof_labels **out);

/* Gives the calling thread the labels SET (NULL: none) until the next call; *OLD (may be NULL) gets those it had
 * before. They appear on the thread's CPU samples, and on entries and events added on it, where a label of the
 * entry's own with the same key takes precedence. Code of a VM has labels of its own (cprof_vm.labels), those of
 * the coroutine that runs; they are joined to the thread's, and take precedence over them. Threads do not
 * inherit labels. Returns: 0. Source: https://pkg.go.dev/runtime/pprof#SetGoroutineLabels */
CPROF_API int cprof_set_labels(const cprof_labels *set, const cprof_labels **old);

/* Calls FUNCTION with CONTEXT while the calling thread has the labels SET (NULL: none) besides those it has, over
 * which they take precedence; gives it back its labels afterwards. A FUNCTION that does not return (longjmp, an
 * exception) leaves the labels as they are.
 * Returns: 0; CPROF_EINVAL (a NULL function), CPROF_ENOMEM: then FUNCTION ran with the thread's own labels alone.
 * Source: https://pkg.go.dev/runtime/pprof#Do */
CPROF_API int cprof_with_labels(const cprof_labels *set, void (*function)(void *context), void *context);

/* ---- Profiles ---- */

/* A named profile; lives until the process ends. */
typedef struct cprof_profile cprof_profile;

/* What one column of values means: {"bytes", "bytes"}, {"delay", "nanoseconds"}. */
typedef struct cprof_value_type {
    const char *type;
    const char *unit;
} cprof_value_type;

#define CPROF_SAMPLE_TYPES_MAX 4

typedef struct cprof_profile_options {
    size_t struct_size;
    const cprof_value_type *sample_types; /* NULL: one column, {NAME, "count"}, as Go */
    size_t sample_type_count;             /* at most CPROF_SAMPLE_TYPES_MAX */
} cprof_profile_options;
#define CPROF_PROFILE_OPTIONS_INIT                                                                           \
    {                                                                                                        \
        sizeof(cprof_profile_options), NULL, 0                                                               \
    }

/* Defines the profile NAME (any non-empty text; convention: "import/path.What").
 * Returns: 0; CPROF_EINVAL (empty or built-in name, bad sample types), CPROF_EEXIST (taken), CPROF_ENOMEM,
 * CPROF_EDUPLICATE. Owns: cprof, for ever. Source: https://pkg.go.dev/runtime/pprof#NewProfile */
CPROF_API int cprof_profile_new(const char *name, const cprof_profile_options *options, cprof_profile **out);

/* The profile called NAME, or NULL. */
CPROF_API cprof_profile *cprof_lookup(const char *name);

/* All profiles, sorted by name. Owns: the caller frees the array (not the profiles) with cprof_free. */
CPROF_API int cprof_profiles(cprof_profile ***profiles, size_t *count);

/* The name of PROFILE. Owns: cprof, for ever. */
CPROF_API const char *cprof_profile_name(const cprof_profile *profile);

/* The columns of PROFILE; *TYPES gets an array. Owns: cprof, for ever. Returns: how many (1 to 4). */
CPROF_API size_t cprof_profile_sample_types(const cprof_profile *profile, const cprof_value_type **types);

/* How many entries are live, or, in a profile that records events, how many were recorded. */
CPROF_API int64_t cprof_profile_count(const cprof_profile *profile);

typedef struct cprof_entry_options {
    size_t struct_size;
    int skip;                   /* logical frames to leave out, inlined ones counted: 0 shows the called cprof
                                   function, 1 (the default) its caller, 2 that function's caller; where no
                                   frame is left, the frame "[skipped]" is shown */
    const cprof_labels *labels; /* NULL: none */
    const int64_t *values;      /* NULL: 1 in the first column, 0 in the others */
    size_t value_count;         /* at most the profile's columns; the others get 0 */
} cprof_entry_options;
#define CPROF_ENTRY_OPTIONS_INIT                                                                             \
    {                                                                                                        \
        sizeof(cprof_entry_options), 1, NULL, NULL, 0                                                        \
    }

/* Adds an entry for KEY (any pointer but NULL; never dereferenced) with the current stack, leaving out SKIP
 * frames as in cprof_entry_options. Takes about as long as a malloc.
 * Returns: 0; CPROF_EINVAL (NULL profile or key, negative skip, an event profile), CPROF_EEXIST (KEY has an
 * entry), CPROF_ENOMEM. Source: https://pkg.go.dev/runtime/pprof#Profile.Add */
CPROF_API int cprof_profile_add(cprof_profile *profile, const void *key, int skip);

/* The same with labels and values; OPTIONS may be NULL. Also CPROF_EINVAL for more values than columns. */
CPROF_API int cprof_profile_add_entry(cprof_profile *profile, const void *key,
                                      const cprof_entry_options *options);

/* Removes the entry of KEY. Returns: 0, or CPROF_ENOENT when there is none (and nothing changes). */
CPROF_API int cprof_profile_remove(cprof_profile *profile, const void *key);

/* Counts an event at the current stack: its values (OPTIONS->values; NULL options: 1) are added to those of
 * the same stack and labels, for ever. A profile holds entries or events: the first add or record decides,
 * and the other then fails with CPROF_EINVAL. */
CPROF_API int cprof_profile_record(cprof_profile *profile, const cprof_entry_options *options);

/* Sets how many frames of a stack are kept at most (1 to 1024; 128 at first) from now on; *OLD (may be NULL)
 * gets the bound before. A stack that is cut ends in the frame "[truncated]". Source: GODEBUG=profstackdepth.
 */
CPROF_API int cprof_set_prof_stack_depth(int depth, int *old);

/* ---- Reading ---- */

typedef struct cprof_write_options {
    size_t struct_size;
    int debug;      /* 0: the pprof protobuf, gzipped; 1: text with symbols */
    int gzip_level; /* 1 (the default) to 9; 0: not compressed */
    int symbolize;  /* 0: leave native code to the reader of the profile */
} cprof_write_options;
#define CPROF_WRITE_OPTIONS_INIT                                                                             \
    {                                                                                                        \
        sizeof(cprof_write_options), 0, 1, 1                                                                 \
    }

/* Receives LENGTH bytes. Returns: 0, or another value to give up. */
typedef int (*cprof_write_fn)(void *context, const void *bytes, size_t length);

/* Writes PROFILE to the file PATH, which is afterwards whole or as it was: the bytes go to a file beside it,
 * are synced and renamed. Returns: 0; CPROF_ESYSTEM, CPROF_ENOMEM, CPROF_EINVAL. */
CPROF_API int cprof_profile_write(cprof_profile *profile, const char *path,
                                  const cprof_write_options *options);

/* The same through WRITE, which is called with pieces in order; CPROF_ECANCELED where it gives up. */
CPROF_API int cprof_profile_write_to(cprof_profile *profile, cprof_write_fn write, void *context,
                                     const cprof_write_options *options);

/* The same into memory. Owns: the caller frees *BYTES with cprof_free. */
CPROF_API int cprof_profile_encode(cprof_profile *profile, const cprof_write_options *options, void **bytes,
                                   size_t *length);

/* A profile as it was at one moment: samples (distinct stack and labels) with values. Immutable. */
typedef struct cprof_snapshot cprof_snapshot;

/* Takes a snapshot of PROFILE. Owns: the caller frees *OUT with cprof_snapshot_free. Returns: 0,
 * CPROF_EINVAL, CPROF_ENOMEM. */
CPROF_API int cprof_profile_snapshot(cprof_profile *profile, cprof_snapshot **out);

/* Frees SNAPSHOT and what was borrowed from it. NULL is fine. */
CPROF_API void cprof_snapshot_free(cprof_snapshot *snapshot);

/* The name of the profile. Owns: cprof, for ever. */
CPROF_API const char *cprof_snapshot_name(const cprof_snapshot *snapshot);

/* What cprof_profile_count said at that moment. */
CPROF_API int64_t cprof_snapshot_count(const cprof_snapshot *snapshot);

/* The columns, as cprof_profile_sample_types gives them. */
CPROF_API size_t cprof_snapshot_sample_types(const cprof_snapshot *snapshot, const cprof_value_type **types);

/* cprof_profile_write, _write_to and _encode for SNAPSHOT, any number of times. */
CPROF_API int cprof_snapshot_write(const cprof_snapshot *snapshot, const char *path,
                                   const cprof_write_options *options);
CPROF_API int cprof_snapshot_write_to(const cprof_snapshot *snapshot, cprof_write_fn write, void *context,
                                      const cprof_write_options *options);
CPROF_API int cprof_snapshot_encode(const cprof_snapshot *snapshot, const cprof_write_options *options,
                                    void **bytes, size_t *length);

/* One logical frame. Strings are never NULL; LINE and START_LINE are 0 where unknown. */
typedef struct cprof_frame {
    const char *name;
    const char *file;
    int64_t line;
    int64_t start_line;
    uint64_t address;    /* of the call; equal for the frames inlined into one another */
    const char *mapping; /* the file that is mapped at ADDRESS, or "[lua]" */
} cprof_frame;

/* One sample of a snapshot. */
typedef struct cprof_sample {
    const int64_t *values; /* one for each sample type */
    const cprof_labels *labels;
    const cprof_frame *frames; /* leaf first, inlined frames expanded, skipped ones left out */
    size_t frame_count;
} cprof_sample;

/* How many samples SNAPSHOT has: distinct stacks and labels. */
CPROF_API size_t cprof_snapshot_sample_count(const cprof_snapshot *snapshot);

/* Resolves sample INDEX (0 up to the count; largest first value first) into *SAMPLE. Owns: *SAMPLE's arrays
 * are the snapshot's and valid until it is freed; the first call for a sample allocates them. Threads: one at
 * a time a snapshot. */
CPROF_API int cprof_snapshot_sample(cprof_snapshot *snapshot, size_t index, cprof_sample *sample);

/* The logical frames at ADDRESS (native, or of a Lua function), innermost first. Returns: 0, CPROF_ENOENT
 * (nothing is known of it), CPROF_ENOMEM. Owns: the caller frees *FRAMES, one block, with cprof_free. */
CPROF_API int cprof_symbolize(uint64_t address, cprof_frame **frames, size_t *count);

/* ---- CPU profiles ---- */

/* A CPU profile that is being recorded. */
typedef struct cprof_recording cprof_recording;

#define CPROF_CPU_HZ_MAX 4000

typedef struct cprof_cpu_options {
    size_t struct_size;
    int hz;           /* samples a second of CPU time (of time, in mode "wall"), 1 to CPROF_CPU_HZ_MAX; 100 */
    const char *mode; /* "cpu" (NULL too): CPU time; "wall": also threads that wait */
    const char *engine; /* what makes the signals: NULL: the first of these that the system allows; "perf":
                           perf_event task-clock; "timer": timers on each thread's CPU clock; "monotonic": timers on
                           the clock, weighted by CPU time. In mode "wall" only NULL and "monotonic". While
                           recordings of a mode run, theirs is the engine of that mode: another is an error */
    const char
        *output; /* NULL, or a file to write when the recording is stopped, or the process exits, or is ended
                           by SIGINT or SIGTERM; "%p" in it is the process's id, "%%" a "%" */
} cprof_cpu_options;
#define CPROF_CPU_OPTIONS_INIT                                                                               \
    {                                                                                                        \
        sizeof(cprof_cpu_options), 100, NULL, NULL, NULL                                                     \
    }

/* Starts to record where all threads of the process spend their CPU time. Any number of recordings run at once,
 * each with its own rate, over one sampler, which uses SIGURG: a signal that does nothing to a process without a
 * handler. OPTIONS may be NULL. A child of fork records nothing.
 * Returns: 0; CPROF_EINVAL (an option), CPROF_ESYSTEM (no engine, or OUTPUT cannot be written), CPROF_EEXIST
 * (recordings run with another engine than is asked for), CPROF_ENOMEM,
 * CPROF_EDUPLICATE. Owns: the caller ends *OUT with cprof_recording_free.
 * Source: https://pkg.go.dev/runtime/pprof#StartCPUProfile */
CPROF_API int cprof_start_cpu_profile(const cprof_cpu_options *options, cprof_recording **out);

/* Stops RECORDING and writes its output. *OUT (may be NULL) gets what was recorded, with the columns {"samples",
 * "count"} and {"cpu", "nanoseconds"} (in mode "wall": {"wall", "nanoseconds"}); the caller frees it with
 * cprof_snapshot_free. A second stop returns the same data again, and no error.
 * Returns: 0; CPROF_ESYSTEM where the output could not be written (*OUT is set nevertheless); CPROF_ENOMEM;
 * CPROF_ECLOSED in the child of a fork. */
CPROF_API int cprof_recording_stop(cprof_recording *recording, cprof_snapshot **out);

/* Stops RECORDING, where it still runs, and frees it. NULL is fine. */
CPROF_API void cprof_recording_free(cprof_recording *recording);

/* The engine in use: "perf", "timer" or "monotonic". Owns: cprof; constant. */
CPROF_API const char *cprof_recording_engine(const cprof_recording *recording);

/* ---- Heap profiles ---- */

#define CPROF_MEM_PROFILE_RATE_DEFAULT 524288

/* The profiles "heap" (what is in use) and "allocs" (what was ever allocated) have the columns {"alloc_objects",
 * "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"} and {"inuse_space", "bytes"}. They hold a sample,
 * scaled to stand for all; until they are turned on, snapshots of them fail with CPROF_EOFF.
 *
 * Allocations are sampled so that each byte has the same chance: on average one in RATE bytes. 1 records every
 * allocation as it is; 0 turns both profiles off, forgets what they hold, and gives everything back that was taken
 * over to record them. *OLD (may be NULL) gets the rate before, which is 0 at first.
 * Returns: 0; CPROF_EINVAL (negative, or more than 2^40), CPROF_EDUPLICATE.
 * Source: https://pkg.go.dev/runtime#MemProfileRate */
CPROF_API int cprof_set_mem_profile_rate(int64_t rate, int64_t *old);

/* The rate that holds now. Signals: safe. */
CPROF_API int64_t cprof_mem_profile_rate(void);

/* Whether malloc, calloc, realloc, free and their like are recorded, where objects of the program that are loaded call
 * them: whatever allocator the program has, and C++'s operators new and delete where these call malloc. Turning it on
 * turns on the profiles too, at CPROF_MEM_PROFILE_RATE_DEFAULT where there is no rate yet. Calls inside an object that
 * do not go through its global offset table are not seen. *OLD (may be NULL) gets what was before.
 * Returns: 0; CPROF_ESYSTEM (an allocator without one of the functions), CPROF_EDUPLICATE. */
CPROF_API int cprof_heap_native(int on, int *old);

/* ---- HTTP (libcprof_http) ---- */

typedef struct cprof_http cprof_http;

typedef struct cprof_http_options {
    size_t struct_size;
    const char *address; /* numeric address to listen on; NULL: "127.0.0.1" */
    int port;            /* 0 (the default): any free one */
} cprof_http_options;
#define CPROF_HTTP_OPTIONS_INIT                                                                              \
    {                                                                                                        \
        sizeof(cprof_http_options), NULL, 0                                                                  \
    }

/* Serves /debug/pprof/ from a thread of its own, which touches no Lua state. There, profile?seconds=N&hz=N (and
 * mode, engine: see cprof_cpu_options) is a CPU profile of the N seconds to come, 30 where none are given; it
 * ends early when its client goes. At most 48 are recorded at once (503 Service Unavailable for more); another engine
 * than that of those that run is a 409 Conflict.
 * Returns: 0; CPROF_EADDRINUSE, CPROF_EINVAL, CPROF_ESYSTEM, CPROF_ENOMEM.
 * Source: https://pkg.go.dev/net/http/pprof */
CPROF_API int cprof_http_start(const cprof_http_options *options, cprof_http **out);

/* The port that SERVER listens on. */
CPROF_API int cprof_http_port(const cprof_http *server);

/* Closes the socket, waits for requests under way (CPU profiles that are being recorded end now), and frees
 * SERVER. NULL is fine. */
CPROF_API void cprof_http_stop(cprof_http *server);

#ifdef __cplusplus
}
#endif

#endif
