/* SPDX-License-Identifier: MIT */
/*
 * Sockets that keep messages apart: unix seqpacket and datagram (socketpair), and UDP over loopback with both
 * ends connected, as a program does that talks to one peer.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/floor.h"

struct link {
    int ends[2];
    int fd; /* in a child: its own of the two */
};

static void let_go(struct link *link)
{
    for (int i = 0; i < 2; i++) {
        if (link->ends[i] >= 0)
            (void)close(link->ends[i]);
        link->ends[i] = -1;
    }
}

static void close_link(struct link *link)
{
    let_go(link);
    free(link);
}

/* NULL if there is no memory. */
static struct link *new_link(void)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link) {
        (void)duo_fail(-ENOMEM, "out of memory");
        return NULL;
    }
    link->ends[0] = link->ends[1] = link->fd = -1;
    return link;
}

static int open_pair(int type, struct link **ret_link)
{
    struct link *link = new_link();
    int r;

    if (!link)
        return -ENOMEM;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, link->ends) < 0) {
        r = duo_fail_errno("socketpair");
        link->ends[0] = link->ends[1] = -1;
        close_link(link);
        return r;
    }
    *ret_link = link;
    return 0;
}

static int open_seqpacket(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    (void)load;
    return open_pair(SOCK_SEQPACKET, ret_link);
}

static int open_dgram(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    (void)load;
    return open_pair(SOCK_DGRAM, ret_link);
}

static int open_udp(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct sockaddr_in addresses[2];
    socklen_t length = sizeof addresses[0];
    struct link *link = new_link();
    int r;

    (void)carrier;
    (void)load;
    if (!link)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        addresses[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        link->ends[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (link->ends[i] < 0 || bind(link->ends[i], (struct sockaddr *)&addresses[i], length) < 0 ||
            getsockname(link->ends[i], (struct sockaddr *)&addresses[i], &length) < 0)
            goto failed;
    }
    for (int i = 0; i < 2; i++)
        if (connect(link->ends[i], (struct sockaddr *)&addresses[!i], length) < 0)
            goto failed;
    *ret_link = link;
    return 0;
failed:
    r = duo_fail_errno("a UDP socket");
    close_link(link);
    return r;
}

static int attach(struct link *link, enum duo_side side)
{
    link->fd = link->ends[side];
    link->ends[side] = -1;
    let_go(link);
    return 0;
}

static int send_one(struct link *link, const void *data, size_t length)
{
    ssize_t n;

    do
        n = send(link->fd, data, length, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? duo_fail_errno("send") : 0;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ssize_t n;

    do
        n = recv(link->fd, buffer, capacity, MSG_TRUNC);
    while (n < 0 && errno == EINTR);
    *ret_data = buffer;
    if (n == 0)
        return duo_fail(-EPIPE, "the other end was closed"); /* the engine sends no empty messages */
    return n < 0 ? duo_fail_errno("recv") : n;
}

/*
 * The kernel counts what a datagram takes in memory (768 bytes at least, twice the payload at worst) against
 * SO_RCVBUF (212,992 bytes by default, socket(7)); what exceeds it is dropped. Half of that is kept free.
 */
static size_t udp_window(size_t size)
{
    size_t fit = 106496 / (768 + 2 * size);

    return fit < 2 ? 2 : fit > 64 ? 64 : fit;
}

const struct carrier floor_unix_seqpacket = {.mechanism = "unix-seqpacket",
                                             .open = open_seqpacket,
                                             .let_go = let_go,
                                             .attach = attach,
                                             .close = close_link,
                                             .send = send_one,
                                             .recv = recv_one};
const struct carrier floor_unix_dgram = {.mechanism = "unix-dgram",
                                         .open = open_dgram,
                                         .let_go = let_go,
                                         .attach = attach,
                                         .close = close_link,
                                         .send = send_one,
                                         .recv = recv_one};
const struct carrier floor_udp = {.mechanism = "udp",
                                  .max_message = 65507,
                                  .open = open_udp,
                                  .let_go = let_go,
                                  .attach = attach,
                                  .close = close_link,
                                  .send = send_one,
                                  .recv = recv_one,
                                  .window = udp_window};
