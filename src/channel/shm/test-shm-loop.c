/* SPDX-License-Identifier: MIT */
/*
 * shm: in event loops, where a wake-up that is lost is lost for good: the descriptor shows room, or a
 * message, whatever was asked in between, and whoever was refused before the loop began. spec/wakeup.pml
 * checks the same for every interleaving.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

enum { SMALL = 100, LARGE = 1500, RING_MESSAGES = 64, ROUNDS = 200000, PATIENCE_MS = 60000 };

static const char zeros[LARGE];

static void open_pair(struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair("shm:?ring=4096", NULL, ch), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

static void fill(struct naru_channel *ch)
{
    int sent = 0, r;

    while ((r = naru_send(ch, zeros, SMALL, NARU_NOWAIT)) == 0)
        CHECK(++sent < RING_MESSAGES);
    CHECK_INT(r, -EAGAIN);
}

static void empty(struct naru_channel *ch)
{
    char buffer[LARGE];
    ssize_t r;

    while ((r = naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT)) >= 0)
        ;
    CHECK_INT(r, -EAGAIN);
}

TEST(room_is_shown_to_one_that_was_woken_for_too_little_before)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    int fd;

    open_pair(ch);
    fd = naru_channel_fd(ch[0]);
    fill(ch[0]);
    CHECK_INT(naru_send(ch[0], zeros, LARGE, NARU_NOWAIT), -EAGAIN);
    CHECK(!test_is_readable(fd));
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), SMALL);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_send(ch[0], zeros, LARGE, NARU_NOWAIT), -EAGAIN);
    CHECK(!test_is_readable(fd));
    empty(ch[1]);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_send(ch[0], zeros, LARGE, NARU_NOWAIT), 0);
    CHECK(!test_is_readable(fd));
    close_pair(ch);
}

TEST(room_is_shown_to_one_that_was_refused_before_it_asked_for_a_descriptor)
{
    struct naru_channel *ch[2];
    int fd;

    open_pair(ch);
    fill(ch[0]);
    fd = naru_channel_fd(ch[0]);
    CHECK(!test_is_readable(fd));
    empty(ch[1]);
    CHECK(test_is_readable(fd));
    close_pair(ch);
}

TEST(room_is_shown_that_was_made_before_the_descriptor_was_asked_for)
{
    struct naru_channel *ch[2];
    int fd;

    open_pair(ch);
    fill(ch[0]);
    empty(ch[1]);
    fd = naru_channel_fd(ch[0]);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
    CHECK(!test_is_readable(fd));
    close_pair(ch);
}

TEST(room_is_shown_after_a_send_that_has_waited_in_vain)
{
    struct naru_channel *ch[2];
    int fd;

    open_pair(ch);
    fd = naru_channel_fd(ch[0]);
    fill(ch[0]);
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_MS(1)), -ETIMEDOUT);
    CHECK(!test_is_readable(fd));
    empty(ch[1]);
    CHECK(test_is_readable(fd));
    close_pair(ch);
}

TEST(room_is_shown_after_a_flush_that_saw_it_being_made)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    int fd;

    open_pair(ch);
    fd = naru_channel_fd(ch[0]);
    fill(ch[0]);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), SMALL);
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
    close_pair(ch);
}

static void *count_up(void *data)
{
    struct naru_channel *ch = data;
    struct pollfd room = {.fd = naru_channel_fd(ch), .events = POLLIN};

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t pause = test_random() % 512;

        while (naru_send(ch, &i, sizeof i, NARU_NOWAIT) == -EAGAIN)
            CHECK_INT(poll(&room, 1, PATIENCE_MS), 1);
        while (pause--)
            atomic_signal_fence(memory_order_seq_cst); /* so that the compiler keeps the loop */
    }
    return NULL;
}

