/* SPDX-License-Identifier: MIT
 *
 * The CPU profiles that one server is recording. Each is what a request waits for: its connection is
 * suspended meanwhile, so that no thread waits with it, and the server's loop keeps the deadline and watches
 * the client. A profile ends when its time is over, its client is gone, or the server stops. What then takes
 * long, finding names, is done on a thread of its own, after which the connection is resumed.
 *
 * Threads: the server's own, and after its end the one that stops it. Signals: unsafe.
 */
#ifndef CPROF_HTTP_RECORDER_H
#define CPROF_HTTP_RECORDER_H

#include "http/response.h"

#include <microhttpd.h>
#include <poll.h>

#define CPROF__HTTP_RECORDINGS_MAX 48u /* fewer than connections: others must still be answered */

/* One profile, from the start of its recording until its answer is handed over. */
typedef struct cprof__take cprof__take;

typedef struct cprof__recorder {
    cprof__take *first;
    size_t count;
    bool ending;
    int wake; /* the server's eventfd, written when an answer has become whole */
} cprof__recorder;

/* Why no profile can be begun now; NULL: it can. Owns: cprof; constant. */
const char *cprof__recorder_refusal(const cprof__recorder *recorder);

/* Suspends CONNECTION until the recording in RESPONSE has come to its end and is a body. Takes over what
 * RESPONSE holds. Returns: NULL where memory ran out; then nothing has changed. Owns: the caller, see
 * cprof__take_free. */
cprof__take *cprof__recorder_add(cprof__recorder *recorder, struct MHD_Connection *connection,
                                 cprof__response *response, int64_t now_ms);

/* When the next recording is to end; -1: none runs. */
int64_t cprof__recorder_due_ms(const cprof__recorder *recorder);

/* Fills FDS, of room for CPROF__HTTP_RECORDINGS_MAX, with what to poll. Returns how many. */
size_t cprof__recorder_watch(const cprof__recorder *recorder, struct pollfd *fds);

/* Ends what is to end, and resumes the connections whose answers are whole, after FDS, as
 * cprof__recorder_watch filled it last, was polled. */
void cprof__recorder_step(cprof__recorder *recorder, const struct pollfd *fds, int64_t now_ms);

/* All recordings end at the next step, and no new one begins. */
void cprof__recorder_end(cprof__recorder *recorder);

/* Resumes every connection, which libmicrohttpd wants before it is stopped. */
void cprof__recorder_resume_all(cprof__recorder *recorder);

/* The answer, once the connection was resumed; NULL: the client is gone. Owns: TAKE. */
cprof__response *cprof__take_response(cprof__take *take);

/* Frees TAKE, wherever it is; what a thread still does for it is left to that thread. NULL is fine. */
void cprof__take_free(cprof__recorder *recorder, cprof__take *take);

#endif
