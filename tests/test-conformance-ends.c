/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: how channels end: the other side closes, or is killed; and its endpoint is
 * reclaimed. */
#include "mechanism.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a receiver is told once all is received and the sender has gone. */
static void expect_end(const struct link *link, struct naru_channel *ch, bool killed)
{
    uint8_t buffer[MESSAGE_MAX];

    if (!link_can(link, NARU_CAN_SEE_CLOSE)) {
        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        return;
    }
    for (int again = 0; again < 2; again++) {
        long long r = naru_recv(ch, buffer, sizeof buffer, NARU_S(WAIT_LONG_S));

        if (killed && link_knows_death(link))
            CHECK_INT(r, -EOWNERDEAD);
        else if (r != -ECONNRESET || !(link->variant->traits & LOSSY))
            CHECK_INT(r, -EPIPE);
        CHECK(strlen(naru_explain()) > 10);
    }
}

TEST_EACH(what_was_sent_before_closing_arrives_and_then_the_end, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    for (uint64_t i = 0; i < 5; i++)
        PUT(&link, far, i);
    naru_channel_close(far);
    for (uint64_t i = 0; i < 5; i++)
        TAKE(&link, near, i);
    expect_end(&link, near, false);
    naru_channel_close(near);
    link_close(&link);
}

/* A socket that is closed with unread input tells its peer so before the messages it had sent. They arrive
 * all the same, except over TCP, which throws them away. */
TEST_EACH(what_was_sent_before_closing_with_unread_input_arrives, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_DUPLEX | NARU_CAN_SURVIVE_SENDER)) {
        PUT(&link, far, 100);
        TAKE(&link, near, 100);
        for (uint64_t i = 0; i < 5; i++) {
            PUT(&link, near, i); /* never read */
            PUT(&link, far, i);
        }
        naru_channel_close(far);
        for (uint64_t i = 0; i < 5; i++)
            TAKE(&link, near, i);
        expect_end(&link, near, false);
    } else {
        naru_channel_close(far);
    }
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_sleeping_receiver_learns_that_the_sender_closed, each_variant)
{
    struct naru_channel *ch;
    struct test_gate accepted; /* or it would sleep in there, and the writer of a FIFO be gone unseen */
    struct link link;
    char buffer[64];
    int pid;

    link_open(&link, index, NULL);
    if (!link_can(&link, NARU_CAN_SEE_CLOSE)) {
        link_close(&link);
        return;
    }
    test_gate_init(&accepted);
    pid = test_fork();
    if (pid == 0) {
        int parent = getppid();

        ch = link_far(&link);
        test_gate_wait(&accepted);
        test_wait_asleep(parent);
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    test_gate_open(&accepted);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

/* Sends until told that the receiver is gone; a socket may take some more at first. */
static long long send_until_refused(const struct link *link, struct naru_channel *ch)
{
    uint8_t buffer[MESSAGE_MAX];
    int64_t start = now_ns();
    int r;

    message_make(link, 0, buffer, message_size(link, 0));
    do {
        r = naru_send(ch, buffer, message_size(link, 0), NARU_S(WAIT_LONG_S));
        CHECK(now_ns() - start < NARU_S(WAIT_LONG_S));
    } while (r == 0);
    return r;
}

TEST_EACH(a_sender_learns_that_the_receiver_closed, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    PUT(&link, far, 0);
    TAKE(&link, near, 0);
    naru_channel_close(near);
    link.listener = naru_listener_close(link.listener); /* it too could have received */
    if (link_can(&link, NARU_CAN_SEE_RECEIVER) && !(link.variant->traits & PROCESS))
        for (int again = 0; again < 2; again++) { /* and SIGPIPE has not killed us */
            CHECK(says_gone(&link, send_until_refused(&link, far)));
            CHECK(strlen(naru_explain()) > 10);
        }
    else if (link_can(&link, NARU_CAN_PERSIST))
        PUT(&link, far, 1);
    naru_channel_close(far);
    link_close(&link);
}

/* --- killed --- */

TEST_EACH(what_a_killed_sender_sent_arrives_and_then_the_end, each_variant)
{
    enum { SENT = 7 };
    struct naru_channel *ch;
    struct test_gate sent;
    struct link link;
    int pid;

    link_open(&link, index, NULL);
    test_gate_init(&sent);
    pid = test_fork();
    if (pid == 0) {
        ch = link_far(&link);
        for (uint64_t i = 0; i < SENT; i++)
            PUT(&link, ch, i);
        test_gate_open(&sent);
        for (;;)
            pause();
    }
    ch = link_near(&link);
    test_gate_wait(&sent);
    kill_unreaped(pid);
    for (uint64_t i = 0; i < SENT; i++) /* few and all taken in: these arrive even where no promise is made */
        TAKE(&link, ch, i);
    expect_end(&link, ch, true);
    test_kill(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(a_sleeping_receiver_learns_that_the_sender_was_killed, each_variant)
{
    struct naru_channel *ch;
    struct test_gate connected, accepted;
    struct link link;
    char buffer[64];
    int sender, killer;

    link_open(&link, index, NULL);
    if (!link_can(&link, NARU_CAN_SEE_CLOSE)) {
        link_close(&link);
        return;
    }
    test_gate_init(&connected);
    test_gate_init(&accepted);
    sender = test_fork();
    if (sender == 0) {
        ch = link_far(&link);
        test_gate_open(&connected);
        for (;;)
            pause();
    }
    killer = test_fork();
    if (killer == 0) {
        link_leave(&link);
        test_gate_wait(&connected);
        test_gate_wait(&accepted);
        test_wait_asleep(getppid());
        kill(sender, SIGKILL);
        test_child_end();
    }
    ch = link_near(&link);
    test_gate_open(&accepted);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_S(WAIT_LONG_S)),
              link_knows_death(&link) ? -EOWNERDEAD : -EPIPE);
    test_kill(sender);
    test_join(killer);
    naru_channel_close(ch);
    link_close(&link);
}

/* Connects and does nothing but live. */
static int fork_receiver(struct link *link, struct test_gate *ready)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch = link_near(link);

        TAKE(link, ch, 0);
        test_gate_open(ready);
        for (;;)
            pause();
    }
    return pid;
}

