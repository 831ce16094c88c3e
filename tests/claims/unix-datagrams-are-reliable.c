/* SPDX-License-Identifier: MIT */
/* Datagrams on a unix socket keep their boundaries, arrive in order, and a full queue makes the sender wait;
 * "datagram" means unreliable on a network only (unix(7)). What does not fit the reader's buffer is cut off.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    int ends[2], number, sent = 0, received = 0, in_order = 0;
    char text[16];
    ssize_t first, cut, next;

    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
    MUST(send(ends[0], "one", 3, 0));
    MUST(send(ends[0], "three", 5, 0));
    MUST(send(ends[0], "7", 1, 0));
    first = recv(ends[1], text, sizeof text, 0);
    cut = recv(ends[1], text, 2, 0); /* "th": "ree" is lost */
    next = recv(ends[1], text, sizeof text, 0);
    while (send(ends[0], &sent, sizeof sent, MSG_DONTWAIT) > 0)
        sent++;
    while (recv(ends[1], &number, sizeof number, MSG_DONTWAIT) > 0)
        in_order += number == received++;
    return seen(
        first == 3 && cut == 2 && next == 1 && sent > 0 && in_order == sent && received == sent,
        "sends of 3, 5 and 1 bytes came as %zd, %zd (room for 2) and %zd; %d more filled the queue and "
        "all came in order",
        first, cut, next, sent);
}
