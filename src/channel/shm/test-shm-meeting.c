/* SPDX-License-Identifier: MIT */
/*
 * naru_connect(NARU_NOWAIT) to shm:, which leaves a channel that is not connected yet: who never waits is
 * connected all the same, by whatever call comes when the listener has answered.
 */
#include <signal.h>

#include "channel/shm/test-shm-meeting.h"

/* --- without waiting --- */

static const char *const queries[] = {"", "?ring=4k&pool=0", "?lanes=8", "?wait=spin",
                                      "?prefault=yes&pool=64k"};

static const char *each_query(size_t index)
{
    return index < sizeof queries / sizeof *queries ? (*queries[index] ? queries[index] : "plain") : NULL;
}

TEST_EACH(one_thread_that_never_waits_has_both_ends, each_query)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(queries[index]), *near;
    char byte;

    CHECK(!is_ready(far));
    CHECK_INT(naru_recv(far, &byte, 1, NARU_NOWAIT), -EAGAIN);
    CHECK(!is_ready(far));
    CHECK(test_is_readable(naru_listener_fd(l)));
    near = accept_now(l);
    CHECK(is_ready(far));
    CHECK_INT(naru_send(near, "first", 6, NARU_NOWAIT), 0); /* it is no less connected for that */
    CHECK_INT(naru_recv(far, &byte, 1, NARU_NOWAIT), -EMSGSIZE);
    CHECK(far->meeting == NULL);
    CHECK_INT(naru_recv(far, &(char[6]){0}, 6, NARU_NOWAIT), 6);
    CHECK(!is_ready(far));
    check_connected(far, near);
    CHECK_INT(naru_send(near, "shown", 6, NARU_NOWAIT), 0);
    CHECK(is_ready(far));
    close_both(far, near);
    naru_listener_close(l);
}

TEST(a_keeper_answers_while_its_own_program_connects)
{
    struct naru_listener *l = listen_there("");
    struct naru_channel *far = NULL;

    for (int i = 0; i < 200; i++) {
        CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &far), 0);
        if (far->meeting)
            WAIT_UNTIL(is_ready(far));
        CHECK_INT(naru_send(far, "there", 6, NARU_NOWAIT), 0);
        close_both(far, accept_now(l));
    }
    naru_listener_close(l);
}

TEST(many_meet_one_listener_at_once)
{
    enum { MANY = 40 };
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far[MANY], *near;
    int number, seen = 0;

    for (int i = 0; i < MANY; i++) {
        far[i] = begin("?ring=4k");
        CHECK_INT(naru_send(far[i], &i, sizeof i, NARU_NOWAIT), -EAGAIN);
        CHECK(!is_ready(far[i]));
    }
    while (seen < MANY && naru_accept(l, NARU_NOWAIT, &near) == 0) {
        for (int i = 0; i < MANY; i++)
            if (far[i]->meeting && is_ready(far[i]))
                CHECK_INT(naru_send(far[i], &i, sizeof i, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(near, &number, sizeof number, NARU_NOWAIT), sizeof number);
        CHECK_INT(number, seen++); /* in the order in which they came */
        naru_channel_close(near);
    }
    CHECK_INT(seen, MANY);
    for (int i = 0; i < MANY; i++)
        naru_channel_close(far[i]);
    naru_listener_close(l);
}

/* --- whichever call comes --- */

TEST_EACH(whichever_call_comes_says_not_yet_and_then_connects, each_call)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_listener *l = listen_there("?service=manual");
    bool sends = calls[index].kind == SENDS;
    struct naru_channel *far, *near;

    for (int polled = 0; polled < 2; polled++) {
        far = begin("");
        if (polled)
            CHECK(!is_ready(far));
        CHECK_INT(calls[index].call(far), -EAGAIN);
        CHECK_INT(calls[index].call(far), -EAGAIN);
        CHECK_INT(naru_channel_info(far, &info), 0);
        CHECK_INT(info.messages_sent + info.messages_received, 0);
        CHECK_INT(info.peer.pid, -1);
        CHECK(!polled || !is_ready(far));
        near = accept_now(l);
        CHECK(!polled || is_ready(far));
        CHECK(calls[index].kind == RECEIVES ? calls[index].call(far) == -EAGAIN
                                            : calls[index].call(far) == (calls[index].call == try_batch));
        CHECK(far->meeting == NULL);
        CHECK_INT(naru_channel_info(far, &info), 0);
        CHECK_INT(info.messages_sent, sends);
        CHECK_INT(info.peer.pid, getpid());
        CHECK(!polled || !is_ready(far));
        CHECK_INT(naru_recv(near, &(char[8]){0}, 8, NARU_NOWAIT), sends ? calls[index].call != try_empty
                                                                  : calls[index].call == try_finish
                                                                      ? -EPIPE
                                                                      : -EAGAIN);
        close_both(far, near);
    }
    naru_listener_close(l);
}

