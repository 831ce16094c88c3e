/* SPDX-License-Identifier: MIT */
/* TCP carries bytes: what was sent by two calls can come out of one, what was sent by one can come out of
 * many (tcp(7)). */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), out = MUST(socket(AF_INET, SOCK_STREAM, 0)), in;
    socklen_t length = sizeof address;
    char text[13] = "", letters[2];
    ssize_t together, piece = 0;
    int pieces = 0;

    MUST(listen(listener, 1)); /* without bind(2): any free port */
    MUST(getsockname(listener, (struct sockaddr *)&address, &length));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(connect(out, (struct sockaddr *)&address, sizeof address));
    in = MUST(accept(listener, NULL, NULL));
    MUST(send(out, "first", 5, 0));
    MUST(send(out, " second", 7, 0));
    together = recv(in, text, 12, MSG_WAITALL);
    MUST(send(out, "abcdef", 6, 0));
    for (; piece < 6; pieces++)
        piece += MUST(recv(in, letters, sizeof letters, 0));
    return seen(together == 12 && strcmp(text, "first second") == 0 && pieces >= 3,
                "sends of 5 and 7 bytes came as one \"%s\"; one send of 6 bytes came in %d pieces", text,
                pieces);
}
