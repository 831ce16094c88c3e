/* SPDX-License-Identifier: MIT */
/*
 * A program as in the textbook, that has never heard of naru: msgget, msgsnd and msgrcv on key 1234.
 *
 *     plain-sysvmq send TYPE TEXT...      plain-sysvmq recv COUNT [TYPE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[200];
};

static int send_all(int queue, long type, char **texts)
{
    struct message m = {.type = type};

    for (; *texts; texts++) {
        snprintf(m.text, sizeof m.text, "%s", *texts);
        if (msgsnd(queue, &m, strlen(m.text), 0) < 0) {
            perror("msgsnd");
            return 1;
        }
    }
    return 0;
}

static int receive(int queue, int count, long type)
{
    struct message m;

    for (; count > 0; count--) {
        ssize_t n = msgrcv(queue, &m, sizeof m.text, type, 0);

        if (n < 0) {
            perror("msgrcv");
            return 1;
        }
        printf("%ld %.*s\n", m.type, (int)n, m.text);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int queue = msgget(1234, IPC_CREAT | 0666);

    if (queue < 0 || argc < 3) {
        perror("msgget");
        return 2;
    }
    if (strcmp(argv[1], "send") == 0)
        return send_all(queue, atol(argv[2]), argv + 3);
    return receive(queue, atoi(argv[2]), argc > 3 ? atol(argv[3]) : 0);
}