/* Each attempt that finds nothing races with the message that comes next. */
TEST(messages_are_shown_that_come_while_one_looks_in_vain)
{
    struct naru_channel *ch[2];
    struct pollfd in;
    pthread_t thread;
    int expected = 0;

    open_pair(ch);
    in = (struct pollfd){.fd = naru_channel_fd(ch[1]), .events = POLLIN};
    CHECK_INT(pthread_create(&thread, NULL, count_up, ch[0]), 0);
    while (expected < ROUNDS) {
        int number;
        ssize_t r = naru_recv(ch[1], &number, sizeof number, NARU_NOWAIT);

        if (r == -EAGAIN) {
            CHECK_INT(poll(&in, 1, PATIENCE_MS), 1);
            continue;
        }
        CHECK_INT(r, sizeof number);
        CHECK_INT(number, expected++);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    close_pair(ch);
}

/* ch's side rings loops by their sockets, as in a sandbox without preadv2(2). */
static void lose_loop_bell(struct naru_channel *ch)
{
    ((struct shm *)ch->state)->link.their_receiver.loop_fd = -1;
}

/* Sends what rings, and receives it. How many bytes lie in the bell then. */
static int ring(struct naru_channel *ch[2], int fd)
{
    char buffer[SMALL];
    int unread;

    CHECK(!test_is_readable(fd));
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), SMALL);
    CHECK(!test_is_readable(fd));
    CHECK_INT(ioctl(ch[1]->rfd, FIONREAD, &unread), 0);
    return unread;
}

/* What rang in an event loop may be heard and not read; but not for ever. */
TEST(what_rings_in_a_loop_is_read_before_it_fills_the_bell)
{
    struct naru_channel *ch[2];
    int fd, most = 0, least = 100;

    open_pair(ch);
    lose_loop_bell(ch[0]);
    fd = naru_channel_fd(ch[1]);
    for (int i = 0; i < 1000; i++) {
        int unread = ring(ch, fd);

        most = unread > most ? unread : most;
        least = unread < least ? unread : least;
    }
    CHECK_INT(least, 0);
    CHECK(most > 0 && most < 64);
    close_pair(ch);
}

/* Whoever waits otherwise meanwhile finds bytes that tell of nothing, and waits on. */
TEST(what_was_left_in_the_bell_keeps_no_other_wait_awake)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    int fd;

    open_pair(ch);
    lose_loop_bell(ch[0]);
    fd = naru_channel_fd(ch[1]);
    CHECK(ring(ch, fd) > 0);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
    (void)ring(ch, fd);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    (void)ring(ch, fd);
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_FOREVER), SMALL);
    (void)ring(ch, fd);
    close_pair(ch);
}

/* A hang-up is shown once to an epoll that shows things once. */
TEST(the_end_stays_to_be_seen_behind_what_was_left_in_the_bell)
{
    for (int rung = 0; rung < 2; rung++) {
        struct naru_channel *ch[2];
        char buffer[SMALL];
        int fd;

        open_pair(ch);
        lose_loop_bell(ch[0]);
        fd = naru_channel_fd(ch[1]);
        CHECK(ring(ch, fd) > 0);
        if (rung)
            CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
        ch[0] = naru_channel_close(ch[0]);
        for (int i = 0; i < 3; i++) {
            CHECK(test_is_readable(fd));
            CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), rung && i == 0 ? SMALL : -EPIPE);
        }
        CHECK(test_is_readable(fd));
        ch[1] = naru_channel_close(ch[1]);
    }
}

static void answer(struct naru_channel *ch)
{
    char buffer[SMALL];

    for (;;) {
        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), SMALL);
        CHECK_INT(naru_send(ch, buffer, SMALL, NARU_FOREVER), 0);
    }
}

/* Likewise a death, of which nothing tells but the bell. lost: it is rung by its socket. */
static void see_a_death(bool lost)
{
    struct naru_channel *ch[2];
    struct pollfd in = {.events = POLLIN};
    char buffer[SMALL];
    int pid, unread;

    open_pair(ch);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        if (lost)
            lose_loop_bell(ch[0]);
        answer(ch[0]);
    }
    ch[0] = naru_channel_close(ch[0]);
    in.fd = naru_channel_fd(ch[1]);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(naru_send(ch[1], zeros, SMALL, NARU_NOWAIT), 0);
        CHECK_INT(poll(&in, 1, PATIENCE_MS), 1);
        CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), SMALL);
        CHECK(!test_is_readable(in.fd));
    }
    CHECK_INT(ioctl(ch[1]->rfd, FIONREAD, &unread), 0);
    CHECK_INT(unread > 0, lost);
    test_kill(pid);
    for (int i = 0; i < 3; i++) {
        CHECK(test_is_readable(in.fd));
        CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), -EPIPE);
    }
    ch[1] = naru_channel_close(ch[1]);
}

