/* SPDX-License-Identifier: MIT */
/* Listeners of shm: whose program is busy: who connects is answered all the same, by the keeper or not. */
#include <signal.h>

#include "channel/shm/test-shm.h"

static struct naru_channel *connect_there(void)
{
    struct naru_channel *ch = NULL;

    if (naru_connect(url(), NULL, patience, &ch) < 0)
        test_fail(__FILE__, __LINE__, "naru_connect: %s", naru_explain());
    return ch;
}

static struct naru_channel *accept_now(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    return ch;
}

static void check_message(struct naru_channel *ch, const char *wanted)
{
    char text[32] = "";

    CHECK_INT(naru_recv(ch, text, sizeof text - 1, patience), (long long)strlen(wanted));
    CHECK_STR(text, wanted);
}

/* --- answered while the program is busy --- */

TEST(connecting_ends_and_sending_begins_while_the_listeners_program_does_something_else)
{
    struct naru_listener *l = listen_there("");
    struct naru_channel *far = connect_there(), *near;

    CHECK_INT(naru_send(far, "early", 5, NARU_NOWAIT), 0);
    near = accept_now(l);
    check_message(near, "early");
    CHECK_INT(naru_send(near, "late", 4, NARU_NOWAIT), 0);
    check_message(far, "late");
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* It may wait for room meanwhile: it is the acceptance that lets it go on. */
TEST(whoever_fills_the_ring_before_it_is_accepted_goes_on_afterwards)
{
    static const char block[1000];
    struct naru_listener *l = listen_there("");
    struct naru_channel *near;
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *far = connect_there();

        for (int i = 0; i < 2000; i++)
            CHECK_INT(naru_send(far, block, sizeof block, patience), 0);
        naru_channel_close(far);
        test_child_end();
    }
    WAIT_UNTIL(test_is_readable(naru_listener_fd(l)));
    test_wait_asleep(pid);
    near = accept_now(l);
    for (int i = 0; i < 2000; i++) {
        char text[sizeof block];

        CHECK_INT(naru_recv(near, text, sizeof text, patience), sizeof block);
    }
    CHECK_INT(naru_recv(near, NULL, 0, patience), -EPIPE);
    test_join(pid);
    naru_channel_close(near);
    naru_listener_close(l);
}

static const char *const ends[] = {"closed", "killed"};

static const char *each_end(size_t index)
{
    return index < sizeof ends / sizeof *ends ? ends[index] : NULL;
}

TEST_EACH(what_was_sent_is_there_though_the_sender_has_gone, each_end)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_listener *l = listen_there("");
    struct naru_channel *near;
    struct test_gate sent;
    int pid;

    test_gate_init(&sent);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *far = connect_there();

        CHECK_INT(naru_send(far, "one", 3, NARU_NOWAIT), 0);
        CHECK_INT(naru_send(far, "two", 3, NARU_NOWAIT), 0);
        if (index == 0)
            naru_channel_close(far);
        test_gate_open(&sent);
        pause();
    }
    test_gate_wait(&sent);
    test_kill(pid);
    near = accept_now(l);
    check_message(near, "one");
    check_message(near, "two");
    CHECK_INT(naru_recv(near, NULL, 0, patience), index == 0 ? -EPIPE : -EOWNERDEAD);
    CHECK_INT(naru_channel_info(near, &info), 0);
    CHECK_INT(info.peer.pid, pid);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(they_are_accepted_in_the_order_in_which_they_came)
{
    enum { MANY = 20 };
    struct naru_listener *l = listen_there("");
    struct naru_channel *far[MANY];

    for (int i = 0; i < MANY; i++) {
        far[i] = connect_there();
        CHECK_INT(naru_send(far[i], test_format("%d", i), i < 10 ? 1 : 2, NARU_NOWAIT), 0);
    }
    for (int i = 0; i < MANY; i++) {
        struct naru_channel *near = accept_now(l);

        check_message(near, test_format("%d", i));
        naru_channel_close(near);
        naru_channel_close(far[i]);
    }
    naru_listener_close(l);
}

TEST(a_listener_that_closes_hangs_up_on_those_it_has_not_accepted)
{
    struct naru_listener *l = listen_there("");
    struct naru_channel *far = connect_there(), *ch = NULL;
    struct test_gate connected;
    int pid;

    test_gate_init(&connected);
    pid = test_fork();
    if (pid == 0) { /* one that waits meanwhile */
        struct naru_channel *waiting = connect_there();

        test_gate_open(&connected);
        CHECK_INT(naru_recv(waiting, NULL, 0, patience), -EPIPE);
        naru_channel_close(waiting);
        test_child_end();
    }
    test_gate_wait(&connected);
    test_wait_asleep(pid);
    CHECK_INT(naru_send(far, "lost", 4, NARU_NOWAIT), 0);
    naru_listener_close(l);
    test_join(pid);
    CHECK_INT(naru_recv(far, NULL, 0, patience), -EPIPE);
    CHECK_INT(naru_send(far, "x", 1, patience), -EPIPE);
    CHECK_INT(naru_flush(far, NARU_TAKEN, patience), -EPIPE);
    naru_channel_close(far);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), -EAGAIN);
}

TEST(a_program_that_connects_to_itself_on_a_loop_gets_both_ends)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);
    struct naru_listener *l = listen_there("");
    struct naru_channel *far, *near;

    item.listener = l;
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -EAGAIN);
    far = connect_there();
    CHECK_INT(naru_wait_any(&item, 1, patience), 1);    /* the keeper answers first, and tells then */
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), 1); /* level-triggered */
    near = accept_now(l);
    CHECK_INT(naru_wait_any(&item, 1, NARU_NOWAIT), -EAGAIN);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- no more than it may --- */

