/* SPDX-License-Identifier: MIT */
/* mq_notify(3) serves one process, once, and only when a message comes to an empty queue that nobody waits
 * at. */
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>

#include "claim.h"

/* How many notifications are pending now. */
static int taken(const sigset_t *set)
{
    int count = 0;

    while (sigtimedwait(set, NULL, &(struct timespec){0}) > 0)
        count++;
    return count;
}

int main(void)
{
    struct mq_attr attributes = {.mq_maxmsg = 8, .mq_msgsize = 1};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    mqd_t queue = MUST(mq_open("/naru-claim", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes));
    sigset_t set;
    bool one_only;
    int first, second, late;

    MUST(mq_unlink("/naru-claim"));
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    MUST(mq_notify(queue, &event));
    one_only = FAILS(mq_notify(queue, &event), EBUSY);
    MUST(mq_send(queue, "1", 1, 0));
    first = taken(&set);
    MUST(mq_notify(queue, &event)); /* the queue is not empty any more */
    MUST(mq_send(queue, "2", 1, 0));
    second = taken(&set);
    MUST(mq_notify(queue, NULL));
    MUST(mq_send(queue, "3", 1, 0));
    late = taken(&set);
    return seen(
        one_only && first == 1 && second == 0 && late == 0,
        "a second registration: EBUSY; told of the message that came to the empty queue (%d), not of the "
        "next (%d)",
        first, second);
}
