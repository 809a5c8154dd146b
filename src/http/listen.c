/* SPDX-License-Identifier: MIT
 *
 * See listen.h.
 */
#define _GNU_SOURCE
#include "http/listen.h"

#include "base/error.h"
#include "cprof.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFAULT_ADDRESS "127.0.0.1"

typedef union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} socket_address;

static bool parse(const char *text, int port, socket_address *address)
{
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        return true;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)port);
        return true;
    }
    return false;
}

/* Binds, listens, and finds out the port. Returns: 0 or an errno. */
static int begin(int fd, socket_address *address, int *port)
{
    socklen_t length = address->any.sa_family == AF_INET ? sizeof address->v4 : sizeof address->v6;
    /* A server that starts anew meets the connections that its forerunner left in TIME_WAIT. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(fd, &address->any, length) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, &address->any, &length) != 0)
        return errno;
    *port = ntohs(address->any.sa_family == AF_INET ? address->v4.sin_port : address->v6.sin6_port);
    return 0;
}

int cprof__listen(const char *address, int port, cprof__listener *listener)
{
    if (!address)
        address = DEFAULT_ADDRESS;
    if (port < 0 || port > 65535)
        return cprof__fail(CPROF_EINVAL, "port: %d is not between 0 and 65535", port);
    socket_address parsed;
    if (!parse(address, port, &parsed))
        return cprof__fail(CPROF_EINVAL, "address: '%.64s' is not a numeric IPv4 or IPv6 address", address);
    bool v6 = parsed.any.sa_family == AF_INET6;
    int fd = socket(parsed.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : begin(fd, &parsed, &port);
    if (error) {
        if (fd >= 0)
            close(fd);
        return cprof__fail_errno(error, v6 ? "cannot listen on [%s]:%d" : "cannot listen on %s:%d", address,
                                 port);
    }
    listener->socket = fd;
    listener->port = port;
    snprintf(listener->authority, sizeof listener->authority, v6 ? "[%s]:%d" : "%s:%d", address, port);
    return CPROF_OK;
}
