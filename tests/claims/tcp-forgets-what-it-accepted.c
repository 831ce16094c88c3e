/* SPDX-License-Identifier: MIT */
/* That send(2) succeeded does not mean that TCP will deliver: if the sender is killed while it has input it
 * did not read, the kernel sends a reset and throws away what was still to go (RFC 1122, 4.2.2.13). A unix
 * socket delivers all of it. */
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

/* Child: leaves its input unread, sends until there is no room, is killed. How much of that arrived. */
static long long lost(int here, int there)
{
    static char data[65536];
    long long *sent =
        MUST(mmap(NULL, sizeof *sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    long long received = 0;

    MUST(send(here, "unread", 6, 0));
    if (MUST(fork()) == 0) {
        char peeked;

        MUST(recv(there, &peeked, 1, MSG_PEEK)); /* it is here, and is left here */
        for (ssize_t n; (n = send(there, data, sizeof data, MSG_DONTWAIT)) > 0;)
            *sent += n;
        raise(SIGKILL);
    }
    MUST(close(there));
    MUST(wait(NULL));
    for (ssize_t n; (n = recv(here, data, sizeof data, 0)) != 0;)
        if (n > 0)
            received += n;
        else if (errno != ECONNRESET)
            break;
    return *sent - received;
}

int main(void)
{
    struct sockaddr_in address;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), out = MUST(socket(AF_INET, SOCK_STREAM, 0)),
        pair[2];
    socklen_t length = sizeof address;
    long long tcp, local;

    MUST(listen(listener, 1));
    MUST(getsockname(listener, (struct sockaddr *)&address, &length));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(connect(out, (struct sockaddr *)&address, sizeof address));
    tcp = lost(out, MUST(accept(listener, NULL, NULL)));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    local = lost(pair[0], pair[1]);
    return seen(tcp > 0 && local == 0,
                "of what a killed sender had been told is sent, TCP lost %lld bytes, a unix "
                "socket %lld",
                tcp, local);
}
