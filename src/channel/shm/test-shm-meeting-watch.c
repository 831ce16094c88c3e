/* SPDX-License-Identifier: MIT */
/*
 * Channels that meet (meeting.h), or connect again, when the kernel has no room to watch one descriptor more
 * (epoll_ctl(2): ENOMEM, ENOSPC): nothing is left behind, and the event loop is woken for the next try. And
 * whoever sends and finds no room is told that the loop would not be.
 *
 * The linker puts the function below in the place of the C library's (ld(1), --wrap; see cmake/tests.cmake).
 */
#include <sys/epoll.h>

#include "channel/shm/test-shm-meeting.h"

static int additions_left = -1; /* that succeed before one fails; below 0: none fails */

int __real_epoll_ctl(int fd, int operation, int watched, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int operation, int watched, struct epoll_event *event);

int __wrap_epoll_ctl(int fd, int operation, int watched, struct epoll_event *event)
{
    if (operation == EPOLL_CTL_ADD && additions_left >= 0 && additions_left-- == 0) {
        errno = ENOSPC;
        return -1;
    }
    return __real_epoll_ctl(fd, operation, watched, event);
}

/* As often as something is to be watched. How often that was. */
static int fail_each_watch(struct naru_channel *ch)
{
    size_t before = open_descriptors();
    int count = 0, fd;

    do {
        additions_left = count++;
        fd = naru_channel_fd(ch);
        CHECK(fd >= 0 || fd == -ENOSPC);
        CHECK(fd >= 0 || open_descriptors() == before);
        CHECK(fd >= 0 || !ch->meeting || ch->meeting->epoll < 0);
    } while (fd < 0);
    CHECK(additions_left == 0); /* all went well */
    additions_left = -1;
    return count - 1;
}

TEST(a_descriptor_that_cannot_be_made_while_it_meets_leaves_nothing)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near;

    CHECK_INT(fail_each_watch(far), 3); /* what is held here, the answer, the timer */
    near = accept_now(l);
    CHECK(is_ready(far));
    CHECK_INT(try_recv(far), -EAGAIN);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

TEST(nor_does_one_that_cannot_be_made_while_it_connects_again)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin("?reconnect=yes"), *near = accept_now(l);
    size_t before = open_descriptors();

    check_connected(far, near);
    naru_channel_close(near);
    CHECK_INT(try_recv(far), -EPIPE);
    WAIT_UNTIL(try_send(far) == -EAGAIN && test_is_readable(naru_listener_fd(l)));
    CHECK_INT(fail_each_watch(far), 3); /* what is held here, the timer, the answer */
    CHECK(!is_ready(far));
    near = accept_now(l);
    CHECK(is_ready(far));
    CHECK_INT(try_recv(far), -EAGAIN);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
    WAIT_UNTIL(open_descriptors() < before);
}

TEST(a_connection_that_cannot_be_watched_wakes_the_loop_for_the_next_try)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *far = begin(""), *near;
    char word[8];
    int tries = 0, r;

    CHECK(!is_ready(far));
    near = accept_now(l);
    CHECK(is_ready(far));
    for (;; tries++) {
        additions_left = tries;
        r = try_recv(far);
        if (r == -EAGAIN)
            break;
        CHECK_INT(r, -ENOSPC);
        CHECK_CONTAINS(naru_explain(), "cannot be polled");
        CHECK_CONTAINS(naru_explain(), url());
        CHECK(is_ready(far));
    }
    additions_left = -1;
    CHECK(tries > 0);
    CHECK(!is_ready(far));
    CHECK_INT(naru_send(near, "word", 5, NARU_NOWAIT), 0);
    CHECK(is_ready(far));
    CHECK_INT(naru_recv(far, word, sizeof word, NARU_NOWAIT), 5);
    check_connected(far, near);
    close_both(far, near);
    naru_listener_close(l);
}

static const char each_byte[256];

/* Until there is no room. What that said. */
static int fill(struct naru_channel *ch)
{
    int r;

    do
        r = naru_send(ch, each_byte, sizeof each_byte, NARU_NOWAIT);
    while (r == 0);
    return r;
}

/* Each is of another descriptor than what is received from. */
static const char *const crowded[] = {"shm:?ring=4k", "pipe:"};

static const char *each_crowded(size_t index)
{
    return index < sizeof crowded / sizeof *crowded ? crowded[index] : NULL;
}

TEST_EACH(a_loop_that_cannot_be_told_of_room_is_said, each_crowded)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_channel *ch[2];
    char buffer[sizeof each_byte];

    CHECK_INT(naru_channel_pair(crowded[index], NULL, ch), 0);
    CHECK(naru_channel_fd(ch[0]) >= 0);
    for (int tries = 0; tries < 3; tries++) {
        additions_left = 0;
        CHECK_INT(fill(ch[0]), -ENOSPC);
        CHECK_CONTAINS(naru_explain(), "max_user_watches");
        additions_left = 0;
        CHECK_INT(naru_send(ch[0], each_byte, sizeof each_byte, NARU_US(1)), -ENOSPC);
        additions_left = 0;
        if (index == 0) /* lent in place */
            CHECK_INT(naru_loan(ch[0], sizeof each_byte, NARU_NOWAIT, &loan), -ENOSPC);
    }
    additions_left = -1;
    CHECK_INT(naru_send(ch[0], each_byte, sizeof each_byte, NARU_NOWAIT), -EAGAIN);
    CHECK(!is_ready(ch[0]));
    for (int i = 0; i < 64; i++) /* a pipe tells of whole pages */
        (void)!naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT);
    CHECK(is_ready(ch[0]));
    CHECK_INT(naru_send(ch[0], each_byte, sizeof each_byte, NARU_NOWAIT), 0);
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}
