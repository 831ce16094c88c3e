/* SPDX-License-Identifier: MIT */
/* accept(2) gives a new socket for each connection; the listening one goes on listening and never carries
 * data. All of them have the same port: a connection is told apart by both its addresses. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "claim.h"

static struct sockaddr_in name_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;

    MUST(getsockname(fd, (struct sockaddr *)&address, &length));
    return address;
}

static int call(struct sockaddr_in address)
{
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

int main(void)
{
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), clients[2], served[2], port;
    char byte;
    bool no_data, both_ways;

    MUST(listen(listener, 2));
    port = ntohs(name_of(listener).sin_port);
    for (int i = 0; i < 2; i++) {
        clients[i] = call(name_of(listener));
        served[i] = MUST(accept(listener, NULL, NULL));
    }
    no_data = FAILS(recv(listener, &byte, 1, 0), ENOTCONN);
    MUST(send(clients[1], "?", 1, 0));
    MUST(send(served[1], "!", 1, 0)); /* full duplex: nobody has read yet */
    both_ways =
        recv(served[1], &byte, 1, 0) == 1 && byte == '?' && recv(clients[1], &byte, 1, 0) == 1 && byte == '!';
    return seen(
        served[0] != listener && served[1] != served[0] && no_data && both_ways &&
            ntohs(name_of(served[0]).sin_port) == port && ntohs(name_of(served[1]).sin_port) == port,
        "the listener is descriptor %d and carries no data (ENOTCONN), its connections are %d and %d, all on "
        "one port",
        listener, served[0], served[1]);
}
