/* SPDX-License-Identifier: MIT
 *
 * See client.h.
 */
#define _GNU_SOURCE
#include "client.h"
#include "judge.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

int client_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

void client_say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

char *client_hear(int fd)
{
    judge_bytes bytes = {0};
    char piece[4096];
    assert_int_equal(judge_write(&bytes, "", 0), 0);
    for (ssize_t length; (length = recv(fd, piece, sizeof piece, 0)) > 0;)
        assert_int_equal(judge_write(&bytes, piece, (size_t)length), 0);
    close(fd);
    return bytes.data;
}

size_t client_open_files(void)
{
    size_t count = 0;
    DIR *files = opendir("/proc/self/fd");
    assert_non_null(files);
    while (readdir(files))
        count++;
    closedir(files);
    return count;
}

void assert_prefix(const char *text, const char *prefix)
{
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        fail_msg("does not begin with %s:\n%s", prefix, text);
}

void assert_found(const char *text, const char *part)
{
    if (!strcasestr(text, part))
        fail_msg("not found: %s\nin:\n%s", part, text);
}
