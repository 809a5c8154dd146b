/* SPDX-License-Identifier: MIT
 *
 * Samples of PUC Lua: what runs in the signal handler, and the hook that is the safepoint.
 *
 * In the handler the coroutine that runs is found on the native stack itself: whatever the VM does, it has the
 * lua_State at hand, in registers and stack words. A word counts where it points to a thread of an attached state
 * whose innermost protected call (its errorJmp) lies on this very stack; of those the innermost one runs. A suspended
 * or dead coroutine has none. Then a hook is set for its next instruction, call or return (lua_sethook is the one
 * function of Lua's API that may be called so); the hook puts back what was there before, walks, and is gone.
 */
#ifndef CPROF_LUAVM_PUCSIGNAL_H
#define CPROF_LUAVM_PUCSIGNAL_H

#include "luavm/state.h"

#include <signal.h>

/* How many threads may have our hook at a time: one that is suspended before it comes to run keeps it. */
#define CPROF__ARMED_MAX 64

/* So many callers are noted of what ran, in cprof_vm_moment.callers, inner ones first: an error may end some of them
 * together with it. Of each the place (as in place[0]) and its function (as in place[3]). */
#define CPROF__CALLERS_MAX 8

/* So many hooks of a host are known by their numbers, the last ones. */
#define CPROF__HOOKS_MAX 128

/* A hook of the host's: what lua_sethook takes. */
typedef struct cprof__host_hook {
    lua_Hook hook;
    int mask, count;
} cprof__host_hook;

/* A thread with our hook, and what was there before. */
typedef struct cprof__armed {
    lua_State *thread; /* NULL: free */
    cprof__host_hook host;
    int number; /* of HOST */
    int left;   /* instructions until the host's count hook */
} cprof__armed;

/* Of a state. Written by the thread that runs it, in the handler too. */
typedef struct cprof__puc {
    cprof__armed armed[CPROF__ARMED_MAX];
    /* What was there before our hook, by the number that is our hook's count. So it can be put back wherever our hook
     * comes to be: new threads inherit it, and a host that asked (lua_gethook) while it was there may take it for its
     * own and set it at any time. */
    cprof__host_hook hooks[CPROF__HOOKS_MAX];
    uint32_t next, next_hook; /* the entries to use where none is free */
    uint64_t ticket;          /* of the safepoint that is asked for; 0: none */
    cprof_vm_moment asked;
    uint64_t
        callers[CPROF__CALLERS_MAX]; /* of what ran then: their CallInfos, inner ones first; 0: no more */
    bool lost;                       /* of the safepoint that is being told: callers have ended as well */
    volatile sig_atomic_t
        held_off; /* hooks are being read and set: the handler sets none, but leaves its request */
} cprof__puc;

/* Of cprof_vm. Signals: safe. */
int cprof__puc_look(const cprof_vm_signal *signal, cprof_vm_moment *moment);
int cprof__puc_request(const cprof_vm_moment *moment, uint64_t ticket);

/* Lets VM, which L belongs to, be found by signals; where there is no room or no memory, it is not. */
void cprof__puc_enlist(cprof__luavm *vm, lua_State *L);
void cprof__puc_delist(cprof__luavm *vm);

/* The state that L belongs to, or NULL. Signals: safe. */
cprof__luavm *cprof__puc_state_of(lua_State *L);

/* Of cprof_vm: see there (puchook.c). */
size_t cprof__puc_ended(void *state, void *running, uint64_t entry, cprof_vm_frame *frames);

/* The hook (puchook.c). */
void cprof__puc_hook(lua_State *L, lua_Debug *ar);

/* Instructions until the count hook of L. */
int *cprof__puc_left(lua_State *L);

/* The entry of L among the armed ones, or NULL. Signals: safe. */
cprof__armed *cprof__puc_armed(cprof__puc *puc, const lua_State *L);

/* The hook, mask and count that L has but for ours. */
cprof__host_hook cprof__puc_host_hook(lua_State *L);

/* VM is about to be detached: L, which runs, and the main thread get back what they had before our hook. (Other threads
 * with our hook lose what they had: whether they live is not known.) No handler sets one again. */
void cprof__puc_give_back(cprof__luavm *vm, lua_State *L);

/* Between these, which may not be nested, no handler on this thread sets a hook in VM; what it asked for meanwhile of
 * L, which runs, is then done. */
void cprof__puc_hold_off(cprof__luavm *vm);
void cprof__puc_allow(cprof__luavm *vm, lua_State *L);

#endif
