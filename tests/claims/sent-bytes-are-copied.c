/* SPDX-License-Identifier: MIT */
/* Message passing copies: into the kernel when sent, out of it when received. What the sender does to its
 * buffer afterwards changes nothing (write(2), send(2), mq_send(3)). Shared memory is not copied. */
#include <fcntl.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 1};
    char *memory = MUST(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    char value = '3', got[3];
    int ends[2], sockets[2];
    mqd_t queue = MUST(mq_open("/naru-claim", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes));

    MUST(mq_unlink("/naru-claim"));
    MUST(pipe(ends));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    *memory = value;
    MUST(write(ends[1], &value, 1));
    MUST(send(sockets[0], &value, 1, 0));
    MUST(mq_send(queue, &value, 1, 0));
    value = *memory = '4'; /* too late for what was sent, at once for what is shared */
    MUST(read(ends[0], &got[0], 1));
    MUST(recv(sockets[1], &got[1], 1, 0));
    MUST(mq_receive(queue, &got[2], 1, NULL));
    return seen(memcmp(got, "333", 3) == 0 && *memory == '4',
                "sent 3, then made it 4: pipe %c, socket %c, queue %c; shared memory %c", got[0], got[1],
                got[2], *memory);
}
