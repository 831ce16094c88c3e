/* SPDX-License-Identifier: MIT */
/*
 * A program as in the textbook, that has never heard of naru: mq_open, mq_send and mq_receive.
 *
 *     plain-posixmq send /NAME PRIORITY TEXT...      plain-posixmq recv /NAME COUNT
 */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int send_all(mqd_t queue, unsigned priority, char **texts)
{
    for (; *texts; texts++)
        if (mq_send(queue, *texts, strlen(*texts), priority) < 0) {
            perror("mq_send");
            return 1;
        }
    return 0;
}

static int receive(mqd_t queue, int count)
{
    char text[8192];
    unsigned priority;

    for (; count > 0; count--) {
        ssize_t n = mq_receive(queue, text, sizeof text, &priority);

        if (n < 0) {
            perror("mq_receive");
            return 1;
        }
        printf("%u %.*s\n", priority, (int)n, text);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    mqd_t queue = argc > 3 ? mq_open(argv[2], O_CREAT | O_RDWR, 0600, &attributes) : -1;

    if (queue < 0) {
        perror("mq_open");
        return 2;
    }
    if (strcmp(argv[1], "send") == 0)
        return send_all(queue, (unsigned)atoi(argv[3]), argv + 4);
    return receive(queue, atoi(argv[3]));
}
