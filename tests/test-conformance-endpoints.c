/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: who may have an endpoint and a channel: a name that is taken, accepting and
 * connecting, thousands of cycles, forked children, other users. */
#include "mechanism.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_EACH(a_live_endpoint_is_not_taken_over, each_variant)
{
    struct naru_listener *second = NULL;
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link.listener && !link_can(&link, NARU_CAN_SHARE_RECEIVE) && !link_can(&link, NARU_CAN_BROADCAST)) {
        CHECK_INT(naru_listen(link.url, NULL, &second), -EADDRINUSE);
        CHECK_CONTAINS(naru_explain(), link.url);
        CHECK(second == NULL); /* untouched */
        PUT(&link, far, 1);    /* and the first was not disturbed */
        TAKE(&link, near, 1);
        if (link.variant->traits & HAS_NAME) {
            CHECK_INT(naru_remove(link.url), -EBUSY);
            PUT(&link, far, 2);
            TAKE(&link, near, 2);
        }
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(accepting_waits_as_long_as_told, each_variant)
{
    struct naru_channel *near = NULL, *second = NULL;
    struct link link;
    int64_t start = now_ns();
    int fd;

    link_open(&link, index, NULL);
    if (!link.listener) {
        CHECK_INT(naru_listen(link.url, NULL, &link.listener),
                  link_can(&link, NARU_CAN_LISTEN) ? -EINVAL : -ENOTSUP); /* a pair's URL names nothing */
        CHECK_CONTAINS(naru_explain(), link.row->scheme);
    } else if (link_can(&link, NARU_CAN_ACCEPT_MANY)) {
        CHECK_INT(naru_accept(link.listener, NARU_NOWAIT, &near), -EAGAIN);
        CHECK_INT(naru_accept(link.listener, NARU_MS(20), &near), -ETIMEDOUT);
        CHECK(now_ns() - start >= NARU_MS(20));
        CHECK_INT(naru_listener_want(link.listener), NARU_IN);
        fd = naru_listener_fd(link.listener);
        if (link_can(&link, NARU_CAN_POLL)) {
            CHECK_OK(fd);
            CHECK(!test_is_readable(fd));
        } else {
            CHECK_INT(fd, -ENOTSUP);
        }
    } else if (naru_accept(link.listener, NARU_NOWAIT, &near) == 0) {
        CHECK_INT(naru_accept(link.listener, NARU_NOWAIT, &second), -EBUSY);
        CHECK_CONTAINS(naru_explain(), link.url);
        naru_channel_close(near);
        CHECK_OK(naru_accept(link.listener, NARU_NOWAIT, &near)); /* once the first is closed */
    }
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(each_connection_is_its_own, each_variant)
{
    struct naru_channel *far[3], *near[3];
    struct link link;

    link_open(&link, index, NULL);
    if (link_can(&link, NARU_CAN_ACCEPT_MANY) && link.listener) {
        bool meeting = link.variant->traits & (MEETING | ONE_WAITS);

        for (int i = 0; i < 3 && !meeting; i++)
            CHECK_OK(naru_connect(link.url, NULL, NARU_S(WAIT_LONG_S), &far[i]));
        if (!meeting)
            WAIT_UNTIL(test_is_readable(naru_listener_fd(link.listener)));
        for (int i = 0; i < 3; i++) {
            if (meeting)
                link_both(&link, &far[i], &near[i]);
            else
                CHECK_OK(naru_accept(link.listener, NARU_S(WAIT_LONG_S), &near[i]));
            PUT(&link, far[i], (uint64_t)i);
        }
        for (int i = 2; i >= 0; i--) {
            TAKE(&link, near[i], (uint64_t)i);
            naru_channel_close(near[i]);
            naru_channel_close(far[i]);
        }
    }
    link_close(&link);
}

/* By one thread, which has both ends. But for tcp:, whose kernel may take its time (ksoftirqd). */
TEST_EACH(whoever_does_not_wait_is_connected_where_somebody_listens, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    if (link.listener && link_can(&link, NARU_CAN_CONNECT) &&
        !link_can(&link, NARU_CAN_REACH_NETWORK | NARU_CAN_ACCEPT_MANY)) {
        CHECK_OK(naru_connect(link.url, NULL, NARU_NOWAIT, &far));
        CHECK_OK(naru_accept(link.listener, NARU_S(WAIT_LONG_S), &near));
        PUT(&link, far, 1);
        TAKE(&link, near, 1);
        naru_channel_close(far);
        naru_channel_close(near);
    }
    link_close(&link);
}

TEST_EACH(connecting_waits_for_the_listener, each_variant)
{
    struct naru_channel *ch = NULL;
    struct link link;
    int64_t start;
    int pid;

    link_open(&link, index, NULL);
    if (!link.listener) {
        if (!link_can(&link, NARU_CAN_CONNECT))
            CHECK_INT(naru_connect(link.url, NULL, NARU_NOWAIT, &ch), -ENOTSUP);
        link_close(&link);
        return;
    }
    link_close(&link); /* its name is known, and nobody is there */
    if (strcmp(link.row->scheme, "udp") != 0 && !(link.variant->traits & PROCESS) &&
        strcmp(link.row->scheme, "file") != 0) {
        CHECK_INT(naru_connect(link.url, NULL, NARU_NOWAIT, &ch), -EAGAIN);
        CHECK_CONTAINS(naru_explain(), link.url);
        start = now_ns();
        CHECK_INT(naru_connect(link.url, NULL, NARU_MS(30), &ch), -ETIMEDOUT);
        CHECK(now_ns() - start >= NARU_MS(30));
        CHECK_CONTAINS(naru_explain(), link.url);
        CHECK(ch == NULL);
        pid = test_fork();
        if (pid == 0) {
            link.listener = NULL;
            ch = link_far(&link);
            PUT(&link, ch, 4);
            naru_channel_close(ch);
            test_child_end();
        }
        test_wait_asleep(pid);
        CHECK_OK(naru_listen(link.url, NULL, &link.listener));
        link.opened = true;
        ch = link_near(&link);
        TAKE(&link, ch, 4);
        test_join(pid);
        naru_channel_close(ch);
        link_close(&link);
    }
}

/* Memory that leaks is told after one cycle, by a sanitizer; what the kernel has a thousand of runs out
 * without. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CYCLES = 100 };
#else
enum { CYCLES = 1000 };
#endif

TEST_EACH(thousands_of_openings_leak_nothing, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    bool paired = variant_at(index)->traits & PAIRED;

    link_open(&link, index, NULL);
    for (uint64_t i = 0; i < CYCLES; i++) {
        if (paired && i > 0)
            link_open(&link, index, NULL);
        if (i % 10 == 9 && link.listener && strncmp(link.url, "tcp", 3) != 0 &&
            strncmp(link.url, "udp", 3) != 0) {
            link.listener = naru_listener_close(link.listener);
            CHECK_OK(naru_listen(link.url, &link.options, &link.listener));
        }
        if (paired || (link.variant->traits & MEETING)) {
            link_both(&link, &far, &near);
        } else {
            CHECK_OK(naru_connect(link.url, &link.options, NARU_S(WAIT_LONG_S), &far));
            CHECK_OK(naru_accept(link.listener, NARU_S(WAIT_LONG_S), &near));
        }
        PUT(&link, far, i);
        if (link_can(&link, NARU_CAN_POLL)) {
            CHECK_OK(naru_channel_fd(near));
            CHECK_OK(naru_channel_fd(far));
        }
        TAKE(&link, near, i);
        naru_channel_close(far);
        naru_channel_close(near);
        if (link_can(&link, NARU_CAN_BROADCAST)) /* or the next receiver would get it too */
            CHECK_OK(naru_remove(link.url));
    }
    link_close(&link); /* the runner counts descriptors */
}

