/* SPDX-License-Identifier: MIT
 *
 * How a virtual machine meets cprof's core, which itself knows no language. A runtime gives one cprof_vm with
 * its functions, attaches each of its states, interns its functions (which so get addresses) and adds entries
 * with the state that is running. src/luavm is the runtime for Lua; another language is another folder.
 *
 * A stack is an array of 64-bit addresses. A VM's code has none of its own, so every function of a VM owns a
 * block in [CPROF_VM_ADDRESS_MIN, CPROF_VM_ADDRESS_MAX), which no process maps and which JavaScript still
 * counts exactly. The block starts at a hash of what the function is, so the same function has the same
 * address in every process.
 *
 * Unless a comment says otherwise: Threads: any. Signals: unsafe.
 */
#ifndef CPROF_VM_H
#define CPROF_VM_H

#include "cprof.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CPROF_VM_ADDRESS_MIN UINT64_C(0x10000000000000) /* 2^52 */
#define CPROF_VM_ADDRESS_MAX UINT64_C(0x20000000000000) /* 2^53 */
#define CPROF_VM_LINE_STRIDE 2

/* ---- Functions ---- */

/* What a function of a VM is. Equal in these fields means the same function. */
typedef struct cprof_vm_function_key {
    const char *source; /* the file (or "[string]" and the like) to show */
    size_t source_length;
    int64_t line_first;     /* 0 for a main chunk; -1 where unknown */
    int64_t line_last;      /* -1 where unknown */
    uint64_t distinguisher; /* tells apart functions that are equal in the rest; 0 where nothing is needed */
    const char *identity;   /* NULL, or a name that is part of what it is (a C function without a source) */
} cprof_vm_function_key;

typedef struct cprof_vm_function cprof_vm_function;

/* Interns the function KEY. NAME is shown; NULL or "" means not known yet. Returns: 0, CPROF_ENOMEM.
 * Owns: cprof, for the life of the process (KEY and NAME are copied). */
CPROF_API int cprof_vm_function_intern(const cprof_vm_function_key *key, const char *name,
                                       const cprof_vm_function **out);

/* How good a name is. */
enum cprof_vm_name_rank {
    CPROF_VM_NAME_NONE,  /* there is none */
    CPROF_VM_NAME_PLACE, /* where it was defined: "blob.lua:12" */
    CPROF_VM_NAME_CALL,  /* what a caller called it, which may be some local's name */
    CPROF_VM_NAME_OWN    /* its own, as "blobstore.Open"; what cprof_vm_function_intern is given */
};

/* Names FUNCTION. A name of a higher RANK replaces it; among equals the first stays. */
CPROF_API void cprof_vm_function_set_name(const cprof_vm_function *function, const char *name,
                                          enum cprof_vm_name_rank rank);

/* The rank of the name of FUNCTION. */
CPROF_API enum cprof_vm_name_rank cprof_vm_function_named(const cprof_vm_function *function);

/* The address of LINE in FUNCTION; a line outside the function or unknown (<= 0) gives the block's first
 * address, which has no line. Signals: safe. */
CPROF_API uint64_t cprof_vm_function_address(const cprof_vm_function *function, int64_t line);

/* Gives the native function that starts at ENTRY a name to show where its file has no symbol for it
 * ("table.sort" in a stripped interpreter). The first name stays. */
CPROF_API void cprof_vm_name_native(uint64_t entry, const char *name);

/* The calling thread's native stack from the caller outward, as in cprof_vm_native: at most MAX of PCS and STARTS, for
 * a runtime to find out which functions its own are. Returns: how many. */
CPROF_API size_t cprof_vm_native_stack(uint64_t *pcs, uint64_t *starts, size_t max);

/* ---- Labels ---- */

/* The number of SET (NULL: 0), 1 to 65,536, for a VM that has no room for a pointer where it keeps labels, and the
 * set that has NUMBER (NULL where none has). Signals: safe. */
CPROF_API uint32_t cprof_vm_labels_number(const cprof_labels *set);
CPROF_API const cprof_labels *cprof_vm_labels_get(uint32_t number);

/* ---- States ---- */

/* One frame of a VM's stack. */
typedef struct cprof_vm_frame {
    uint64_t address; /* of the function and line, from cprof_vm_function_address */
    uint64_t entry; /* where the frame is a native function that the VM called: its start; else 0. Its native
                       frames are then shown where they are found, and ADDRESS where they are not */
    uint32_t flags;
} cprof_vm_frame;

/* See cprof_vm.request and .ended. */
#define CPROF_VM_SERVED 2
#define CPROF_VM_ENDED_MAX 2

/* A flag: a function of the runtime's own library, whose helper functions are not shown. */
#define CPROF_VM_RUNTIME 1u

/* The native stack under a walk, leaf first: PCS inside the calls, STARTS of their functions (0: unknown). */
typedef struct cprof_vm_native {
    const uint64_t *pcs;
    const uint64_t *starts;
    size_t count;
} cprof_vm_native;

