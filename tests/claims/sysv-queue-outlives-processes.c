/* SPDX-License-Identifier: MIT */
/* A System V queue and its messages outlive the process that made them; a full one makes senders wait
 * (msgop(2)): IPC_NOWAIT says EAGAIN instead. Only removal, or a reboot, ends it (sysvipc(7)). */
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

struct message {
    long type;
    char text[1024];
};

int main(void)
{
    struct message m = {.type = 1, .text = "from the dead"};
    int queue = MUST(msgget(IPC_PRIVATE, 0600)), count = 0;
    struct msqid_ds limits;
    bool full, kept;

    if (MUST(fork()) == 0)
        _exit(MUST(msgsnd(queue, &m, sizeof m.text, 0)));
    MUST(wait(NULL)); /* the sender is no more */
    memset(m.text, 0, sizeof m.text);
    kept = msgrcv(queue, &m, sizeof m.text, 0, IPC_NOWAIT) > 0 && strcmp(m.text, "from the dead") == 0;

    MUST(msgctl(queue, IPC_STAT, &limits));
    while (msgsnd(queue, &m, sizeof m.text, IPC_NOWAIT) == 0)
        count++;
    full = errno == EAGAIN;
    MUST(msgctl(queue, IPC_RMID, NULL));
    return seen(kept && full,
                "the message of an ended process was there; %d of 1 KiB filled a queue of %lu bytes", count,
                (unsigned long)limits.msg_qbytes);
}
