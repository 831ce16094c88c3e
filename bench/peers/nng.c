/* SPDX-License-Identifier: MIT */
/*
 * nng: pair0 over ipc://, a unix stream socket, in two ways:
 *
 *  - as it comes: nng_sendmsg() and nng_recvmsg(), which its author prefers to nng_send() and nng_recv(), and
 * no option set. A socket then holds no message: each send waits for the one before it.
 *  - with queues: NNG_OPT_SENDBUF and NNG_OPT_RECVBUF, and nng_send_aio() and nng_recv_aio() on objects made
 * once (the calls above make one each time, nng #1536). Longer queues than these were not faster.
 *
 * Messages are handed over without a copy, and the memory of one that was received is used for the next one
 * sent. nng has no linger: what is queued when a process ends is lost. So neither side ends before both have
 * had everything.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "bench/meeting.h"
#include "bench/peers/peers.h"

enum { URL_MAX = 320 };
#define QUEUE 128 /* messages */

struct link {
    bool queues;
    char url[URL_MAX];
    struct meeting meeting;
    nng_socket socket;
    nng_aio *sending, *receiving;
    nng_msg *held;  /* the message that was received last: its bytes are the caller's until the next */
    nng_msg *spare; /* one that can be used again */
};

static int failed(const char *what, int error)
{
    return duo_fail(error == NNG_ECLOSED || error == NNG_ECONNRESET ? -EPIPE : -EIO, "%s: %s", what,
                    nng_strerror(error));
}

static void let_go(struct link *link)
{
    meeting_close(&link->meeting);
}

static void close_link(struct link *link)
{
    let_go(link);
    (void)remove(link->url + strlen("ipc://")); /* nng removes it only where the socket is closed */
    free(link);
}

static int open_link(bool queues, const struct load *load, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    int r;

    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->queues = queues;
    (void)snprintf(link->url, URL_MAX, "ipc://%s/nng", load->directory);
    r = meeting_open(&link->meeting);
    if (r < 0)
        free(link);
    else
        *ret_link = link;
    return r;
}

static int open_plain(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_link(false, load, ret_link);
}

static int open_queues(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_link(true, load, ret_link);
}

static int open_socket(struct link *link)
{
    int error = nng_pair0_open(&link->socket);

    if (error == 0 && link->queues)
        error = nng_socket_set_int(link->socket, NNG_OPT_SENDBUF, QUEUE);
    if (error == 0 && link->queues)
        error = nng_socket_set_int(link->socket, NNG_OPT_RECVBUF, QUEUE);
    if (error == 0)
        error = nng_socket_set_size(link->socket, NNG_OPT_RECVMAXSZ, 0); /* no limit */
    if (error == 0)
        error = nng_aio_alloc(&link->sending, NULL, NULL);
    if (error == 0)
        error = nng_aio_alloc(&link->receiving, NULL, NULL);
    return error ? failed("a socket of nng", error) : 0;
}

/* The far side listens, as elsewhere. */
static int attach(struct link *link, enum duo_side side)
{
    int r, error;

    meeting_attend(&link->meeting, side);
    r = open_socket(link);
    if (r == 0 && side == DUO_NEAR)
        r = meeting_await(&link->meeting, side);
    if (r < 0)
        return r;
    error = side == DUO_FAR ? nng_listen(link->socket, link->url, NULL, 0)
                            : nng_dial(link->socket, link->url, NULL, 0);
    if (error)
        return failed(link->url, error);
    return side == DUO_FAR ? meeting_tell(&link->meeting, side) : 0;
}

static int detach(struct link *link, enum duo_side side)
{
    return meeting_both(&link->meeting, side);
}

/* A message of that length: the spare one, if it is as long. */
static int take_message(struct link *link, size_t length, nng_msg **ret_message)
{
    int error = 0;

    if (link->spare && nng_msg_len(link->spare) != length) {
        nng_msg_free(link->spare);
        link->spare = NULL;
    }
    if (!link->spare)
        error = nng_msg_alloc(&link->spare, length);
    *ret_message = link->spare;
    link->spare = NULL;
    return error;
}

static int give(struct link *link, nng_msg *message)
{
    if (!link->queues)
        return nng_sendmsg(link->socket, message, 0);
    nng_aio_set_msg(link->sending, message);
    nng_send_aio(link->socket, link->sending);
    nng_aio_wait(link->sending);
    return nng_aio_result(link->sending);
}

static int send_one(struct link *link, const void *data, size_t length)
{
    nng_msg *message;
    int error = take_message(link, length, &message);

    if (error)
        return failed("nng_msg_alloc", error);
    memcpy(nng_msg_body(message), data, length);
    error = give(link, message);
    return error ? failed("sending by nng", error) : 0;
}

static int get(struct link *link, nng_msg **ret_message)
{
    int error;

    if (!link->queues)
        return nng_recvmsg(link->socket, ret_message, 0);
    nng_recv_aio(link->socket, link->receiving);
    nng_aio_wait(link->receiving);
    error = nng_aio_result(link->receiving);
    if (error == 0)
        *ret_message = nng_aio_get_msg(link->receiving);
    return error;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    int error;

    (void)buffer;
    if (link->spare)
        nng_msg_free(link->spare);
    link->spare = link->held;
    link->held = NULL;
    error = get(link, &link->held);
    if (error)
        return failed("receiving by nng", error);
    if (nng_msg_len(link->held) > capacity)
        return duo_fail(-EMSGSIZE, "%zu bytes do not fit", nng_msg_len(link->held));
    *ret_data = nng_msg_body(link->held);
    return (ssize_t)nng_msg_len(link->held);
}

#define TEXT(x) #x
#define WORD(x) TEXT(x)
#define ABOUT                                                                                                \
    "nng " WORD(NNG_MAJOR_VERSION) "." WORD(NNG_MINOR_VERSION) "." WORD(                                     \
        NNG_PATCH_VERSION) ", pair0 over ipc://"

const struct carrier peer_nng = {.mechanism = "nng",
                                 .slow = true,
                                 .about = ABOUT ", nng_sendmsg() and nng_recvmsg(); it can only sleep",
                                 .open = open_plain,
                                 .let_go = let_go,
                                 .attach = attach,
                                 .detach = detach,
                                 .close = close_link,
                                 .send = send_one,
                                 .recv = recv_one};
const struct carrier peer_nng_queues = {.mechanism = "nng",
                                        .slow = true,
                                        .about = ABOUT
                                        ", queues of " WORD(QUEUE) ", nng_send_aio() and nng_recv_aio()",
                                        .open = open_queues,
                                        .let_go = let_go,
                                        .attach = attach,
                                        .detach = detach,
                                        .close = close_link,
                                        .send = send_one,
                                        .recv = recv_one};
