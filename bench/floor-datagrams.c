/* SPDX-License-Identifier: MIT */
/*
 * Sockets that keep messages apart, received as a program does that loses nothing unseen: unix seqpacket and
 * datagram (socketpair) with room for descriptors and with SO_PASSCRED, which tells an empty message from the
 * end; UDP over loopback with SO_RXQ_OVFL, a client that is connected and a server that answers whoever asks.
 * `plain` receives with recv(2) alone, between connected ends: what all of that costs.
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
    bool plain;
    struct sockaddr_in client; /* UDP's server: who asked last */
    socklen_t client_length;   /* 0: the socket is connected */
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(253 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))]; /* SCM_MAX_FD, unix(7) */
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
static struct link *new_link(const struct carrier *carrier)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link) {
        (void)duo_fail(-ENOMEM, "out of memory");
        return NULL;
    }
    link->ends[0] = link->ends[1] = link->fd = -1;
    link->plain = carrier->plain;
    return link;
}

static int open_failed(struct link *link, const char *what)
{
    int r = duo_fail_errno(what);

    close_link(link);
    return r;
}

static int open_pair(const struct carrier *carrier, int type, struct link **ret_link)
{
    struct link *link = new_link(carrier);
    const int on = 1;

    if (!link)
        return -ENOMEM;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, link->ends) < 0)
        return open_failed(link, "socketpair");
    for (int i = 0; i < 2 && !link->plain; i++)
        if (setsockopt(link->ends[i], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
            return open_failed(link, "SO_PASSCRED");
    *ret_link = link;
    return 0;
}

static int open_seqpacket(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)load;
    return open_pair(carrier, SOCK_SEQPACKET, ret_link);
}

static int open_dgram(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)load;
    return open_pair(carrier, SOCK_DGRAM, ret_link);
}

static int open_udp(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct sockaddr_in addresses[2];
    struct link *link = new_link(carrier);
    socklen_t length = sizeof addresses[0];
    const int on = 1;

    (void)load;
    if (!link)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        addresses[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        link->ends[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (link->ends[i] < 0 || bind(link->ends[i], (struct sockaddr *)&addresses[i], length) < 0 ||
            getsockname(link->ends[i], (struct sockaddr *)&addresses[i], &length) < 0 ||
            (!link->plain && setsockopt(link->ends[i], SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on) < 0))
            return open_failed(link, "a UDP socket");
    }
    if (connect(link->ends[DUO_NEAR], (struct sockaddr *)&addresses[DUO_FAR], length) < 0 ||
        (link->plain && connect(link->ends[DUO_FAR], (struct sockaddr *)&addresses[DUO_NEAR], length) < 0))
        return open_failed(link, "a UDP socket's peer");
    if (!link->plain) {
        link->client = addresses[DUO_NEAR];
        link->client_length = length;
    }
    *ret_link = link;
    return 0;
}

static int attach(struct link *link, enum duo_side side)
{
    link->fd = link->ends[side];
    link->ends[side] = -1;
    if (side == DUO_NEAR)
        link->client_length = 0;
    let_go(link);
    return 0;
}

static int send_one(struct link *link, const void *data, size_t length)
{
    const struct sockaddr *to = link->client_length ? (struct sockaddr *)&link->client : NULL;
    ssize_t n;

    do
        n = sendto(link->fd, data, length, MSG_NOSIGNAL, to, link->client_length);
    while (n < 0 && errno == EINTR);
    return n < 0 ? duo_fail_errno("send") : 0;
}

static ssize_t receive(struct link *link, void *buffer, size_t capacity)
{
    union control control;
    struct iovec piece = {buffer, capacity};
    struct msghdr header = {.msg_iov = &piece,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};

    if (link->plain)
        return recv(link->fd, buffer, capacity, MSG_TRUNC);
    if (link->client_length) {
        header.msg_name = &link->client;
        header.msg_namelen = sizeof link->client;
    }
    return recvmsg(link->fd, &header, MSG_TRUNC | MSG_CMSG_CLOEXEC);
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ssize_t n;

    do
        n = receive(link, buffer, capacity);
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
