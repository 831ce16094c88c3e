/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: empty, full, waiting, waking, polling, flushing. */
#include "mechanism.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST_EACH(an_empty_channel_gives_eagain_or_waits_as_long_as_told, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char buffer[64];
    int64_t start;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(near, buffer, sizeof buffer, -5), -EAGAIN);
    start = now_ns();
    CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_MS(30)), -ETIMEDOUT);
    CHECK(now_ns() - start >= NARU_MS(30));
    PUT(&link, far, 1);
    TAKE(&link, near, 1);
    CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* A sender that sends when the receiver sleeps; twice, for the two ways of waiting. */
TEST_EACH(a_sleeping_receiver_is_woken, each_variant)
{
    static const int64_t timeouts[] = {NARU_FOREVER, NARU_S(WAIT_LONG_S)};
    struct test_gate received;
    struct naru_channel *ch;
    struct link link;
    uint8_t buffer[MESSAGE_MAX];
    int pid;

    link_open(&link, index, NULL);
    test_gate_init(&received);
    pid = test_fork();
    if (pid == 0) {
        int parent = getppid();

        ch = link_far(&link);
        for (uint64_t i = 0; i < 2; i++) {
            test_wait_asleep(parent);
            PUT(&link, ch, i);
            test_gate_wait(&received);
        }
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    for (uint64_t i = 0; i < 2; i++) {
        message_check(__FILE__, __LINE__, &link, i, buffer,
                      naru_recv(ch, buffer, sizeof buffer, timeouts[i]));
        test_gate_open(&received);
    }
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(a_full_channel_refuses_and_keeps_all_it_accepted, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    uint8_t buffer[MESSAGE_MAX];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (!link_can(&link, NARU_CAN_PUSH_BACK)) { /* then a send never waits */
        for (uint64_t i = 0; i < 2000; i++)
            PUT(&link, far, i);
    } else {
        uint64_t accepted = fill_patiently(&link, far);

        CHECK(accepted > 0);
        drain(&link, far, near, 0, accepted);
        CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        PUT(&link, far, 5); /* there is room again */
        TAKE(&link, near, 5);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_sender_to_a_full_channel_sleeps_until_there_is_room, each_variant)
{
    static const int64_t timeouts[] = {NARU_FOREVER, NARU_S(WAIT_LONG_S)};
    enum { MORE = 30 };
    struct naru_channel *ch;
    struct link link;
    uint64_t *filled = test_shared(sizeof *filled);
    struct test_gate full, drained;
    uint8_t buffer[MESSAGE_MAX];
    int pid;

    link_open(&link, index, NULL);
    if (!link_can(&link, NARU_CAN_PUSH_BACK)) {
        link_close(&link);
        return; /* a_full_channel_refuses... has shown that it does not wait */
    }
    test_gate_init(&full);
    test_gate_init(&drained);
    pid = test_fork();
    if (pid == 0) {
        ch = link_far(&link);
        for (uint64_t round = 0, next = 0; round < 2; round++) {
            next += fill(&link, ch, next);
            *filled = next + MORE;
            test_gate_open(&full);
            for (uint64_t i = 0; i < MORE; i++, next++) {
                size_t size = message_size(&link, next);

                message_make(&link, next, buffer, size);
                CHECK_OK(naru_send(ch, buffer, size, timeouts[round]));
            }
            test_gate_wait(&drained);
        }
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    for (uint64_t round = 0, next = 0; round < 2; round++) {
        test_gate_wait(&full);
        test_wait_asleep(pid);
        for (; next < *filled; next++)
            TAKE(&link, ch, next);
        test_gate_open(&drained);
    }
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

/* --- the descriptor --- */

/* Whose kernel carries what was sent on its way back from another call, or some time later (ksoftirqd). */
static bool is_carried_later(const struct link *link)
{
    return link_can(link, NARU_CAN_REACH_NETWORK);
}

/* Its descriptor shows the message, also what was read ahead, and what did not fit. */
static void expect_shown(const struct link *link, struct naru_channel *near, int fd)
{
    char small[2];

    if (is_carried_later(link))
        WAIT_UNTIL(naru_recv(near, small, sizeof small, NARU_NOWAIT) != -EAGAIN);
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_recv(near, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK(test_is_readable(fd));
}

TEST_EACH(the_descriptor_is_readable_exactly_while_there_is_a_message, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char small[2];
    int fd;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (!link_can(&link, NARU_CAN_POLL)) {
        CHECK_INT(naru_channel_fd(near), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), link.row->scheme);
    } else {
        fd = (int)CHECK_OK(naru_channel_fd(near));
        CHECK_INT(naru_channel_fd(near), fd);
        CHECK(naru_channel_want(near) & NARU_IN);
        CHECK_INT(naru_recv(near, small, sizeof small, NARU_NOWAIT), -EAGAIN);
        CHECK(!test_is_readable(fd));
        for (int round = 0; round < 3; round++) {
            for (uint64_t i = 0; i < 6; i++)
                PUT(&link, far, i);
            WAIT_UNTIL(test_is_readable(fd));
            for (uint64_t i = 0; i < 6; i++) {
                expect_shown(&link, near, fd);
                TAKE(&link, near, i);
            }
            /* A file's end is known only when it was seen; everything else knows at once. */
            CHECK(link_can(&link, NARU_CAN_BROADCAST) || !test_is_readable(fd));
            CHECK_INT(naru_recv(near, small, sizeof small, NARU_NOWAIT), -EAGAIN);
            CHECK(!test_is_readable(fd));
        }
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(the_descriptor_tells_a_sender_of_room, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_POLL | NARU_CAN_PUSH_BACK) && !(link.variant->traits & ROOM_UNTOLD)) {
        int fd = (int)CHECK_OK(naru_channel_fd(far));
        uint64_t accepted, taken = 0;

        CHECK(naru_channel_want(far) != 0);
        CHECK(!test_is_readable(fd));
        accepted = fill(&link, far, 0);
        while (is_carried_later(&link) && test_is_readable(fd)) /* and there is room after all */
            accepted += fill(&link, far, accepted);
        CHECK(is_carried_later(&link) || !test_is_readable(fd));
        while (taken < accepted && !test_is_readable(fd))
            TAKE(&link, near, taken++);
        WAIT_UNTIL(test_is_readable(fd)); /* a socket may tell only when much of it is free */
        CHECK_OK(naru_flush(far, NARU_SENT, NARU_NOWAIT));
        while (taken < accepted)
            TAKE(&link, near, taken++);
        PUT(&link, far, 7);
        CHECK(!test_is_readable(fd)); /* nothing waits for room any more */
        TAKE(&link, near, 7);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(the_descriptor_tells_of_the_end, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char buffer[64];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_POLL | NARU_CAN_SEE_CLOSE)) {
        int fd = (int)CHECK_OK(naru_channel_fd(near));

        PUT(&link, far, 1);
        naru_channel_close(far);
        WAIT_UNTIL(test_is_readable(fd));
        TAKE(&link, near, 1);
        WAIT_UNTIL(test_is_readable(fd));
        CHECK(says_gone(&link, naru_recv(near, buffer, sizeof buffer, NARU_NOWAIT)));
        CHECK(test_is_readable(fd));
    } else {
        naru_channel_close(far);
    }
    naru_channel_close(near);
    link_close(&link);
}

/* --- flush, and messages larger than the kernel's buffer --- */

TEST_EACH(flush_tells_what_the_mechanism_can_tell, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    PUT(&link, far, 3);
    CHECK_OK(naru_flush(far, NARU_SENT, NARU_NOWAIT));
    CHECK_INT(naru_flush(far, NARU_DONE, NARU_NOWAIT),
              link_can(&link, NARU_CAN_TELL_DONE) ? -EAGAIN : -ENOTSUP);
    if (link_can(&link, NARU_CAN_TELL_TAKEN)) {
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_MS(5)), -ETIMEDOUT);
        TAKE(&link, near, 3);
        CHECK_OK(naru_flush(far, NARU_TAKEN, NARU_S(WAIT_LONG_S)));
    } else {
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_NOWAIT), -ENOTSUP);
        TAKE(&link, near, 3);
    }
    if (link_can(&link, NARU_CAN_TELL_DONE))
        CHECK_OK(naru_flush(far, NARU_DONE, NARU_S(WAIT_LONG_S)));
    for (int stage = -1; stage <= NARU_DONE + 1; stage += stage ? 1 : NARU_DONE + 1) { /* -1, 0, and 4 */
        CHECK_INT(naru_flush(far, (enum naru_stage)stage, NARU_NOWAIT), -EINVAL);
        CHECK_CONTAINS(naru_explain(), test_format("no stage %d", stage));
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* What a pipe's writer closes to end it would have told. */
static bool tells_after_the_end(struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_OK(naru_channel_info(ch, &info));
    return strncmp(info.mechanism->scheme, "shm", 3) == 0 || strcmp(info.mechanism->scheme, "unix") == 0;
}

TEST_EACH(flush_tells_what_was_read_after_the_last_message, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    int r;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    PUT(&link, far, 3);
    r = naru_channel_finish(far);
    CHECK(r == 0 || r == -ENOTSUP);
    if (r == 0 && tells_after_the_end(far)) {
        bool done = link_can(&link, NARU_CAN_TELL_DONE);

        CHECK_OK(naru_flush(far, NARU_SENT, NARU_NOWAIT));
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_MS(5)), -ETIMEDOUT);
        TAKE(&link, near, 3);
        CHECK_OK(naru_flush(far, NARU_TAKEN, NARU_S(WAIT_LONG_S)));
        CHECK_INT(naru_flush(far, NARU_DONE, NARU_S(WAIT_LONG_S)), done ? 0 : -ENOTSUP);
        CHECK_INT(naru_flush(far, (enum naru_stage)0, NARU_NOWAIT), -EINVAL);
        near = naru_channel_close(near);
        CHECK_OK(naru_flush(far, NARU_TAKEN, NARU_NOWAIT)); /* it has read all */
    } else if (r == 0 && link_can(&link, NARU_CAN_TELL_TAKEN)) {
        CHECK_INT(naru_flush(far, NARU_TAKEN, NARU_NOWAIT), -EPIPE);
        CHECK_CONTAINS(naru_explain(), "naru_channel_finish()");
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_view_is_taken_and_not_done_until_it_is_released, each_variant)
{
    struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    if (!link_can(&link, NARU_CAN_TELL_DONE)) {
        link_leave(&link);
        link_close(&link);
        return; /* and refuses, as above */
    }
    link_both(&link, &far, &near);
    for (uint64_t i = 0; i < 2; i++) {
        PUT(&link, far, i);
        CHECK_OK(naru_borrow(near, NARU_S(WAIT_LONG_S), &views[i]));
    }
    CHECK_OK(naru_flush(far, NARU_TAKEN, NARU_S(WAIT_LONG_S)));
    for (int i = 1; i >= 0; i--) {
        CHECK_INT(naru_flush(far, NARU_DONE, NARU_MS(1)), -ETIMEDOUT);
        naru_release(&views[i]);
    }
    CHECK_OK(naru_flush(far, NARU_DONE, NARU_S(WAIT_LONG_S)));
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

enum { LARGE = 1000000 };

static void send_large(const struct link *link, struct naru_channel *ch, uint8_t *buffer,
                       struct test_gate *begun)
{
    message_make(link, 1, buffer, LARGE);
    CHECK_INT(naru_send(ch, buffer, LARGE, NARU_NOWAIT), -EINPROGRESS);
    memset(buffer, 0, LARGE); /* it is ours again at once */
    test_gate_open(begun);
    for (;;) {
        int r = naru_flush(ch, NARU_SENT, NARU_US(200));

        if (r == 0)
            break;
        CHECK_INT(r, -ETIMEDOUT);
    }
    PUT(link, ch, 2);
    message_make(link, 3, buffer, LARGE);
    CHECK_OK(naru_send(ch, buffer, LARGE, NARU_FOREVER));
}

static void receive_large(const struct link *link, struct naru_channel *ch, uint8_t *buffer, uint64_t number,
                          int64_t timeout)
{
    uint8_t *expected = malloc(LARGE);
    long long r;

    CHECK(expected != NULL);
    message_make(link, number, expected, LARGE);
    do
        r = naru_recv(ch, buffer, LARGE, timeout); /* what came of it until the time-out is not lost */
    while (r == -ETIMEDOUT);
    CHECK_INT(CHECK_OK(r), LARGE);
    CHECK(memcmp(buffer, expected, LARGE) == 0);
    free(expected);
}

TEST_EACH(a_message_larger_than_the_buffer_goes_in_parts, each_variant)
{
    struct naru_channel *ch;
    struct link link;
    struct test_gate begun;
    uint8_t *buffer = malloc(LARGE);
    int pid;

    CHECK(buffer != NULL);
    link.row = naru_mechanism_find(variant_at(index)->row);
    if (!link_can(&link, NARU_CAN_FRAME | NARU_CAN_PUSH_BACK)) {
        free(buffer);
        return;
    }
    /* What is inherited has its buffer, which is smaller than this message, too. */
    link_open_with(&link, index, NULL, strstr(link.row->options, "buffer=") ? "buffer=64k" : NULL);
    test_gate_init(&begun);
    pid = test_fork();
    if (pid == 0) {
        ch = link_far(&link);
        send_large(&link, ch, buffer, &begun);
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    test_gate_wait(&begun);
    receive_large(&link, ch, buffer, 1, NARU_US(100));
    TAKE(&link, ch, 2);
    receive_large(&link, ch, buffer, 3, NARU_FOREVER);
    test_join(pid);
    free(buffer);
    naru_channel_close(ch);
    link_close(&link);
}
