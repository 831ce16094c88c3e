/* SPDX-License-Identifier: MIT */
/* The bare POSIX message queue: two queues, one a direction, whose names are gone before they are used. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/floor.h"

/* What everybody may ask for: /proc/sys/fs/mqueue/msg_max and msgsize_max by default (mq_overview(7)). */
enum { MAXMSG = 10, MSGSIZE = 8192 };

struct link {
    mqd_t queues[2];
    mqd_t in, out;
    char received[MSGSIZE]; /* mq_receive(3) wants room for the queue's largest message */
};

static void let_go(struct link *link)
{
    for (int i = 0; i < 2; i++) {
        if (link->queues[i] != (mqd_t)-1)
            (void)mq_close(link->queues[i]);
        link->queues[i] = (mqd_t)-1;
    }
}

static void close_link(struct link *link)
{
    let_go(link);
    free(link);
}

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct mq_attr attributes = {.mq_maxmsg = MAXMSG, .mq_msgsize = MSGSIZE};
    struct link *link = calloc(1, sizeof *link);
    char name[64];

    (void)carrier;
    (void)load;
    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->queues[0] = link->queues[1] = (mqd_t)-1;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "/naru-floor-%d-%d", (int)getpid(), i);
        link->queues[i] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
        if (link->queues[i] == (mqd_t)-1 || mq_unlink(name) < 0) {
            int r = duo_fail_errno("mq_open");

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
    return 0;
}

static int send_one(struct link *link, const void *data, size_t length)
{
    int r;

    do
        r = mq_send(link->out, data, length, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? duo_fail_errno("mq_send") : 0;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ssize_t n;

    (void)buffer;
    (void)capacity;
    do
        n = mq_receive(link->in, link->received, sizeof link->received, NULL);
    while (n < 0 && errno == EINTR);
    *ret_data = link->received;
    return n < 0 ? duo_fail_errno("mq_receive") : n;
}

const struct carrier floor_posixmq = {.mechanism = "posixmq",
                                      .max_message = MSGSIZE,
                                      .open = open_link,
                                      .let_go = let_go,
                                      .attach = attach,
                                      .close = close_link,
                                      .send = send_one,
                                      .recv = recv_one};
