/* SPDX-License-Identifier: MIT
 *
 * Threads of the server's own. Signals: unsafe.
 */
#ifndef CPROF_HTTP_THREAD_H
#define CPROF_HTTP_THREAD_H

#include <pthread.h>

/* As pthread_create; the thread takes no signals, which are the host's business, but those that a fault
 * raises: these must reach their handlers wherever it happens. Threads: any. */
int cprof__thread_start(pthread_t *thread, void *(*run)(void *), void *context);

#endif
