/* SPDX-License-Identifier: MIT
 *
 * What tests of the server need beside curl: connections that say what they like when they like. What cannot
 * be done fails the test.
 */
#ifndef CPROF_TESTS_CLIENT_H
#define CPROF_TESTS_CLIENT_H

#include <stddef.h>

/* A connection to PORT of this host. Returns: it, or -1 and errno. */
int client_connect(int port);

void client_say(int fd, const char *text);

/* All that comes until the server closes; FD is closed. Returns: a text; the caller frees it. */
char *client_hear(int fd);

/* How many files are open in this process. */
size_t client_open_files(void);

void assert_prefix(const char *text, const char *prefix);

/* PART is in TEXT, in whatever case. */
void assert_found(const char *text, const char *part);

#endif
