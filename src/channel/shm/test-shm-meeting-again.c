/* SPDX-License-Identifier: MIT */
/* Channels that connect again (?reconnect=) without waiting for the listener's answer. */
#include "channel/shm/test-shm-meeting.h"

static uint64_t reconnects(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info.reconnects;
}

/* Calls from a loop that the descriptor wakes, until it is connected to the listener of this same thread. */
static struct naru_channel *reconnect_in_one_thread(struct naru_listener *l, struct naru_channel *far)
{
    struct naru_channel *near = NULL;

    for (int i = 0; i < 1000; i++) {
        struct naru_wait items[2] = {NARU_INIT(struct naru_wait), NARU_INIT(struct naru_wait)};
        int r;

        items[0].channel = far;
        items[1].listener = l;
        CHECK(naru_wait_any(items, 2, patience) > 0);
        if (items[1].ready && !near) {
            r = naru_accept(l, NARU_NOWAIT, &near);
            CHECK(r == 0 || r == -EAGAIN);
        }
        if (items[0].ready && (r = naru_flush(far, NARU_SENT, NARU_NOWAIT)) == 0)
            return near;
        CHECK(!items[0].ready || r == -EAGAIN);
    }
    test_fail(__FILE__, __LINE__, "it is not connected after 1000 calls");
}

TEST(one_that_connects_again_does_so_without_waiting)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near = accept_now(l);

    check_connected(far, near);
    CHECK_INT(reconnects(far), 0);
    for (int i = 1; i <= 3; i++) {
        CHECK(naru_channel_fd(far) >= 0);
        naru_channel_close(near);
        CHECK_INT(try_recv(far), -EPIPE);
        near = reconnect_in_one_thread(l, far);
        check_connected(far, near);
        CHECK_INT(reconnects(far), i);
    }
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l))); /* it has asked again */
    naru_channel_close(far);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), -EAGAIN);
    naru_listener_close(l);
}

TEST(one_whose_first_listener_never_answered_connects_to_the_next)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near;

    CHECK(!is_ready(far));
    CHECK_INT(try_recv(far), -EAGAIN);
    naru_listener_close(l);
    CHECK(is_ready(far));
    CHECK_INT(try_recv(far), -ECONNRESET);
    CHECK_CONTAINS(naru_explain(), "the next call connects again");
    CHECK_INT(try_recv(far), -EAGAIN);
    l = listen_there("?service=manual");
    near = reconnect_in_one_thread(l, far);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(one_that_asks_again_and_is_hung_up_on_asks_the_next)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near = accept_now(l);

    check_connected(far, near);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l)));
    CHECK(!is_ready(far));
    CHECK_INT(naru_send(far, "x", 1, NARU_MS(5)), -ETIMEDOUT);
    naru_listener_close(l);
    CHECK(is_ready(far));
    CHECK_INT(try_send(far), -EAGAIN); /* nothing was lost that could be told of */
    l = listen_there("?service=manual");
    near = reconnect_in_one_thread(l, far);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(one_that_has_finished_asks_nobody_any_more)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near = accept_now(l);

    check_connected(far, near);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_channel_finish(far), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), -EAGAIN);
    CHECK_INT(try_send(far), -EPIPE);
    CHECK_INT(try_recv(far), -EPIPE);
    naru_channel_close(far);
    naru_listener_close(l);
}

/* Sleeps in an event loop. */
static void wait_for_ready(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = ch;
    CHECK_INT(naru_wait_any(&item, 1, patience), 1);
}

/* Lost, and with its next listener, which has not answered it. */
static struct naru_channel *lose_and_ask(struct naru_listener *l, const struct naru_options *options)
{
    struct naru_channel *far = begin_with("?reconnect=yes", options), *near = accept_now(l);

    check_connected(far, near);
    CHECK(naru_channel_fd(far) >= 0);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l)));
    CHECK(!is_ready(far));
    return far;
}

TEST(an_event_loop_in_a_child_is_told_of_the_answer_that_its_parent_no_longer_waits_for)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;
    struct test_gate closed;
    int pid;

    test_gate_init(&closed);
    options.keep_on_fork = 1;
    far = lose_and_ask(l, &options);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_channel_adopt(far), 0);
        test_gate_wait(&closed);
        wait_for_ready(far);
        CHECK_INT(try_recv(far), -EAGAIN);
        CHECK_INT(reconnects(far), 1);
        CHECK_INT(try_send(far), 0);
        naru_channel_close(far);
        test_child_end();
    }
    naru_channel_close(far);
    near = accept_now(l); /* which answers */
    test_gate_open(&closed);
    test_join(pid);
    CHECK_INT(try_recv(near), 1);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(an_event_loop_is_told_that_one_has_finished_which_had_asked_again)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = lose_and_ask(l, NULL);

    CHECK_INT(naru_channel_finish(far), 0);
    wait_for_ready(far);
    CHECK_INT(try_recv(far), -EPIPE);
    CHECK(is_ready(far)); /* as at any end */
    naru_channel_close(far);
    naru_listener_close(l);
}

/* The interruption that ended a send is the receiving thread's, too. */
static void wait_for_ready_when_interrupted(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = ch;
    CHECK_INT(naru_wait_any(&item, 1, patience), -ECANCELED);
    wait_for_ready(ch);
}

TEST(an_interruption_leaves_the_connection_that_it_met_to_the_next_call)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;

    options.interruptible = 1;
    far = lose_and_ask(l, &options);
    near = accept_now(l); /* it has its answer */
    CHECK_INT(naru_interrupt(far), 0);
    CHECK_INT(naru_send(far, "x", 1, patience), -ECANCELED);
    wait_for_ready_when_interrupted(far);
    CHECK_INT(try_recv(far), -EAGAIN);
    CHECK_INT(reconnects(far), 1);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(an_interruption_before_a_descriptor_is_asked_for_is_shown_by_it)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;

    options.interruptible = 1;
    far = begin_with("?reconnect=yes", &options);
    near = accept_now(l);
    check_connected(far, near);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l)));
    near = accept_now(l);
    CHECK_INT(naru_interrupt(far), 0);
    CHECK_INT(naru_send(far, "x", 1, patience), -ECANCELED);
    wait_for_ready_when_interrupted(far);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(one_that_is_interrupted_when_it_was_hung_up_on_is_woken_to_ask_the_next)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far, *near;

    options.interruptible = 1;
    far = lose_and_ask(l, &options);
    naru_listener_close(l);
    CHECK_INT(naru_interrupt(far), 0);
    CHECK_INT(naru_send(far, "x", 1, patience), -ECANCELED);
    wait_for_ready_when_interrupted(far);
    l = listen_there("?service=manual");
    near = reconnect_in_one_thread(l, far);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(one_that_nobody_answers_in_its_time_gives_up)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=50ms"), *near = accept_now(l);

    check_connected(far, near);
    CHECK(naru_channel_fd(far) >= 0);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    do {
        struct naru_wait item = NARU_INIT(struct naru_wait);

        item.channel = far;
        CHECK_INT(naru_wait_any(&item, 1, patience), 1); /* the timer, at the end */
    } while (try_recv(far) == -EAGAIN);
    CHECK_INT(try_recv(far), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "?reconnect=50ms");
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), -EAGAIN);
    naru_channel_close(far);
    naru_listener_close(l);
}
