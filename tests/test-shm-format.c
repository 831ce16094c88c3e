/* SPDX-License-Identifier: MIT */
/* man/naru-shm-format.7 says enough to write another implementation: tests/shm-peer.py is one. */
#include <errno.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { MESSAGES = 240 };

static void echo(struct naru_channel *ch)
{
    static char buffer[64 * 1024];

    for (int i = 0; i < MESSAGES; i++) {
        ssize_t n = naru_recv(ch, buffer, sizeof buffer, NARU_S(20));

        if (n < 0)
            test_fail(__FILE__, __LINE__, "message %d: %s", i, naru_explain());
        CHECK_INT(naru_send(ch, buffer, (size_t)n, NARU_S(20)), 0);
    }
}

static const char *const waits[] = {"adaptive", "sleep", "spin"};

static const char *each_wait(size_t i)
{
    return i < sizeof waits / sizeof *waits ? waits[i] : NULL;
}

TEST_EACH(a_peer_written_from_the_manual_is_understood, each_wait)
{
    const char *path = test_format("%s/peer", test_directory());
    struct naru_listener *l;
    struct naru_channel *ch;
    char byte;
    int child;

    CHECK_INT(naru_listen(test_format("shm://%s?wait=%s", path, waits[index]), NULL, &l), 0);
    child = test_fork();
    if (child == 0) {
        (void)execlp("python3", "python3", NARU_SOURCE "/tests/shm-peer.py", path,
                     test_format("%d", MESSAGES), NULL);
        test_fail(__FILE__, __LINE__, "python3 cannot be run");
    }
    CHECK_INT(naru_accept(l, NARU_S(20), &ch), 0);
    echo(ch);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_S(20)), -EPIPE); /* closed, and not killed: it said so */
    test_join(child);
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
}
