/* SPDX-License-Identifier: MIT */
/* man/naru-shm-format.7 says enough to write another implementation: tests/shm-peer.py is one, of both parts.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { MESSAGES = 2000, LONGEST = 64 * 1024, FDS = 4 };

/* Sleeps in naru, or in a loop. */
static int await(struct naru_channel *ch, struct naru_message *m, bool loop)
{
    struct pollfd ready = {.fd = loop ? naru_channel_fd(ch) : -1, .events = POLLIN};
    int r;

    if (!loop)
        return naru_recv_message(ch, m, NARU_S(60));
    while ((r = naru_recv_message(ch, m, NARU_NOWAIT)) == -EAGAIN)
        CHECK_INT(poll(&ready, 1, 60000), 1);
    return r;
}

/* Whatever comes goes back, with its descriptors. */
static void echo(struct naru_channel *ch, bool loop)
{
    static char buffer[LONGEST];

    for (int i = 0; i < MESSAGES; i++) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece = {buffer, sizeof buffer};
        int fds[FDS];

        m.iov = &piece;
        m.iov_count = 1;
        m.fds = fds;
        m.fd_capacity = FDS;
        if (await(ch, &m, loop) < 0)
            test_fail(__FILE__, __LINE__, "message %d: %s", i, naru_explain());
        piece.iov_len = m.length;
        CHECK_INT(naru_send_message(ch, &m, NARU_S(60)), 0);
        for (size_t j = 0; j < m.fd_count; j++)
            CHECK_INT(close(fds[j]), 0);
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

static int fork_peer(const char *way, const char *path, size_t index)
{
    int child = test_fork();

    if (child == 0) {
        (void)execlp("python3", "python3", NARU_SOURCE "/tests/shm-peer.py", way, path,
                     test_format("%d", MESSAGES), waits[index].peer, NULL);
        test_fail(__FILE__, __LINE__, "python3 cannot be run");
    }
    return child;
}

/* Of a small ring, so that much of what goes back goes by the pool. */
static const char *url_of(const char *path, size_t index)
{
    return test_format("shm://%s?ring=4k&wait=%s", path, waits[index].wait);
}

static void check_peer(struct naru_channel *ch, int child, size_t index)
{
    char byte;

    echo(ch, waits[index].loop);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_S(60)), -EPIPE); /* closed, and not killed: it said so */
    test_join(child);
    (void)naru_channel_close(ch);
}

TEST_EACH(a_peer_written_from_the_manual_is_understood, each_wait)
{
    const char *path = test_format("%s/peer", test_directory());
    struct naru_listener *l;
    struct naru_channel *ch;
    int child;

    CHECK_INT(naru_listen(url_of(path, index), NULL, &l), 0);
    child = fork_peer("connect", path, index);
    CHECK_INT(naru_accept(l, NARU_S(60), &ch), 0);
    check_peer(ch, child, index);
    (void)naru_listener_close(l);
}

TEST_EACH(a_listener_written_from_the_manual_is_understood, each_wait)
{
    const char *path = test_format("%s/peer", test_directory());
    struct naru_channel *ch;
    int child = fork_peer("listen", path, index);

    CHECK_INT(naru_connect(url_of(path, index), NULL, NARU_S(60), &ch), 0);
    check_peer(ch, child, index);
}
