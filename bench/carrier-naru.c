/* SPDX-License-Identifier: MIT */
/*
 * The same through naru's public calls, for any mechanism of which two ends can be made here. What the ends
 * are called is the only thing known of each mechanism; how they are opened follows from its capabilities.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "bench/carrier.h"
#include "bench/engine.h"
#include "bench/meeting.h"
#include "naru/naru.h"

enum { URL_MAX = 320, THERE = 0, BACK = 1 };

/* What the sides tell each other: the URL with the port that the kernel chose, and who they are. */
struct rendezvous {
    char url[URL_MAX];
    pid_t pids[2];
};

struct link {
    const struct naru_mechanism *row;
    const struct load *load;
    const char *options; /* of the URLs; NULL: none */
    enum lending lending;
    uint32_t received;                /* messages that were lent */
    bool polled;                      /* the receiver waits in epoll_wait(2) */
    int epoll;                        /* in a child: if so; else -1 */
    char urls[2][URL_MAX];            /* [direction]; both the same where one connection does both */
    struct naru_channel *pairs[2][2]; /* [direction][side of naru_channel_pair()] */
    struct naru_listener *listener;
    int given[2][2];              /* [direction]: pipes, for fd: and -; [0] is read from */
    struct naru_channel *tx, *rx; /* in a child */
    struct rendezvous *rendezvous;
    struct meeting meeting; /* told when a side has written its part of the rendezvous */
    struct naru_message messages[ENGINE_BATCH];
    struct iovec pieces[ENGINE_BATCH];
};

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

static bool can(const struct link *link, uint32_t capability)
{
    return (link->row->capabilities & capability) != 0;
}

/* fd: and -, which are descriptors that a process finds open. */
static bool is_given(const struct naru_mechanism *row)
{
    return strcmp(row->scheme, "fd") == 0 || strcmp(row->scheme, "-") == 0;
}

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static bool is_free(int id)
{
    return id < 0 && errno == ENOENT;
}

/* A System V key that nobody uses: our pid makes it ours among all live processes. */
static int free_key(int direction)
{
    for (int i = direction; i < 256; i += 2) {
        int key = (int)(0x4e000000u | ((unsigned)getpid() & 0xffffu) << 8 | (unsigned)i);

        if (is_free(msgget(key, 0)) && is_free(shmget(key, 0, 0)) && is_free(semget(key, 0, 0)))
            return key;
    }
    return 0x4e000000;
}

/* The URL of an end in that direction. false: this mechanism does not join two processes of one program. */
static bool make_url(struct link *link, int direction)
{
    static const char *const names[2] = {"there", "back"};
    const char *name = link->row->name, *scheme = link->row->scheme, *dash = strchr(name, '-');
    char *url = link->urls[direction];

    if (can(link, NARU_CAN_PAIR) && link->options)
        (void)snprintf(url, URL_MAX, "%s:?%s", scheme, link->options);
    else if (can(link, NARU_CAN_PAIR))
        (void)snprintf(url, URL_MAX, dash ? "%s:?type=%s" : "%s:", scheme, dash ? dash + 1 : "");
    else if (strcmp(scheme, "fifo") == 0 || strcmp(scheme, "file") == 0)
        (void)snprintf(url, URL_MAX, "%s://%s/%s?frame=len32", scheme, link->load->directory,
                       names[direction]);
    else if (strcmp(scheme, "tcp") == 0 || strcmp(scheme, "udp") == 0)
        (void)snprintf(url, URL_MAX, "%s://127.0.0.1:0", scheme);
    else if (strcmp(scheme, "sysvmq") == 0)
        (void)snprintf(url, URL_MAX, "sysvmq:0x%x", (unsigned)free_key(direction));
    else if (strcmp(scheme, "shm+sysv") == 0)
        (void)snprintf(url, URL_MAX, "shm+sysv:0x%x%s%s", (unsigned)free_key(direction),
                       link->options ? "?" : "", link->options ? link->options : "");
    else if (strcmp(scheme, "shm+posix") == 0)
        (void)snprintf(url, URL_MAX, "shm+posix:/naru-bench-%d-%s%s%s", (int)getpid(), names[direction],
                       link->options ? "?" : "", link->options ? link->options : "");
    else if (is_given(link->row))
        (void)snprintf(url, URL_MAX, "%s", scheme);
    else if (strcmp(scheme, "signal") == 0)
        url[0] = '\0'; /* names the receiver's pid, which is not known before the fork */
    else if (strcmp(scheme, "posixmq") == 0)
        (void)snprintf(url, URL_MAX, "posixmq:/naru-bench-%d-%s", (int)getpid(), names[direction]);
    else
        return false;
    return true;
}