TEST(a_death_stays_to_be_seen_behind_what_was_left_in_the_bell)
{
    see_a_death(true);
}

TEST(a_death_is_seen_where_another_bell_rings)
{
    see_a_death(false);
}

/* Nothing is left behind by what rings in a loop, however often. */
TEST(a_loop_is_rung_without_a_byte)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    int fd;

    open_pair(ch);
    fd = naru_channel_fd(ch[1]);
    for (int i = 0; i < 1000; i++) {
        CHECK_INT(ring(ch, fd), 0);
        CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        CHECK(!test_is_readable(fd));
    }
    CHECK(((struct shm *)ch[0]->state)->link.their_receiver.loop_fd == ch[0]->their_loop_bell);
    close_pair(ch);
}

/* A wait of another kind in between is rung by the socket, and a loop by its own bell again. */
TEST(other_waits_have_the_other_bell)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    int fd, unread;

    open_pair(ch);
    fd = naru_channel_fd(ch[1]);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ring(ch, fd), 0);
        CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
        CHECK(!test_is_readable(fd));
    }
    CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_NOWAIT), 0);
    CHECK_INT(ioctl(ch[1]->rfd, FIONREAD, &unread), 0);
    CHECK_INT(unread, 0);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_FOREVER), SMALL);
    close_pair(ch);
}

TEST(a_sandbox_that_refuses_the_call_rings_the_socket)
{
    struct naru_channel *ch[2];
    int pid = test_fork();

    if (pid) {
        test_join(pid);
        return;
    }
    open_pair(ch);
    test_refuse_call(SYS_preadv2, EPERM);
    CHECK(ring(ch, naru_channel_fd(ch[1])) > 0);
    CHECK(ring(ch, naru_channel_fd(ch[1])) > 0);
    CHECK_INT(((struct shm *)ch[0]->state)->link.their_receiver.loop_fd, -1);
    close_pair(ch);
    test_child_end();
}

/* What either side may do to what both hold. Nobody waits for it, and nobody sleeps through it. */
static const char *const ways[] = {"empty", "full"};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index] : NULL;
}

TEST_EACH(what_becomes_of_a_bell_holds_up_nobody, each_way)
{
    struct naru_channel *ch[2];
    int fd, empty_bell = eventfd(0, EFD_CLOEXEC);

    open_pair(ch);
    CHECK_INT(fcntl(ch[1]->loop_bell, F_SETFL, 0), 0); /* O_NONBLOCK is not of a descriptor alone */
    if (index == 0)
        CHECK(dup3(empty_bell, ch[0]->their_loop_bell, O_CLOEXEC) >= 0);
    else
        CHECK_INT(eventfd_write(ch[1]->loop_bell, UINT64_MAX - 1 - (UINT64_C(1) << 62)), 0);
    CHECK_INT(close(empty_bell), 0);
    fd = naru_channel_fd(ch[1]);
    CHECK_INT(ring(ch, fd) > 0, index == 0);
    CHECK_INT(ring(ch, fd) > 0, index == 0);
    close_pair(ch);
}

/* Not a matter of loops, but of what a look before a sleep asks for. */
TEST(one_that_waits_for_room_sleeps_though_the_receiver_has_finished_sending)
{
    struct naru_channel *ch[2];
    char buffer[SMALL];
    ssize_t r;
    int pid;

    CHECK_INT(naru_channel_pair("shm:?ring=4096&wait=sleep", NULL, ch), 0);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        fill(ch[0]);
        CHECK_INT(naru_send(ch[0], zeros, SMALL, NARU_FOREVER), 0);
        ch[0] = naru_channel_close(ch[0]);
        test_child_end();
    }
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_channel_finish(ch[1]), 0);
    test_wait_asleep(pid);
    while ((r = naru_recv(ch[1], buffer, sizeof buffer, NARU_FOREVER)) >= 0)
        ;
    CHECK_INT(r, -EPIPE);
    test_join(pid);
    ch[1] = naru_channel_close(ch[1]);
}
