/* SPDX-License-Identifier: MIT */
/* Questions and answers, with a poll(2) loop of the program's own. Run `ask shm://ask` in one terminal, and
 * in others `ask shm://ask hello`, which prints "you said hello". unix: and tcp: do as well. */
#include <naru/naru.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { MANY = 64 };

/* Until there is nothing more, as poll(2) wants it. -EAGAIN: it may ask again. */
static ssize_t answer(struct naru_channel *client)
{
    char text[1100] = "you said ";
    ssize_t n;

    while ((n = naru_recv(client, text + 9, sizeof text - 9, NARU_NOWAIT)) >= 0)
        if ((n = naru_send(client, text, (size_t)n + 9, NARU_S(1))) < 0) /* it has a second to read answers */
            break;
    return n;
}

static int serve(struct naru_listener *listener)
{
    struct naru_channel *clients[MANY + 1]; /* as in fds, whose first is the listener */
    struct pollfd fds[MANY + 1] = {{naru_listener_fd(listener), NARU_IN, 0}};

    for (nfds_t count = 1; fds[0].fd >= 0 && (poll(fds, count, -1) > 0 || errno == EINTR);) {
        for (nfds_t i = count; --i > 0;)
            if (fds[i].revents && answer(clients[i]) != -EAGAIN) {
                printf("a client has gone: %s\n", naru_explain());
                naru_channel_close(clients[i]);
                clients[i] = clients[--count];
                fds[i] = fds[count];
            }
        if (fds[0].revents && count <= MANY && naru_accept(listener, NARU_NOWAIT, &clients[count]) == 0)
            fds[count] = (struct pollfd){naru_channel_fd(clients[count]), NARU_IN, 0}, count++;
        fds[0].events = count <= MANY ? NARU_IN : 0; /* or what waits there would keep poll(2) awake */
    }
    return fprintf(stderr, "ask: %s\n", fds[0].fd < 0 ? naru_explain() : strerror(errno)), 1;
}

int main(int argc, char **argv)
{
    struct naru_listener *listener;
    struct naru_channel *server;
    char text[1100];
    ssize_t n = argc == 2 ? naru_listen(argv[1], NULL, &listener) : 0;

    if (argc == 2 && n == 0)
        return serve(listener);
    if (argc == 3 && (n = naru_connect(argv[1], NULL, NARU_S(10), &server)) == 0)
        if ((n = naru_send(server, argv[2], strlen(argv[2]), NARU_S(1))) == 0)
            if ((n = naru_recv(server, text, sizeof text, NARU_S(10))) >= 0)
                return printf("%.*s\n", (int)n, text), naru_channel_close(server), 0;
    return fprintf(stderr, "ask: %s\n", n < 0 ? naru_explain() : "expected URL [QUESTION]"), n < 0 ? 1 : 2;
}