static void close_pairs(struct link *link)
{
    for (int i = 0; i < 4; i++)
        link->pairs[i / 2][i % 2] = naru_channel_close(link->pairs[i / 2][i % 2]);
}

static void let_go(struct link *link)
{
    close_pairs(link);
    meeting_close(&link->meeting);
    for (int i = 0; i < 4; i++)
        link->given[i / 2][i % 2] = close_fd(link->given[i / 2][i % 2]);
}

static void close_link(struct link *link)
{
    let_go(link);
    /* What is left is what a killed child could not remove; usually there is nothing. */
    for (int i = 0; can(link, NARU_CAN_LISTEN) && !can(link, NARU_CAN_PAIR) && i < 2; i++)
        if (link->urls[i][0] && naru_remove(link->urls[i]) < 0)
            continue;
    duo_unshare(link->rendezvous, sizeof *link->rendezvous);
    free(link);
}

static int open_pairs(struct link *link)
{
    int directions = can(link, NARU_CAN_DUPLEX) ? 1 : 2;

    for (int i = 0; i < directions; i++) {
        int r = naru_channel_pair(link->urls[i], NULL, link->pairs[i]);

        if (r < 0)
            return failed(r);
    }
    return 0;
}

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    int r;

    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->row = naru_mechanism_find(carrier->mechanism);
    link->load = load;
    link->options = carrier->options;
    link->polled = carrier->polled;
    link->lending = carrier->lending;
    link->epoll = -1;
    for (int i = 0; i < 4; i++)
        link->given[i / 2][i % 2] = -1;
    link->rendezvous = duo_share(sizeof *link->rendezvous);
    r = meeting_open(&link->meeting);
    if (r == 0 && (!link->rendezvous ||
                   (is_given(link->row) && (pipe(link->given[THERE]) < 0 || pipe(link->given[BACK]) < 0))))
        r = duo_fail_errno("a rendezvous");
    if (r == 0) {
        (void)make_url(link, THERE);
        (void)make_url(link, BACK);
        r = can(link, NARU_CAN_PAIR) ? open_pairs(link) : 0;
    }
    if (r < 0)
        close_link(link);
    else
        *ret_link = link;
    return r;
}

static int take_pair(struct link *link, enum duo_side side)
{
    enum duo_side other = side == DUO_NEAR ? DUO_FAR : DUO_NEAR;
    bool duplex = can(link, NARU_CAN_DUPLEX);
    struct naru_channel **tx = duplex ? &link->pairs[THERE][side] : &link->pairs[side][0];
    struct naru_channel **rx = duplex ? &link->pairs[THERE][side] : &link->pairs[other][1];

    link->tx = *tx;
    link->rx = *rx;
    *tx = *rx = NULL;
    close_pairs(link);
    return 0;
}

/* One connection that goes both ways: the far side listens, and tells its address. */
static int attach_duplex(struct link *link, enum duo_side side)
{
    int r;

    if (side == DUO_FAR) {
        r = naru_listen(link->urls[THERE], NULL, &link->listener);
        if (r < 0)
            return failed(r);
        (void)snprintf(link->rendezvous->url, URL_MAX, "%s", naru_listener_url(link->listener));
        r = meeting_tell(&link->meeting, DUO_FAR);
        if (r < 0)
            return r;
        r = naru_accept(link->listener, NARU_FOREVER, &link->rx);
    } else {
        r = meeting_await(&link->meeting, DUO_NEAR);
        if (r < 0)
            return r;
        r = naru_connect(link->rendezvous->url, NULL, NARU_FOREVER, &link->rx);
    }
    link->tx = link->rx;
    return r < 0 ? failed(r) : 0;
}

/* Two one-way ends: each side listens where it receives, and connects where it sends, once both listen: a
 * file's reader gets what is appended from then on. */
