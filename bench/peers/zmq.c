/* SPDX-License-Identifier: MIT */
/*
 * ZeroMQ: PAIR over ipc://, a unix stream socket. Received messages are read where they lie (zmq_msg_recv());
 * zmq_send() copies, as the caller's memory is its own again afterwards. What is queued when the near side
 * ends is sent before: zmq_ctx_term() waits for it, as a socket lingers for ever by default here, and the
 * kernel has it then; and neither side ends before the other has had everything.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "bench/meeting.h"
#include "bench/peers/peers.h"

enum { URL_MAX = 320 };

struct link {
    char url[URL_MAX];
    struct meeting meeting;
    void *context, *socket;
    zmq_msg_t held; /* the message that was received last: its bytes are the caller's until the next */
};

static int failed(const char *what)
{
    return duo_fail(-errno, "%s: %s", what, zmq_strerror(errno));
}

static void let_go(struct link *link)
{
    meeting_close(&link->meeting);
}

static void close_link(struct link *link)
{
    let_go(link);
    (void)remove(link->url + strlen("ipc://")); /* what a killed child could not remove */
    free(link);
}

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    int r;

    (void)carrier;
    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    (void)snprintf(link->url, URL_MAX, "ipc://%s/zmq", load->directory);
    r = meeting_open(&link->meeting);
    if (r < 0)
        free(link);
    else
        *ret_link = link;
    return r;
}

/* The far side listens, as elsewhere. */
static int attach(struct link *link, enum duo_side side)
{
    int r = 0;

    meeting_attend(&link->meeting, side);
    link->context = zmq_ctx_new();
    link->socket = link->context ? zmq_socket(link->context, ZMQ_PAIR) : NULL;
    if (!link->socket)
        return failed("zmq_socket");
    (void)zmq_msg_init(&link->held);
    if (side == DUO_NEAR)
        r = meeting_await(&link->meeting, side);
    if (r < 0)
        return r;
    if (side == DUO_FAR ? zmq_bind(link->socket, link->url) < 0 : zmq_connect(link->socket, link->url) < 0)
        return failed(link->url);
    return side == DUO_FAR ? meeting_tell(&link->meeting, side) : 0;
}

static int detach(struct link *link, enum duo_side side)
{
    const int for_ever = -1;
    int r = meeting_both(&link->meeting, side);

    if (r < 0)
        return r;
    (void)zmq_msg_close(&link->held);
    if (zmq_setsockopt(link->socket, ZMQ_LINGER, &for_ever, sizeof for_ever) < 0 ||
        zmq_close(link->socket) < 0 || zmq_ctx_term(link->context) < 0)
        return failed("zmq_ctx_term");
    return 0;
}

static int send_one(struct link *link, const void *data, size_t length)
{
    while (zmq_send(link->socket, data, length, 0) < 0)
        if (errno != EINTR)
            return failed("zmq_send");
    return 0;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    (void)buffer;
    while (zmq_msg_recv(&link->held, link->socket, 0) < 0)
        if (errno != EINTR)
            return failed("zmq_msg_recv");
    if (zmq_msg_size(&link->held) > capacity)
        return duo_fail(-EMSGSIZE, "%zu bytes do not fit", zmq_msg_size(&link->held));
    *ret_data = zmq_msg_data(&link->held);
    return (ssize_t)zmq_msg_size(&link->held);
}

#define TEXT(x) #x
#define WORD(x) TEXT(x)

const struct carrier peer_zmq = {
    .mechanism = "zmq",
    .slow = true,
    .about = "ZeroMQ " WORD(ZMQ_VERSION_MAJOR) "." WORD(ZMQ_VERSION_MINOR) "." WORD(
        ZMQ_VERSION_PATCH) ", PAIR over ipc://, zmq_send() and zmq_msg_recv(); it can "
                           "only sleep",
    .open = open_link,
    .let_go = let_go,
    .attach = attach,
    .detach = detach,
    .close = close_link,
    .send = send_one,
    .recv = recv_one};