TEST(one_that_was_refused_is_woken_to_send_though_a_receive_found_the_answer)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(""), *near;

    CHECK_INT(try_send(far), -EAGAIN);
    CHECK(!is_ready(far));
    near = accept_now(l);
    CHECK(is_ready(far));
    CHECK_INT(try_recv(far), -EAGAIN);
    CHECK(is_ready(far)); /* for what was refused */
    CHECK_INT(try_send(far), 0);
    CHECK(!is_ready(far));
    close_both(far, near);
    naru_listener_close(l);
}

TEST(a_gather_takes_it_once_it_is_connected)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(""), *near;
    struct naru_gather *g;
    char word[8];

    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_add(g, far, NULL), -EAGAIN);
    CHECK_INT(naru_gather_peers(g), 0);
    near = accept_now(l);
    CHECK_INT(naru_gather_add(g, far, NULL), 0);
    CHECK_INT(naru_send(near, "there", 6, NARU_NOWAIT), 0);
    CHECK_INT(naru_gather_recv(g, word, sizeof word, NARU_NOWAIT, NULL), 6);
    naru_gather_close(g);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- who waits after all --- */

TEST(a_call_that_may_wait_waits_for_the_answer)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(""), *near;
    char word[8];
    int pid;

    CHECK_INT(naru_send(far, "x", 1, NARU_MS(10)), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "does not answer");
    CHECK_CONTAINS(naru_explain(), url());
    CHECK_INT(naru_recv(far, word, 1, NARU_US(1)), -ETIMEDOUT);
    CHECK_INT(naru_flush(far, NARU_SENT, NARU_MS(1)), -ETIMEDOUT);
    naru_channel_close(far);
    naru_listener_close(l);
    pid = test_fork();
    if (pid == 0) {
        l = listen_there("?service=manual");
        test_wait_asleep(getppid());
        for (int i = 0; i < 3; i++) {
            CHECK_INT(naru_accept(l, patience, &near), 0);
            CHECK_INT(naru_recv(near, word, sizeof word, patience), 6);
            CHECK_INT(naru_send(near, word, 6, patience), 0);
            CHECK_INT(naru_recv(near, word, sizeof word, patience), -EPIPE);
            naru_channel_close(near);
        }
        naru_listener_close(l);
        test_child_end();
    }
    WAIT_UNTIL(naru_connect(url(), NULL, NARU_NOWAIT, &far) == 0);
    CHECK_INT(naru_send(far, "there", 6, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(far, word, sizeof word, NARU_FOREVER), 6);
    naru_channel_close(far);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &far), 0);
    CHECK_INT(naru_recv(far, word, sizeof word, NARU_MS(1)), -ETIMEDOUT); /* perhaps once it is connected */
    CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_FOREVER), 0);
    CHECK_INT(naru_send(far, "there", 6, patience), 0);
    CHECK_INT(naru_recv(far, word, sizeof word, patience), 6);
    naru_channel_close(far);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &far), 0);
    CHECK_INT(naru_send(far, "there", 6, patience), 0);
    CHECK_INT(naru_recv(far, word, sizeof word, patience), 6);
    naru_channel_close(far);
    test_join(pid);
}

static struct naru_channel *interrupted;

static void on_alarm(int number)
{
    (void)number;
    (void)naru_interrupt(interrupted);
}

TEST(an_interruption_ends_the_wait_for_the_answer)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;

    options.interruptible = 1;
    interrupted = far = begin_with("", &options);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    ualarm(10 * 1000, 0);
    CHECK_INT(naru_send(far, "x", 1, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_recv(far, NULL, 0, NARU_FOREVER), -ECANCELED); /* the other direction's */
    near = accept_now(l);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}