/* What a signal of the sampler interrupted; for functions that run in its handler. */
typedef struct cprof_vm_signal {
    const void *context; /* the registers: a ucontext_t */
    const uint64_t *pcs; /* the native stack, leaf first: the interrupted pc, then pcs inside the calls */
    size_t count;
    size_t
        entered; /* the number of the first frame that is an entry point of a runtime; COUNT: there is none */
    uint64_t stack_high;                           /* the thread's stack ends below; 0: not known */
    uint64_t (*start)(uint64_t pc);                /* of the function around PC; 0: not known */
    int (*load)(uint64_t address, uint64_t *word); /* the word at ADDRESS; 0 where it cannot be read */
    /* Where the frame with number FRAME begins: its stack pointer. 0: not known. */
    uint64_t (*frame_sp)(const struct cprof_vm_signal *signal, size_t frame);
    const void *
        last; /* what ran when a safepoint was last asked for on this thread, of any runtime; NULL: nothing */
} cprof_vm_signal;

/* What ran in a VM when a signal came. */
typedef struct cprof_vm_moment {
    void *state;       /* as given to cprof_vm_attach */
    void *running;     /* the VM thread that ran (a lua_State) */
    uint64_t entry;    /* where a native function that the VM called was running: its start; else 0 */
    uint64_t place[4]; /* the VM's own: where RUNNING was, so that moments and safepoints can be compared */
    uint64_t callers[16]; /* the VM's own: what had called it; moments that differ in this alone are equal */
    uint32_t activity;    /* a place in cprof_vm.activities, plus 1; 0: nothing to say */
} cprof_vm_moment;

/* A runtime. The struct stays the caller's and must outlive its states. */
typedef struct cprof_vm {
    size_t struct_size;
    const char *name; /* "Lua 5.4" */

    /* Native functions through which native code enters the VM (lua_call, lua_resume …): in a native stack,
     * frames from the VM's interpreter up to the first of these, going outward, are the VM's own. */
    const void *const *entry_points;
    size_t entry_point_count;

    /* Where entry points leave by a jump into the interpreter, which is then all of the VM that the native stack shows:
     * where that starts. It is an entry point itself. NULL: they do not, or that is not known. */
    const void *interpreter;

    /* With INTERPRETER: the file that holds the VM, and nothing else. Functions there between two entry points, going
     * outward, are the VM's own too (a collector that calls a finalizer). 0, 0: not known. */
    uint64_t code_low, code_high;

    /* Writes the frames that run in STATE on the calling thread, leaf first, threads that were resumed by one
     * another joined, at most FRAMES_MAX. RUNNING is the VM thread that is known to run (a lua_State), or
     * NULL: then find it, with the help of NATIVE; where nothing of STATE runs on this native stack, write
     * nothing. Sets *TRUNCATED where there were more. Called on the thread that owns STATE, in no signal
     * handler, only from inside cprof calls. Returns: how many. */
    size_t (*walk)(void *state, void *running, const cprof_vm_native *native, cprof_vm_frame *frames,
                   size_t frames_max, int *truncated);

    /* The rest serves CPU profiles and labels; each may be NULL. */

    /* The labels of VM thread RUNNING in STATE; NULL: none of its own. RUNNING may be NULL right after a WALK
     * without it: the innermost thread which that found. Called as WALK is. */
    const cprof_labels *(*labels)(void *state, void *running);

    /* Inside cprof_vm_safepoint: the frames that ran at the moment of the request and have since ended, so
     * that WALK cannot tell them: at most CPROF_VM_ENDED_MAX of FRAMES, leaf first. ENTRY is the moment's;
     * where it is not 0, that function has ended. Called as WALK is. Returns: how many. NULL: safepoints come
     * before anything ends. */
    size_t (*ended)(void *state, void *running, uint64_t entry, cprof_vm_frame *frames);

    /* Sampling begins, perhaps not for the first time: finds out, in no handler and on any thread, what LOOK and
     * REQUEST need to know. */
    void (*prepare)(void);

    /* In the handler of a signal: finds out which of the runtime's states runs on the interrupted thread, and what
     * it does. Called only where an entry point of the runtime, or code that no file holds, is on the native stack.
     * Returns: 0 where none does, or it cannot be told; else *MOMENT is filled. */
    int (*look)(const cprof_vm_signal *signal, cprof_vm_moment *moment);

    /* In the handler: asks for a call of cprof_vm_safepoint with TICKET, on this thread, as soon as the VM's state
     * is whole. A later request takes the place of an earlier one. Returns: 1; 0 where there can be none, and the
     * earlier one stands; CPROF_VM_SERVED where the earlier one is just being answered, and serves this moment too. */
    int (*request)(const cprof_vm_moment *moment, uint64_t ticket);

    /* In the handler, where the native walk ended in code that no file holds (compiled at run time) or before
     * it met an entry point, and where this VM runs: sets REGS (pc, sp, fp) to a frame further out from which
     * unwind rows lead on. Returns: how many of SIGNAL's frames hold, after which those from REGS follow; 0
     * where the walk is right as it is, or that is not known. */
    size_t (*outward)(const cprof_vm_signal *signal, uint64_t regs[3]);

    /* What a VM does besides running code, for MOMENT.activity: samples get the label {"vm", NAME}. The name "gc"
     * stands for the collector: such samples also get a leaf "[gc]". Ended by NULL. */
    const char *const *activities;
} cprof_vm;

