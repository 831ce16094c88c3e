/* SPDX-License-Identifier: MIT */
/* The rendezvous of shm: against connectors that talk something else, say nothing, leave, or flood. */
#include "base/clock.h"
#include "channel/shm/test-shm.h"

static const char *const services[] = {"?service=manual", "?service=keeper"};

static const char *each_service(size_t index)
{
    return index < sizeof services / sizeof *services ? services[index] : NULL;
}

TEST_EACH(garbage_of_any_length_is_refused, each_service)
{
    struct naru_listener *l = listen_there(services[index]);
    struct naru_channel *ch = NULL;
    uint64_t bytes[64];

    for (int round = 0; round < 200; round++) {
        struct peer peer = {.length = test_random() % sizeof bytes, .ends = {-1, -1}};
        int fd = raw_connect();

        for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
            bytes[i] = test_random();
        if (round % 2)
            memcpy(bytes, &(struct handshake_message){.magic = HANDSHAKE_MAGIC, .kind = HANDSHAKE_HELLO}, 12);
        say(fd, &peer, bytes);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        close(fd);
    }
    check_still_serves(l);
    naru_listener_close(l);
}

/* A program that sends to a unix socket, and does not know what listens there. */
TEST_EACH(a_plain_sender_is_told_that_nobody_received_it, each_service)
{
    struct naru_listener *l = listen_there(services[index]);
    struct naru_channel *ch = NULL, *plain;
    int fd = raw_connect();

    CHECK_INT(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    WAIT_UNTIL(has_hung_up(fd));
    CHECK(send(fd, "hello", 5, MSG_NOSIGNAL) == -1 && errno == ECONNRESET);
    CHECK(send(fd, "hello", 5, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    CHECK_INT(recv(fd, (char[8]){0}, 8, 0), 0);
    close(fd);
    CHECK_INT(naru_connect(test_format("unix://%s?type=seqpacket", socket_path()), NULL, patience, &plain),
              0);
    CHECK_INT(naru_send(plain, "hello", 5, patience), 0);
    if (index == 0)
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_flush(plain, NARU_TAKEN, patience), -EPIPE);
    naru_channel_close(plain);
    check_still_serves(l);
    naru_listener_close(l);
}

enum { FEW = 3, SECOND_NS = 1000 * 1000 * 1000 /* after which they are dropped */ };

/* How many descriptors a listener's process has with each of them who comes, and then with each who goes.
 * false: it took so long that some were dropped. */
static bool count_descriptors(struct naru_listener *l, size_t counts[2 * FEW])
{
    int64_t start = clock_now();
    int silent[FEW];

    for (int i = 0; i < FEW; i++) {
        silent[i] = raw_connect();
        CHECK_INT(naru_listener_dispatch(l), 0);
        counts[i] = open_descriptors();
    }
    for (int i = 0; i < FEW; i++) {
        close(silent[i]);
        CHECK_INT(naru_listener_dispatch(l), 0);
        counts[FEW + i] = open_descriptors();
    }
    return clock_now() - start < SECOND_NS;
}

/* While it makes its own the listener makes its memory, too; one for all who are silent, and not for ever. */
TEST(who_says_nothing_costs_memory_only_while_it_may_still_speak)
{
    struct naru_listener *l = listen_there("?service=manual");
    size_t before = open_descriptors(), counts[2 * FEW];

    WAIT_UNTIL(count_descriptors(l, counts));
    for (size_t i = 0; i < FEW; i++) {
        CHECK_INT(counts[i], before + 2 * (i + 1) + 1); /* two ends of each, and the memory */
        CHECK_INT(counts[FEW + i], before + 2 * (FEW - 1 - i) + (i < FEW - 1));
    }
    check_still_serves(l);
    naru_listener_close(l);
}

TEST(who_leaves_at_any_step_is_forgotten)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    int fd = raw_connect();

    close(fd); /* before it was taken */
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    fd = raw_connect();
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    close(fd); /* while its HELLO was awaited */
    CHECK(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    for (int waited = 0; waited < 2; waited++) {
        struct peer peer = honest_peer(HANDSHAKE_HELLO);

        fd = raw_connect();
        if (waited)
            CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        say(fd, &peer, NULL);
        close(fd); /* before it was answered */
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        peer_end(&peer);
    }
    check_still_serves(l);
    naru_listener_close(l);
}

/* --- time --- */

TEST(the_silent_are_dropped_and_hold_nobody_up)
{
    enum { SILENT = 30 }; /* more than a listener keeps open */
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    int fds[SILENT];
    int64_t start;

    for (int i = 0; i < SILENT; i++)
        fds[i] = raw_connect();
    start = clock_now();
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(!test_is_readable(naru_listener_fd(l)) ||
          clock_now() - start >= SECOND_NS); /* no loop is kept busy */
    CHECK_INT(naru_accept(l, NARU_MS(10), &ch), -ETIMEDOUT);
    check_still_serves(l);
    for (int i = 0; i < SILENT; i++) {
        while (!has_hung_up(fds[i]))
            CHECK(naru_accept(l, NARU_MS(100), &ch) == -ETIMEDOUT);
        close(fds[i]);
    }
    naru_listener_close(l);
}

TEST_EACH(an_accept_with_a_limit_ends_at_it_whoever_floods, each_service)
{
    struct naru_listener *l = listen_there(services[index]);
    struct naru_channel *ch = NULL;
    struct test_gate floods;
    int pid;

    test_gate_init(&floods);
    pid = test_fork();
    if (pid == 0)
        for (int i = 0;; i++) {
            close(raw_connect());
            if (i == 10)
                test_gate_open(&floods);
        }
    test_gate_wait(&floods);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_accept(l, NARU_MS(30), &ch), -ETIMEDOUT);
    test_kill(pid);
    check_still_serves(l);
    naru_listener_close(l);
}

/* --- fork --- */

TEST(a_child_keeps_no_half_open_connection)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    struct test_gate done;
    int fd = raw_connect(), pid;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    test_gate_init(&done);
    pid = test_fork();
    if (pid == 0) {
        close(fd);
        test_gate_wait(&done);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -ECHILD);
        naru_listener_close(l);
        test_child_end();
    }
    naru_listener_close(l);
    WAIT_UNTIL(has_hung_up(fd)); /* though the child lives */
    close(fd);
    test_gate_open(&done);
    test_join(pid);
}