static const char *const services[] = {"keeper", "manual"};

static const char *each_service(size_t index)
{
    return index < sizeof services / sizeof *services ? services[index] : NULL;
}

TEST(the_queue_has_an_end_and_goes_on_when_there_is_room)
{
    enum { ROOM = 3 };
    struct naru_listener *l = listen_there("?backlog=3");
    struct naru_channel *far[ROOM], *ch = NULL, *near;
    int pid;

    for (int i = 0; i < ROOM; i++)
        far[i] = connect_there();
    CHECK_INT(naru_connect(url(), NULL, NARU_MS(30), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "?backlog=");
    pid = test_fork();
    if (pid == 0) {
        naru_listener_close(l); /* a child's copy closes nobody's connection */
        ch = connect_there();
        CHECK_INT(naru_send(ch, "room", 4, NARU_NOWAIT), 0);
        naru_channel_close(ch);
        test_child_end();
    }
    test_wait_asleep(pid);
    for (int i = 0; i < ROOM; i++) {
        near = accept_now(l);
        CHECK_INT(naru_send(near, "yours", 5, NARU_NOWAIT), 0);
        check_message(far[i], "yours");
        naru_channel_close(near);
        naru_channel_close(far[i]);
    }
    CHECK_INT(naru_accept(l, patience, &near), 0); /* who gave up is none */
    check_message(near, "room");
    test_join(pid);
    naru_channel_close(near);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), -EAGAIN);
    naru_listener_close(l);
}

TEST_EACH(a_queue_of_one_serves_everybody, each_service)
{
    struct naru_listener *l = listen_there(test_format("?backlog=1&service=%s", services[index]));
    int pids[5];

    for (int i = 0; i < 5; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *far = connect_there();

            CHECK_INT(naru_send(far, "me", 2, NARU_NOWAIT), 0);
            check_message(far, "you");
            naru_channel_close(far);
            test_child_end();
        }
    }
    for (int i = 0; i < 5; i++) {
        struct naru_channel *near = NULL;

        CHECK_INT(naru_accept(l, patience, &near), 0);
        check_message(near, "me");
        CHECK_INT(naru_send(near, "you", 3, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(near, NULL, 0, patience), -EPIPE);
        naru_channel_close(near);
    }
    for (int i = 0; i < 5; i++)
        test_join(pids[i]);
    naru_listener_close(l);
}

/* --- without a keeper --- */

TEST(without_a_keeper_connecting_waits_for_the_program)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL, *near;
    int pid;

    CHECK_INT(naru_listener_dispatch(l), 0);
    CHECK_INT(naru_connect(url(), NULL, NARU_MS(20), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "naru_accept()");
    CHECK_INT(naru_listener_dispatch(l), 0); /* who gave up is none */
    pid = test_fork();
    if (pid == 0) {
        ch = connect_there();
        CHECK_INT(naru_send(ch, "there", 5, NARU_NOWAIT), 0);
        naru_channel_close(ch);
        test_child_end();
    }
    WAIT_UNTIL(naru_listener_dispatch(l) == 1);
    test_join(pid); /* though nobody accepted */
    CHECK(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_listener_dispatch(l), 1);
    near = accept_now(l);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    check_message(near, "there");
    CHECK_INT(naru_recv(near, NULL, 0, patience), -EPIPE);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(a_dispatch_answers_no_more_than_the_queue_takes)
{
    struct naru_listener *l = listen_there("?service=manual&backlog=2");
    int pids[4];

    for (int i = 0; i < 4; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            naru_channel_close(connect_there());
            test_child_end();
        }
        test_wait_asleep(pids[i]);
    }
    CHECK_INT(naru_listener_dispatch(l), 2);
    CHECK_INT(naru_listener_dispatch(l), 2);
    naru_channel_close(accept_now(l));
    CHECK_INT(naru_listener_dispatch(l), 2);
    naru_channel_close(accept_now(l));
    naru_channel_close(accept_now(l));
    CHECK_INT(naru_listener_dispatch(l), 1);
    naru_channel_close(accept_now(l));
    for (int i = 0; i < 4; i++)
        test_join(pids[i]);
    naru_listener_close(l);
}

TEST(a_listener_elsewhere_has_nothing_to_dispatch)
{
    struct naru_listener *l = NULL;
    struct naru_channel *far = NULL;

    CHECK_INT(naru_listen(test_format("unix://%s/u", test_directory()), NULL, &l), 0);
    CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &far), 0);
    CHECK_INT(naru_listener_dispatch(l), 0);
    naru_channel_close(far);
    naru_listener_close(l);
}

TEST(the_service_is_a_word_or_one_of_the_options)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("%s?service=butler", url()), NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "keeper|manual");
    CHECK_INT(naru_listen(test_format("%s?backlog=0", url()), NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "backlog");
    options.service = (enum naru_service)3;
    CHECK_INT(naru_listen(url(), &options, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "service");
    options.service = NARU_SERVICE_MANUAL;
    CHECK_INT(naru_listen(url(), &options, &l), 0);
    CHECK_INT(naru_connect(url(), NULL, NARU_MS(10), &(struct naru_channel *){NULL}), -ETIMEDOUT);
    naru_listener_close(l);
    CHECK_INT(naru_listen(test_format("%s?service=keeper", url()), &options, &l), 0); /* the URL wins */
    naru_channel_close(connect_there());
    naru_listener_close(l);
}