/* --- fork --- */

/* In a child that is not the owner. */
static void expect_foreign(struct naru_channel *ch)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    char buffer[8] = "";

    CHECK_INT(naru_send(ch, buffer, 4, NARU_NOWAIT), -ECHILD);
    CHECK_CONTAINS(naru_explain(), "fork");
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -ECHILD);
    CHECK_INT(naru_send_message(ch, &m, NARU_NOWAIT), -ECHILD);
    CHECK_INT(naru_recv_message(ch, &m, NARU_NOWAIT), -ECHILD);
    CHECK_INT(naru_send_batch(ch, &m, 1, NARU_NOWAIT), -ECHILD);
    CHECK_INT(naru_loan(ch, 4, NARU_NOWAIT, &loan), -ECHILD);
    CHECK_INT(naru_borrow(ch, NARU_NOWAIT, &view), -ECHILD);
    CHECK_INT(naru_flush(ch, NARU_SENT, NARU_NOWAIT), -ECHILD);
    CHECK_INT(naru_channel_fd(ch), -ECHILD);
    CHECK_INT(naru_channel_adopt(ch), -EINVAL);
}

TEST_EACH(a_forked_child_may_not_use_and_does_not_hold_a_channel, each_variant)
{
    struct naru_channel *far, *near;
    struct test_gate done;
    struct link link;
    char buffer[8];
    int pid;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    PUT(&link, far, 1);
    TAKE(&link, near, 1);
    test_gate_init(&done);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *none;

        expect_foreign(far);
        expect_foreign(near);
        if (link.listener) {
            CHECK_INT(naru_accept(link.listener, NARU_NOWAIT, &none), -ECHILD);
            CHECK_INT(naru_listener_fd(link.listener), -ECHILD);
            naru_listener_close(link.listener);
        }
        naru_channel_close(near);
        test_gate_open(&done);
        for (;;) /* `far` is not closed here, only inherited */
            pause();
    }
    test_gate_wait(&done);
    PUT(&link, far, 2); /* what the child did harmed nothing */
    TAKE(&link, near, 2);
    naru_channel_close(far);
    if (link_can(&link, NARU_CAN_SEE_CLOSE)) /* the child does not keep it alive */
        CHECK(says_gone(&link, naru_recv(near, buffer, sizeof buffer, NARU_S(WAIT_LONG_S))));
    test_kill(pid);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_kept_channel_is_adopted_by_a_child, each_variant)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *far, *near;
    struct link link;
    int pid;

    options.keep_on_fork = 1;
    link_open(&link, index, &options);
    link_both(&link, &far, &near);
    PUT(&link, far, 1);
    TAKE(&link, near, 1);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_send(far, "four", 4, NARU_NOWAIT), -ECHILD);
        CHECK_OK(naru_channel_adopt(far));
        PUT(&link, far, 2);
        naru_channel_close(far);
        test_child_end();
    }
    TAKE(&link, near, 2);
    test_join(pid);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* --- other users --- */