static int attach_one_way(struct link *link, enum duo_side side)
{
    int r = naru_listen(link->urls[side == DUO_NEAR ? BACK : THERE], NULL, &link->listener);

    if (r < 0)
        return failed(r);
    r = meeting_both(&link->meeting, side);
    if (r < 0)
        return r;
    if (side == DUO_NEAR) {
        r = naru_connect(link->urls[THERE], NULL, NARU_FOREVER, &link->tx);
        if (r == 0)
            r = naru_accept(link->listener, NARU_FOREVER, &link->rx);
    } else {
        r = naru_accept(link->listener, NARU_FOREVER, &link->rx);
        if (r == 0)
            r = naru_connect(link->urls[BACK], NULL, NARU_FOREVER, &link->tx);
    }
    return r < 0 ? failed(r) : 0;
}

/* Each process receives the signal and sends it to the other one's pid. */
static int attach_signal(struct link *link, enum duo_side side)
{
    enum duo_side other = side == DUO_NEAR ? DUO_FAR : DUO_NEAR;
    int r = naru_listen("signal:?sig=RTMIN", NULL, &link->listener);

    if (r == 0)
        r = naru_accept(link->listener, NARU_FOREVER, &link->rx);
    if (r < 0)
        return failed(r);
    link->rendezvous->pids[side] = getpid();
    r = meeting_both(&link->meeting, side);
    if (r < 0)
        return r;
    (void)snprintf(link->urls[side], URL_MAX, "signal:%d?sig=RTMIN", (int)link->rendezvous->pids[other]);
    r = naru_connect(link->urls[side], NULL, NARU_FOREVER, &link->tx);
    return r < 0 ? failed(r) : 0;
}

/* What a shell or a parent would have set up before the program began: two pipes. */
static int attach_given(struct link *link, enum duo_side side)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    int in = link->given[side == DUO_NEAR ? BACK : THERE][0];
    int out = link->given[side == DUO_NEAR ? THERE : BACK][1], r;
    char url[32];

    options.frame = NARU_FRAME_LEN32;
    if (strcmp(link->row->scheme, "-") == 0) {
        if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
            return duo_fail_errno("dup2");
        r = naru_connect("-", &options, NARU_FOREVER, &link->rx);
        link->tx = link->rx;
    } else {
        (void)snprintf(url, sizeof url, "fd:%d", in);
        r = naru_connect(url, &options, NARU_FOREVER, &link->rx);
        (void)snprintf(url, sizeof url, "fd:%d", out);
        if (r == 0)
            r = naru_connect(url, &options, NARU_FOREVER, &link->tx);
    }
    for (int i = 0; i < 4; i++) /* the channels have duplicates */
        link->given[i / 2][i % 2] = close_fd(link->given[i / 2][i % 2]);
    return r < 0 ? failed(r) : 0;
}

static int attach_somehow(struct link *link, enum duo_side side)
{
    meeting_attend(&link->meeting, side);
    if (is_given(link->row))
        return attach_given(link, side);
    if (strcmp(link->row->scheme, "signal") == 0)
        return attach_signal(link, side);
    if (can(link, NARU_CAN_PAIR))
        return take_pair(link, side);
    return can(link, NARU_CAN_DUPLEX) ? attach_duplex(link, side) : attach_one_way(link, side);
}

static int make_epoll(struct link *link)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fd = naru_channel_fd(link->rx);

    if (fd < 0)
        return failed(fd);
    link->epoll = epoll_create1(EPOLL_CLOEXEC);
    return link->epoll < 0 || epoll_ctl(link->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? duo_fail_errno("epoll")
                                                                                    : 0;
}

/* Neither begins (and perhaps ends) before the other is connected too. */
static int attach(struct link *link, enum duo_side side)
{
    int r = attach_somehow(link, side);

    if (r == 0 && link->polled)
        r = make_epoll(link);
    return r < 0 ? r : meeting_both(&link->meeting, side);
}

/* Lent and not touched: how much shorter than its loan a message is tells its number, as far as it goes. */
enum { SHORTER_STOP = 512, SHORTER_MASK = SHORTER_STOP - 1 };

static bool is_told_by_length(const struct link *link, size_t length)
{
    return link->lending == LENDING_UNTOUCHED && length > 2 * SHORTER_STOP;
}

static size_t shorter_by(const void *data)
{
    uint32_t number;

    memcpy(&number, data, sizeof number);
    return number == ENGINE_STOP ? SHORTER_STOP : number & SHORTER_MASK;
}

