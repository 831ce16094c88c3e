/* SPDX-License-Identifier: MIT */
/* The bare pipe(2), mkfifo(3), socketpair(2) stream and TCP: descriptors made, then floor-stream.c. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/floor-stream.h"
#include "bench/floor.h"

enum { THERE = 0, BACK = 1 }; /* directions, seen from the near side */

struct link {
    struct bare_stream stream;
    const struct load *load;
    bool control;  /* see struct bare_stream */
    int fds[2][2]; /* [side][0]: read, [1]: write; may be the same */
    int listener;
    char paths[2][256]; /* [direction]; "": none */
};

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static void let_go(struct link *link)
{
    for (int side = DUO_NEAR; side <= DUO_FAR; side++) {
        if (link->fds[side][1] != link->fds[side][0])
            (void)close_fd(link->fds[side][1]);
        (void)close_fd(link->fds[side][0]);
        link->fds[side][0] = link->fds[side][1] = -1;
    }
    link->listener = close_fd(link->listener);
}

static void close_link(struct link *link)
{
    let_go(link);
    for (int i = 0; i < 2; i++)
        if (link->paths[i][0])
            (void)unlink(link->paths[i]); /* gone already if the child came so far */
    free(link);
}

/* NULL if there is no memory. */
static struct link *new_link(const struct load *load)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link) {
        (void)duo_fail(-ENOMEM, "out of memory");
        return NULL;
    }
    link->load = load;
    link->fds[0][0] = link->fds[0][1] = link->fds[1][0] = link->fds[1][1] = link->listener = -1;
    return link;
}

/* Keeps this side's descriptors and closes the other's. */
static int attach(struct link *link, enum duo_side side)
{
    enum duo_side other = side == DUO_NEAR ? DUO_FAR : DUO_NEAR;
    int r;

    if (link->fds[other][1] != link->fds[other][0])
        (void)close_fd(link->fds[other][1]);
    (void)close_fd(link->fds[other][0]);
    r = bare_stream_init(&link->stream, link->fds[side][0], link->fds[side][1], link->load->size,
                         link->load->pattern == PATTERN_BATCH ? BARE_READ_EXACTLY
                         : link->paths[THERE][0]              ? BARE_READ_SINGLY /* a FIFO */
                                                              : BARE_READ_AHEAD);
    link->stream.control = link->control;
    return r;
}

static int send_one(struct link *link, const void *data, size_t length)
{
    return bare_stream_send(&link->stream, data, length);
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    (void)buffer;
    (void)capacity;
    return bare_stream_recv(&link->stream, ret_data);
}

static int open_pipe(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = new_link(load);
    int there[2], back[2], r;

    (void)carrier;
    if (!link)
        return -ENOMEM;
    if (pipe2(there, O_CLOEXEC) < 0) {
        r = duo_fail_errno("pipe2");
        close_link(link);
        return r;
    }
    link->fds[DUO_FAR][0] = there[0];
    link->fds[DUO_NEAR][1] = there[1];
    if (pipe2(back, O_CLOEXEC) < 0) {
        r = duo_fail_errno("pipe2");
        close_link(link);
        return r;
    }
    link->fds[DUO_NEAR][0] = back[0];
    link->fds[DUO_FAR][1] = back[1];
    *ret_link = link;
    return 0;
}

static int open_fifo(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    static const char *const names[2] = {"there", "back"};
    struct link *link = new_link(load);
    int r;

    (void)carrier;
    if (!link)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(link->paths[i], sizeof link->paths[i], "%s/%s", load->directory, names[i]);
        if (mkfifo(link->paths[i], 0600) < 0) {
            r = duo_fail_errno("mkfifo");
            link->paths[i][0] = '\0';
            close_link(link);
            return r;
        }
    }
    *ret_link = link;
    return 0;
}

/* Each open(2) blocks until the other side has opened too: same order on both. */
static int attach_fifo(struct link *link, enum duo_side side)
{
    int there = open(link->paths[THERE], (side == DUO_NEAR ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    int back = there < 0 ? -1 : open(link->paths[BACK], (side == DUO_NEAR ? O_RDONLY : O_WRONLY) | O_CLOEXEC);

    if (back < 0)
        return duo_fail_errno("open of a FIFO");
    link->fds[side][0] = side == DUO_NEAR ? back : there;
    link->fds[side][1] = side == DUO_NEAR ? there : back;
    return attach(link, side);
}

static int open_unix(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = new_link(load);
    int ends[2], r;

    if (!link)
        return -ENOMEM;
    link->control = !carrier->plain;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        r = duo_fail_errno("socketpair");
        close_link(link);
        return r;
    }
    for (int side = DUO_NEAR; side <= DUO_FAR; side++)
        link->fds[side][0] = link->fds[side][1] = ends[side];
    *ret_link = link;
    return 0;
}

static int open_tcp(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct link *link = new_link(load);
    int r;

    (void)carrier;
    if (!link)
        return -ENOMEM;
    link->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->listener < 0 || bind(link->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(link->listener, 1) < 0) {
        r = duo_fail_errno("a listening TCP socket");
        close_link(link);
        return r;
    }
    *ret_link = link;
    return 0;
}

static int attach_tcp(struct link *link, enum duo_side side)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int one = 1, fd;

    if (side == DUO_FAR) {
        fd = accept4(link->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return duo_fail_errno("accept4");
    } else {
        if (getsockname(link->listener, (struct sockaddr *)&address, &length) < 0)
            return duo_fail_errno("getsockname");
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, length) < 0)
            return duo_fail_errno("connect");
    }
    link->listener = close_fd(link->listener);
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
        return duo_fail_errno("TCP_NODELAY");
    link->fds[side][0] = link->fds[side][1] = fd;
    return attach(link, side);
}

#define STREAM_FLOOR(row, open_function, attach_function)                                                    \
    {                                                                                                        \
        .mechanism = (row), .open = (open_function), .let_go = let_go, .attach = (attach_function),          \
        .close = close_link, .send = send_one, .recv = recv_one                                              \
    }

const struct carrier floor_pipe = STREAM_FLOOR("pipe", open_pipe, attach);
const struct carrier floor_fifo = STREAM_FLOOR("fifo", open_fifo, attach_fifo);
const struct carrier floor_unix_stream = STREAM_FLOOR("unix-stream", open_unix, attach);
const struct carrier floor_tcp = STREAM_FLOOR("tcp", open_tcp, attach_tcp);
