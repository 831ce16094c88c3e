/* SPDX-License-Identifier: MIT */
/* Internet addresses from URLs: for tcp: and udp:. */
#ifndef NARU_CHANNEL_ADDRESS_H
#define NARU_CHANNEL_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "base/url.h"
#include "naru/channel.h"

struct address {
    int family;
    socklen_t length;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

enum { ADDRESSES_MAX = 8 };

struct addresses {
    size_t count; /* at least 1 */
    struct address list[ADDRESSES_MAX];
};

/*
 * The addresses that the URL's host:port stands for. An empty host is loopback (127.0.0.1, then ::1 to
 * connect to); "*" is every address, and can only be listened on. socket_type: SOCK_STREAM or SOCK_DGRAM.
 * Looks names up, which may block on the network. 0, or explained: -EINVAL, -ENOENT (no such host), -EAGAIN
 * (the name server did not answer).
 */
int addresses_resolve(const struct url *url, int socket_type, bool passive, struct addresses *ret);

/* bind(2), explained as address_bind_failed() does. */
int address_bind(const struct url *url, int fd, const struct address *address);

/* -EADDRINUSE, -EACCES, -EADDRNOTAVAIL ... with a way out. */
int address_bind_failed(const struct url *url, int code);

/* Sets l->url to what fd is bound to, keeping the URL's options: the port that the kernel chose shows. 0 or
 * -errno. */
struct naru_listener;
int address_listener_url(struct naru_listener *l, const struct url *url, int fd);

#endif