/* As nobody: whether connecting is allowed. */
static void connect_as_nobody(struct link *link, bool allowed)
{
    struct naru_channel *ch = NULL;
    int pid, r;

    if (link_can(link, NARU_CAN_BROADCAST)) { /* a file is made by who sends */
        CHECK_OK(naru_connect(link->url, NULL, NARU_S(WAIT_LONG_S), &ch));
        naru_channel_close(ch);
    }
    pid = test_fork_as_nobody();
    if (pid == 0) {
        r = naru_connect(link->url, NULL, NARU_S(WAIT_LONG_S), &ch);
        if (allowed) {
            CHECK_OK(r);
            PUT(link, ch, 3);
            naru_channel_close(ch);
        } else {
            CHECK(r == -EACCES || r == -EPERM);
            CHECK_CONTAINS(naru_explain(), link->url);
            CHECK(strcasestr(naru_explain(), "permission denied") || strstr(naru_explain(), "not permitted"));
        }
        test_child_end();
    }
    if (allowed) {
        ch = link_near(link);
        TAKE(link, ch, 3);
        naru_channel_close(ch);
    }
    test_join(pid);
}

TEST_EACH(permissions_decide_which_user_may_connect, each_variant)
{
    struct link link;

    if (getuid() != 0 && !(variant_at(index)->traits & PAIRED))
        test_skip("only root can become another user");
    link_open(&link, index, NULL);
    if (link.variant->traits & HAS_MODE) {
        connect_as_nobody(&link, false); /* 0600 unless told */
        link_close(&link);
        link_open_with(&link, index, NULL, "mode=0666");
        connect_as_nobody(&link, true);
    } else if (link.variant->traits & (PROCESS | OWN)) {
        connect_as_nobody(&link, false);
    } else if (link.listener) {
        connect_as_nobody(&link, true);
    }
    link_close(&link);
}
