/* SPDX-License-Identifier: MIT */
/* naru with its defaults, and a stream socket: both wait in their send call where there is no room. */
#include "bench/life-ends.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/duo.h"
#include "bench/life.h"
#include "naru/naru.h"

static const char message[LIFE_MESSAGE] = "a message";

/* --- naru --- */

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

static void prepare_naru(struct life_end *end, const char *directory)
{
    (void)snprintf(end->name, sizeof end->name, "shm://%s/life", directory);
}

static int listen_naru(struct life_end *end)
{
    int r = naru_listen(end->name, NULL, &end->listener);

    return r < 0 ? failed(r) : 0;
}

static int accept_naru(struct life_end *end)
{
    int r = naru_accept(end->listener, NARU_FOREVER, &end->channel);

    return r < 0 ? failed(r) : 0;
}

static int connect_naru(struct life_end *end)
{
    char url[sizeof end->name + 32];
    int r;

    (void)snprintf(url, sizeof url, "%s%s", end->name, end->options);
    r = naru_connect(url, NULL, NARU_FOREVER, &end->channel);
    return r < 0 ? failed(r) : 0;
}

static int send_naru(struct life_end *end, bool wait)
{
    int r = naru_send(end->channel, message, sizeof message, wait ? NARU_FOREVER : 0);

    if (r == -EAGAIN || r == -ETIMEDOUT)
        return LIFE_FULL;
    if (r == -EPIPE || r == -ECONNRESET || r == -EOWNERDEAD)
        return LIFE_GONE;
    return r < 0 ? failed(r) : LIFE_SENT;
}

static int recv_naru(struct life_end *end)
{
    char buffer[LIFE_MESSAGE];
    ssize_t n = naru_recv(end->channel, buffer, sizeof buffer, NARU_FOREVER);

    if (n < 0)
        return failed((int)n);
    return n == LIFE_MESSAGE && memcmp(buffer, message, sizeof message) == 0
               ? 0
               : duo_fail(-EPROTO, "another message arrived");
}

static void remove_naru(const struct life_end *end)
{
    if (naru_remove(end->name) < 0)
        return; /* it is gone already: only a killed listener leaves it */
}

/* --- bare --- */

static void prepare_bare(struct life_end *end, const char *directory)
{
    (void)directory;
    (void)snprintf(end->name, sizeof end->name, "naru-bench-life-%d", (int)getpid());
}

/* An abstract one, unix(7): nothing is left of it. */
static socklen_t address_of(const struct life_end *end, struct sockaddr_un *ret_address)
{
    size_t length = strnlen(end->name, sizeof ret_address->sun_path - 1);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_address->sun_path + 1, end->name, length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

static int listen_bare(struct life_end *end)
{
    struct sockaddr_un address;
    socklen_t length = address_of(end, &address);

    end->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return end->listening < 0 || bind(end->listening, (struct sockaddr *)&address, length) < 0 ||
                   listen(end->listening, SOMAXCONN) < 0
               ? duo_fail_errno("a unix socket")
               : 0;
}

static int accept_bare(struct life_end *end)
{
    end->fd = accept4(end->listening, NULL, NULL, SOCK_CLOEXEC);
    return end->fd < 0 ? duo_fail_errno("accept") : 0;
}

static int connect_bare(struct life_end *end)
{
    struct sockaddr_un address;
    socklen_t length = address_of(end, &address);

    end->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return end->fd < 0 || connect(end->fd, (struct sockaddr *)&address, length) < 0
               ? duo_fail_errno("connect")
               : 0;
}

/* The kernel queues a message of this size whole or not at all. */
static int send_bare(struct life_end *end, bool wait)
{
    ssize_t n = send(end->fd, message, sizeof message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));

    if (n == LIFE_MESSAGE)
        return LIFE_SENT;
    if (n >= 0)
        return duo_fail(-EPROTO, "send: a part of a message");
    if (errno == EAGAIN)
        return LIFE_FULL;
    return errno == EPIPE || errno == ECONNRESET ? LIFE_GONE : duo_fail_errno("send");
}

static int recv_bare(struct life_end *end)
{
    char buffer[LIFE_MESSAGE];
    ssize_t n = recv(end->fd, buffer, sizeof buffer, MSG_WAITALL);

    if (n < 0)
        return duo_fail_errno("recv");
    return n == LIFE_MESSAGE && memcmp(buffer, message, sizeof message) == 0
               ? 0
               : duo_fail(-EPROTO, "another message arrived");
}

static void remove_bare(const struct life_end *end)
{
    (void)end;
}

const struct life_way life_ways[LIFE_WAYS] = {
    [LIFE_NARU] = {"naru", prepare_naru, listen_naru, accept_naru, connect_naru, send_naru, recv_naru,
                   remove_naru},
    [LIFE_BARE] = {"unix", prepare_bare, listen_bare, accept_bare, connect_bare, send_bare, recv_bare,
                   remove_bare},
};