/* The number of message `next`, or what arrived in its place. */
static uint32_t number_by_length(uint32_t next, size_t shorter)
{
    return shorter == SHORTER_STOP ? ENGINE_STOP : (next & ~(uint32_t)SHORTER_MASK) | (uint32_t)shorter;
}

/* How much of it is copied into the loan and out of the view. */
static size_t touched(const struct link *link, size_t length)
{
    return link->lending != LENDING_TOUCHED && length > ENGINE_SIZE_MIN ? ENGINE_SIZE_MIN : length;
}

static int lend(struct link *link, const void *data, size_t length)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    int r = naru_loan(link->tx, length, NARU_FOREVER, &loan);

    if (r < 0)
        return failed(r);
    if (is_told_by_length(link, length))
        length -= shorter_by(data);
    else
        memcpy(loan.data, data, touched(link, length));
    r = naru_commit(&loan, length, NULL);
    return r < 0 ? failed(r) : 0;
}

static ssize_t borrow(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    int r = naru_borrow(link->rx, NARU_FOREVER, &view);
    size_t length = view.length;

    if (r < 0)
        return failed(r);
    if (is_told_by_length(link, capacity) && length <= capacity && capacity - length <= SHORTER_STOP) {
        uint32_t number = number_by_length(link->received++, capacity - length);

        memcpy(buffer, &number, sizeof number);
        length = capacity;
    } else if (length <= capacity) {
        memcpy(buffer, view.data, touched(link, length));
    }
    naru_release(&view);
    *ret_data = buffer;
    return length <= capacity ? (ssize_t)length : duo_fail(-EMSGSIZE, "%zu bytes do not fit", length);
}

static int send_one(struct link *link, const void *data, size_t length)
{
    int r;

    if (link->lending)
        return lend(link, data, length);
    r = naru_send(link->tx, data, length, NARU_FOREVER);

    return r < 0 ? failed(r) : 0;
}

/* As an event loop does it: told that there is something, receives it. */
static ssize_t recv_polled(struct link *link, void *buffer, size_t capacity)
{
    struct epoll_event event;
    ssize_t n;

    do {
        while (epoll_wait(link->epoll, &event, 1, -1) < 0)
            if (errno != EINTR)
                return duo_fail_errno("epoll_wait");
        n = naru_recv(link->rx, buffer, capacity, NARU_NOWAIT);
    } while (n == -EAGAIN);
    return n < 0 ? failed((int)n) : n;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ssize_t n;

    if (link->lending)
        return borrow(link, buffer, capacity, ret_data);
    n = link->polled ? recv_polled(link, buffer, capacity)
                     : naru_recv(link->rx, buffer, capacity, NARU_FOREVER);

    *ret_data = buffer;
    return n < 0 ? failed((int)n) : n;
}

static ssize_t send_batch(struct link *link, const void *data, size_t n)
{
    size_t size = link->load->size;
    ssize_t sent;

    for (size_t i = 0; i < n; i++) {
        link->pieces[i] = (struct iovec){(char *)(uintptr_t)data + i * size, size};
        link->messages[i] =
            (struct naru_message){.size = sizeof link->messages[i], .iov = &link->pieces[i], .iov_count = 1};
    }
    sent = naru_send_batch(link->tx, link->messages, n, NARU_FOREVER);
    return sent < 0 ? failed((int)sent) : sent;
}

void carrier_naru_ends(const struct link *link, struct naru_channel **ret_tx, struct naru_channel **ret_rx)
{
    *ret_tx = link->tx;
    *ret_rx = link->rx;
}

int carrier_naru(const struct naru_mechanism *row, struct carrier *ret_carrier)
{
    struct load load = {.directory = ""};
    struct link link = {.row = row, .load = &load};
    const struct carrier *floor = floor_find(row->name);

    if (!make_url(&link, THERE))
        return -ENOTSUP;
    *ret_carrier = (struct carrier){
        .mechanism = row->name,
        .max_message = row->max_message,
        .open = open_link,
        .let_go = let_go,
        .attach = attach,
        .close = close_link,
        .send = send_one,
        .recv = recv_one,
        .send_batch = send_batch,
        .window = floor ? floor->window : NULL,
    };
    return 0;
}
