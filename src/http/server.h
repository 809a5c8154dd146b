/* SPDX-License-Identifier: MIT
 *
 * The functions of cprof.h that serve (cprof_http_start, _port, _stop), and what bounds a server keeps.
 */
#ifndef CPROF_HTTP_SERVER_H
#define CPROF_HTTP_SERVER_H

#define CPROF__HTTP_CONNECTIONS_MAX 64u  /* the next ones wait in the socket's backlog */
#define CPROF__HTTP_IDLE_SECONDS_MAX 30u /* a connection on which nothing moves is closed */
#define CPROF__HTTP_STOP_SECONDS_MAX 5   /* how long a stop waits for requests under way */

#endif