/* The receiver listens itself, so that nobody else keeps its endpoint alive. Its URL comes over a pipe. */
static int fork_listener(struct link *link, size_t index, struct test_gate *ready)
{
    int fds[2], pid;
    char url[512] = "";

    CHECK(pipe(fds) == 0);
    pid = test_fork();
    if (pid == 0) {
        link_open(link, index, NULL);
        CHECK(write(fds[1], link->url, strlen(link->url)) > 0);
        close(fds[0]);
        close(fds[1]);
        struct naru_channel *ch = link_near(link);

        TAKE(link, ch, 0);
        test_gate_open(ready);
        for (;;)
            pause();
    }
    close(fds[1]);
    CHECK(read(fds[0], url, sizeof url - 1) > 0);
    close(fds[0]);
    *link = (struct link){.variant = variant_at(index), .url = test_format("%s", url), .given = {-1, -1}};
    link->options.size = sizeof link->options;
    link->row = naru_mechanism_find(link->variant->row);
    return pid;
}

TEST_EACH(a_sender_learns_that_the_receiver_was_killed, each_variant)
{
    struct naru_channel *ch;
    struct test_gate ready;
    struct link link;
    int pid;

    test_gate_init(&ready);
    if (variant_at(index)->traits & PAIRED) {
        link_open(&link, index, NULL);
        pid = fork_receiver(&link, &ready);
    } else {
        pid = fork_listener(&link, index, &ready);
    }
    ch = link_far(&link);
    PUT(&link, ch, 0);
    test_gate_wait(&ready);
    kill_unreaped(pid);
    if (link_can(&link, NARU_CAN_SEE_RECEIVER)) {
        long long r = send_until_refused(&link, ch);

        if (link_knows_death(&link))
            CHECK_INT(r, -EOWNERDEAD);
        CHECK(says_gone(&link, r));
    } else if (link_can(&link, NARU_CAN_PERSIST)) {
        PUT(&link, ch, 1);
    }
    naru_channel_close(ch);
    test_kill(pid);
    if (link.variant->traits & HAS_NAME)
        CHECK_OK(naru_remove(link.url)); /* what a killed process left is cleaned up like this */
}

TEST_EACH(a_sender_in_back_pressure_is_released_when_the_receiver_is_killed, each_variant)
{
    struct naru_channel *ch;
    struct test_gate ready;
    struct link link;
    int receiver, killer;
    long long told = 0;

    test_gate_init(&ready);
    if (variant_at(index)->traits & PAIRED) {
        link_open(&link, index, NULL);
        receiver = fork_receiver(&link, &ready);
    } else {
        receiver = fork_listener(&link, index, &ready);
    }
    if (!link_can(&link, NARU_CAN_SEE_RECEIVER | NARU_CAN_PUSH_BACK)) {
        test_kill(receiver);
        link_leave(&link);
        if (link.variant->traits & HAS_NAME) {
            int r = naru_remove(link.url);

            CHECK(r == 0 || r == -ENOENT); /* a file is made by who sends */
        }
        return;
    }
    killer = test_fork();
    if (killer == 0) {
        link_leave(&link);
        test_gate_wait(&ready);
        test_gate_wait(&ready);
        test_wait_asleep(getppid());
        kill(receiver, SIGKILL);
        test_child_end();
    }
    ch = link_far(&link);
    PUT(&link, ch, 0);
    (void)fill(&link, ch, 1);
    test_gate_open(&ready);
    while (told == 0) {
        uint8_t buffer[MESSAGE_MAX];

        message_make(&link, 12, buffer, message_size(&link, 12));
        told = naru_send(ch, buffer, message_size(&link, 12), NARU_FOREVER);
    }
    CHECK(says_gone(&link, told));
    if (link_knows_death(&link))
        CHECK_INT(told, -EOWNERDEAD);
    test_join(killer);
    test_kill(receiver);
    naru_channel_close(ch);
    if (link.variant->traits & HAS_NAME)
        CHECK_OK(naru_remove(link.url));
}

TEST_EACH(a_dead_endpoint_is_reclaimed, each_variant)
{
    struct naru_channel *far, *near;
    struct test_gate ready;
    struct link link;
    int pid;

    if (variant_at(index)->traits & PAIRED)
        return; /* it has no endpoint */
    test_gate_init(&ready);
    pid = fork_listener(&link, index, &ready);
    far = link_far(&link);
    PUT(&link, far, 0);
    test_gate_wait(&ready);
    naru_channel_close(far);
    test_kill(pid);
    if (!(link.variant->traits & PROCESS)) /* there, the endpoint is the process */
        CHECK_OK(naru_listen(link.url, &link.options, &link.listener));
    else
        link_open(&link, index, NULL);
    link.opened = true;
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_BROADCAST)) /* whoever comes later gets it too */
        TAKE(&link, near, 0);
    PUT(&link, far, 9);
    TAKE(&link, near, 9);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}
