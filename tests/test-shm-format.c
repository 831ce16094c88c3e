/* SPDX-License-Identifier: MIT */
/* man/naru-shm-format.7 says enough to write another implementation: tests/shm-peer.py is one. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { MESSAGES = 240 };

enum { PATIENCE_MS = 20000 };

/* loop: as an event loop waits. */
static ssize_t await(struct naru_channel *ch, void *buffer, size_t capacity, bool loop)
{
    struct pollfd in = {.fd = loop ? naru_channel_fd(ch) : -1, .events = POLLIN};
    ssize_t n = naru_recv(ch, buffer, capacity, loop ? NARU_NOWAIT : NARU_S(20));

    while (loop && n == -EAGAIN && poll(&in, 1, PATIENCE_MS) == 1)
        n = naru_recv(ch, buffer, capacity, NARU_NOWAIT);
    return n;
}

static void echo(struct naru_channel *ch, bool loop)
{
    static char buffer[64 * 1024];

    for (int i = 0; i < MESSAGES; i++) {
        ssize_t n = await(ch, buffer, sizeof buffer, loop);

        if (n < 0)
            test_fail(__FILE__, __LINE__, "message %d: %s", i, naru_explain());
        CHECK_INT(naru_send(ch, buffer, (size_t)n, NARU_S(20)), 0);
    }
}

static const struct {
    const char *name, *wait, *peer;
    bool loop;
} waits[] = {{"adaptive", "adaptive", NULL, false},
             {"sleep", "sleep", NULL, false},
             {"spin", "spin", NULL, false},
             {"in a loop", "sleep", NULL, true},
             {"a peer in a loop", "sleep", "loop", false},
             {"both in loops", "sleep", "loop", true}};

static const char *each_wait(size_t i)
{
    return i < sizeof waits / sizeof *waits ? waits[i].name : NULL;
}

TEST_EACH(a_peer_written_from_the_manual_is_understood, each_wait)
{
    const char *path = test_format("%s/peer", test_directory());
    struct naru_listener *l;
    struct naru_channel *ch;
    char byte;
    int child;

    CHECK_INT(naru_listen(test_format("shm://%s?wait=%s", path, waits[index].wait), NULL, &l), 0);
    child = test_fork();
    if (child == 0) {
        (void)execlp("python3", "python3", NARU_SOURCE "/tests/shm-peer.py", path,
                     test_format("%d", MESSAGES), waits[index].peer, NULL);
        test_fail(__FILE__, __LINE__, "python3 cannot be run");
    }
    CHECK_INT(naru_accept(l, NARU_S(20), &ch), 0);
    echo(ch, waits[index].loop);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_S(20)), -EPIPE); /* closed, and not killed: it said so */
    test_join(child);
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
}
