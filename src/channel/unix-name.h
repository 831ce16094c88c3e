/* SPDX-License-Identifier: MIT */
/*
 * Where a unix socket is: a path, or an abstract name. struct sockaddr_un has 108 bytes for it (unix(7)); a
 * path that is longer is reached by way of its directory, opened for this: /proc/self/fd/N/name.
 */
#ifndef NARU_CHANNEL_UNIX_NAME_H
#define NARU_CHANNEL_UNIX_NAME_H

#include <limits.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/url.h"

struct unix_name {
    struct sockaddr_un address;
    socklen_t length;     /* 0: the path is longer than fits there */
    const char *path;     /* in here; NULL for an abstract name */
    char whole[PATH_MAX]; /* a path that is longer */
};

/* The URL's target as a path, or as an abstract name where it begins with '@'. 0 or explained: -EINVAL
 * (empty, ?mode= of an abstract name), -ENAMETOOLONG: an abstract name of more than 107 bytes, a path of more
 * than 4090, or its last part of more than 82 where all of it has more than 107. */
int unix_name_parse(const struct url *url, struct unix_name *ret_name);

/* bind(2) and connect(2) to it, exactly: with all of the socket's mode (unix-bind.h). 0, or -1 with errno.
 * ENAMETOOLONG: /proc, which a long path needs, is not mounted. */
int unix_name_bind(int fd, const struct unix_name *name, bool exactly);
int unix_name_connect(int fd, const struct unix_name *name);

/* Explains that ENAMETOOLONG. */
int unix_name_needs_proc(const struct url *url, const struct unix_name *name);

#endif
