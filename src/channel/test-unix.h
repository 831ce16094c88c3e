/* SPDX-License-Identifier: MIT */
/* What the tests of unix sockets have in common: the three kinds, and sockets of programs that know no naru.
 */
#ifndef NARU_CHANNEL_TEST_UNIX_H
#define NARU_CHANNEL_TEST_UNIX_H

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

/* A socket bound there by a program that knows nothing of naru. */
static inline int foreign_socket(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    if (type != SOCK_DGRAM)
        CHECK(listen(fd, 5) == 0);
    return fd;
}

static const char *const kinds[] = {"stream", "seqpacket", "dgram"};
static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};

static inline const char *each_kind(size_t index)
{
    return index < 3 ? kinds[index] : NULL;
}

#endif
