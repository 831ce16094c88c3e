/* SPDX-License-Identifier: MIT */
/* UDP keeps boundaries, but a datagram for which the receiver has no room is dropped, even on one machine,
 * and its send(2) succeeded (udp(7)). */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int in = MUST(socket(AF_INET, SOCK_DGRAM, 0)), out = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    int sent = 0, received = 0, whole = 0, small = 4096;
    char data[1000] = "", room[2000];
    socklen_t length = sizeof address;
    ssize_t n;

    MUST(setsockopt(in, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    MUST(bind(in, (struct sockaddr *)&address, sizeof address));
    MUST(getsockname(in, (struct sockaddr *)&address, &length));
    MUST(connect(out, (struct sockaddr *)&address, sizeof address));
    while (sent < 100) /* nobody receives meanwhile */
        sent += send(out, data, sizeof data, 0) == sizeof data;
    while ((n = recv(in, room, sizeof room, MSG_DONTWAIT)) > 0) {
        received++;
        whole += n == sizeof data;
    }
    return seen(received > 0 && received < sent && whole == received,
                "%d sends of 1000 bytes succeeded, %d arrived, each of them whole", sent, received);
}
