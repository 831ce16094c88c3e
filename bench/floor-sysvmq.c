/* SPDX-License-Identifier: MIT */
/* The bare System V message queue: two private queues, one a direction, removed after the run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "bench/floor.h"

enum { TYPE = 1, MSGMAX_DEFAULT = 8192 };

struct link {
    int queues[2];
    int in, out;
    struct {
        long type;
        char data[MSGMAX_DEFAULT];
    } sent, received;
};

static void close_link(struct link *link)
{
    for (int i = 0; i < 2; i++)
        if (link->queues[i] >= 0)
            (void)msgctl(link->queues[i], IPC_RMID, NULL); /* ours: it can only be gone already */
    free(link);
}

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);

    (void)carrier;
    (void)load;
    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->queues[0] = link->queues[1] = -1;
    for (int i = 0; i < 2; i++) {
        link->queues[i] = msgget(IPC_PRIVATE, 0600);
        if (link->queues[i] < 0) {
            int r = duo_fail_errno("msgget");

            close_link(link);
            return r;
        }
    }
    *ret_link = link;
    return 0;
}

static int attach(struct link *link, enum duo_side side)
{
    link->out = link->queues[side];
    link->in = link->queues[side == DUO_NEAR ? DUO_FAR : DUO_NEAR];
    link->sent.type = TYPE;
    return 0;
}

/* The kernel wants the type in front of the payload in one piece (msgop(2)), so a copy is part of it. */
static int send_one(struct link *link, const void *data, size_t length)
{
    int r;

    memcpy(link->sent.data, data, length);
    do
        r = msgsnd(link->out, &link->sent, length, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? duo_fail_errno("msgsnd") : 0;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ssize_t n;

    (void)buffer;
    (void)capacity;
    do
        n = msgrcv(link->in, &link->received, sizeof link->received.data, TYPE, 0);
    while (n < 0 && errno == EINTR);
    *ret_data = link->received.data;
    return n < 0 ? duo_fail_errno("msgrcv") : n;
}

static void let_go(struct link *link)
{
    (void)link; /* identifiers are not descriptors: nothing is held */
}

const struct carrier floor_sysvmq = {.mechanism = "sysvmq",
                                     .max_message = MSGMAX_DEFAULT,
                                     .open = open_link,
                                     .let_go = let_go,
                                     .attach = attach,
                                     .close = close_link,
                                     .send = send_one,
                                     .recv = recv_one};
