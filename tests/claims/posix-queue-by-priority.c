/* SPDX-License-Identifier: MIT */
/* A POSIX queue gives the highest priority first and, among equals, the oldest (mq_receive(3)); it holds a
 * fixed number of messages (mq_overview(7)). */
#include <fcntl.h>
#include <mqueue.h>

#include "claim.h"

int main(void)
{
    struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 1};
    char order[5] = "";
    bool full;
    mqd_t queue = MUST(mq_open("/naru-claim", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attributes));

    MUST(mq_unlink("/naru-claim")); /* the name; the queue lives until it is closed */
    MUST(mq_send(queue, "a", 1, 0));
    MUST(mq_send(queue, "b", 1, 5));
    MUST(mq_send(queue, "c", 1, 5));
    MUST(mq_send(queue, "d", 1, 9));
    full = FAILS(mq_send(queue, "e", 1, 31), EAGAIN); /* the most urgent has to wait as well */
    for (int i = 0; i < 4; i++)
        MUST(mq_receive(queue, &order[i], 1, NULL));
    return seen(full && strcmp(order, "dbca") == 0,
                "sent a, b!, c!, d!!; received %s; a fifth found the queue full", order);
}