typedef struct cprof_vm_state cprof_vm_state;

/* Attaches STATE (a VM's own pointer) of VM, owned from now by the calling thread.
 * Returns: 0, CPROF_EINVAL, CPROF_ENOMEM, CPROF_EDUPLICATE. */
CPROF_API int cprof_vm_attach(const cprof_vm *vm, void *state, cprof_vm_state **out);

/* Removes the entries that were added with keys of STATE from all profiles, and frees STATE. The owner calls
 * it before the VM's state is closed. NULL is fine. */
CPROF_API void cprof_vm_detach(cprof_vm_state *state);

/* Says that the calling thread runs STATE from now on. Adding entries with STATE says so too. */
CPROF_API void cprof_vm_adopt(cprof_vm_state *state);

/* The VM is at the safepoint that was asked for with TICKET: RUNNING runs, and its stack can be walked. LEVEL says
 * how many of its innermost frames came after the moment of the request; negative: what ran then is not on this
 * stack any more, so that the samples stay without VM frames and say so. Threads: the owner of STATE. */
CPROF_API void cprof_vm_safepoint(cprof_vm_state *state, uint64_t ticket, void *running, int level);

/* A key for an object of STATE that no other object of any state, and no pointer, shares. Starts at 1 and
 * counts up in each state; below 2^37. */
CPROF_API uint64_t cprof_vm_next_key(cprof_vm_state *state);

/* cprof_profile_add_entry, _remove and _record for code of a VM: KEY comes from cprof_vm_next_key of STATE;
 * RUNNING as in cprof_vm.walk. skip 0 is the VM's innermost frame, which is the native function that called
 * this. */
CPROF_API int cprof_vm_add(cprof_vm_state *state, void *running, cprof_profile *profile, uint64_t key,
                           const cprof_entry_options *options);
CPROF_API int cprof_vm_remove(cprof_vm_state *state, cprof_profile *profile, uint64_t key);
CPROF_API int cprof_vm_record(cprof_vm_state *state, void *running, cprof_profile *profile,
                              const cprof_entry_options *options);

/* ---- Heap profiles ---- */

/* A runtime counts for itself what a state allocates, and tells of what comes below zero. The owner's. */
typedef struct cprof_vm_countdown {
    int64_t left;
    uint16_t epoch;
    uint8_t started;
} cprof_vm_countdown;

/* What is asked for each allocation, which must cost nothing: valid for ever, read without a lock. */
typedef struct cprof_vm_heap_view {
    const volatile uint16_t *epoch; /* moves when the rate changes */
    const volatile uint8_t *places; /* not 0: a sampled block may be one of those with this place */
    const volatile uint8_t *native; /* not 0: malloc is sampled as well */
    const volatile uint8_t *on;     /* not 0: allocations are sampled: see cprof_vm_heap_look */
} cprof_vm_heap_view;

/* Where that is asked. A runtime takes the allocator of a state over, or gives it back, when it is next called for that
 * state after ON has changed. Owns: cprof; constant. */
CPROF_API const cprof_vm_heap_view *cprof_vm_heap_look(void);

#define CPROF_VM_HEAP_PLACES (UINT32_C(1) << 22)

/* Blocks that are near one another have places that are near one another. */
static inline uint32_t cprof_vm_heap_place(const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block;
    return (uint32_t)(address >> 4 ^ address >> 28) & (CPROF_VM_HEAP_PLACES - 1);
}

/* STATE has allocated BLOCK (NULL: there was no memory) of SIZE bytes, and COUNT says so. The VM is asked for a
 * safepoint, which tells its frames. Called by the function that stands for the VM's allocator itself. LABELS (may be
 * NULL) are added to those of what runs. Keeps errno. Threads: the owner of STATE. */
CPROF_API void cprof_vm_heap_sample(cprof_vm_state *state, cprof_vm_countdown *count, const void *block,
                                    size_t size, const cprof_labels *labels);

/* What is known of a sampled block; cprof's own. */
typedef struct cprof_vm_heap_block {
    uint64_t words[3];
} cprof_vm_heap_block;

/* BLOCK, for whose place there is one that is not 0, is about to be freed or moved: *KEPT gets what was known of it.
 * Returns: whether anything was. Keeps errno. */
CPROF_API int cprof_vm_heap_take(const void *block, cprof_vm_heap_block *kept);

/* It was not moved: undoes that. */
CPROF_API void cprof_vm_heap_put_back(const void *block, const cprof_vm_heap_block *kept);

#ifdef __cplusplus
}
#endif

#endif
