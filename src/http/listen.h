/* SPDX-License-Identifier: MIT
 *
 * Opens the socket that a server listens on, so that what is wrong with an address or a port is said exactly.
 * Threads: any. Signals: unsafe.
 */
#ifndef CPROF_HTTP_LISTEN_H
#define CPROF_HTTP_LISTEN_H

#define CPROF__AUTHORITY_BYTES_MAX 64

typedef struct cprof__listener {
    int socket; /* closed on exec */
    int port;
    char authority[CPROF__AUTHORITY_BYTES_MAX]; /* "127.0.0.1:8888", "[::1]:8888" */
} cprof__listener;

/* Listens on the numeric ADDRESS (IPv4 or IPv6; NULL: 127.0.0.1) and PORT (0: any free one).
 * Returns: 0; CPROF_EINVAL, CPROF_EADDRINUSE, CPROF_ESYSTEM. Owns: the caller closes the socket. */
int cprof__listen(const char *address, int port, cprof__listener *listener);

#endif
