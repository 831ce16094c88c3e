/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: messages arrive whole, in order, once, whatever call carries them. */
#include "mechanism.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGES = 3000, LIMIT = 300000 };

TEST_EACH(messages_arrive_in_order_between_two_processes, each_variant)
{
    struct link link;
    struct test_gate acknowledged;
    struct naru_channel *ch;
    uint64_t window;
    int pid;

    link_open(&link, index, NULL);
    window = link_window(&link);
    test_gate_init(&acknowledged);
    pid = test_fork();
    if (pid == 0) {
        ch = link_far(&link);
        for (uint64_t i = 0; i < MESSAGES; i++) {
            PUT(&link, ch, i);
            if (i % window == window - 1)
                test_gate_wait(&acknowledged);
        }
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        TAKE(&link, ch, i);
        if (i % window == window - 1)
            test_gate_open(&acknowledged);
    }
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(the_near_end_answers_if_it_can, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char buffer[8];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_DUPLEX)) {
        for (uint64_t i = 0; i < 50; i++) {
            PUT(&link, far, i);
            TAKE(&link, near, i);
            PUT(&link, near, i + 1000);
            TAKE(&link, far, i + 1000);
        }
    } else {
        CHECK_INT(naru_send(near, "four", 4, NARU_NOWAIT), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), link.url);
        CHECK_INT(naru_recv(far, buffer, sizeof buffer, NARU_NOWAIT), -ENOTSUP);
        CHECK_CONTAINS(naru_explain(), link.url);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* Of the messages of one run: the largest there is for the mechanism, unless nothing but our own limit bounds
 * it. */
static size_t largest(struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_OK(naru_channel_info(ch, &info));
    return info.max_message;
}

static void send_sizes(const struct link *link, struct naru_channel *ch, const size_t *sizes, size_t count,
                       struct test_gate *acknowledged)
{
    uint8_t *buffer = malloc(LIMIT + 1);

    CHECK(buffer != NULL);
    for (size_t i = 0; i < count; i++) {
        message_make(link, i, buffer, sizes[i]);
        CHECK_OK(naru_send(ch, buffer, sizes[i], NARU_S(WAIT_LONG_S)));
        test_gate_wait(acknowledged);
    }
    free(buffer);
}

static void receive_sizes(const struct link *link, struct naru_channel *ch, const size_t *sizes, size_t count,
                          struct test_gate *acknowledged)
{
    uint8_t *buffer = malloc(LIMIT + 1), *expected = malloc(LIMIT + 1);

    CHECK(buffer != NULL && expected != NULL);
    for (size_t i = 0; i < count; i++) {
        memset(buffer, 0xee, LIMIT + 1);
        CHECK_INT(CHECK_OK(naru_recv(ch, buffer, LIMIT, NARU_S(WAIT_LONG_S))), sizes[i]);
        message_make(link, i, expected, sizes[i]);
        CHECK(memcmp(buffer, expected, sizes[i]) == 0);
        CHECK_INT(buffer[sizes[i]], 0xee); /* not a byte more was written */
        test_gate_open(acknowledged);
    }
    free(buffer);
    free(expected);
}

TEST_EACH(boundaries_are_kept_from_the_smallest_to_the_largest, each_variant)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct test_gate acknowledged;
    struct naru_channel *ch;
    struct link link;
    size_t max, count = 0, sizes[16];
    int pid;

    options.max_message = LIMIT;
    link_open(&link, index, &options);
    test_gate_init(&acknowledged);
    pid = test_fork();
    ch = pid == 0 ? link_far(&link) : link_near(&link);
    max = largest(ch);
    CHECK(max > 0 && max <= LIMIT);
    CHECK(link.row->max_message == 0 || max <= link.row->max_message || max <= LIMIT);
    if (link_can(&link, NARU_CAN_SEND_EMPTY))
        sizes[count++] = 0;
    for (size_t size = 1; size < max && !(link.variant->traits & FIXED); size = size * 7 + 1)
        sizes[count++] = size;
    if (!(link.variant->traits & FIXED))
        sizes[count++] = max - 1;
    sizes[count++] = max;
    sizes[count++] = link.variant->traits & FIXED ? 4 : 1;
    if (link_can(&link, NARU_CAN_SEND_EMPTY))
        sizes[count++] = 0;
    if (pid == 0) {
        send_sizes(&link, ch, sizes, count, &acknowledged);
        naru_channel_close(ch);
        test_child_end();
    }
    receive_sizes(&link, ch, sizes, count, &acknowledged);
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(what_is_larger_than_the_limit_is_refused_and_nothing_is_lost, each_variant)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *far, *near;
    struct link link;
    uint8_t *buffer = calloc(1, LIMIT + 1);
    size_t max;

    CHECK(buffer != NULL);
    options.max_message = LIMIT;
    link_open(&link, index, &options);
    link_both(&link, &far, &near);
    max = largest(far);
    CHECK(max <= LIMIT);
    message_make(&link, 1, buffer, max + 1);
    CHECK_INT(naru_send(far, buffer, max + 1, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), test_format("%zu", max + 1)); /* both sizes */
    CHECK_CONTAINS(naru_explain(), test_format("%zu", max));
    CHECK_CONTAINS(naru_explain(), link.row->scheme);
    if (!link_can(&link, NARU_CAN_SEND_EMPTY)) {
        int r = naru_send(far, buffer, 0, NARU_NOWAIT);

        CHECK(r == -ENOTSUP || r == -EINVAL);
        CHECK_CONTAINS(naru_explain(), link.url);
    }
    PUT(&link, far, 7);
    TAKE(&link, near, 7);
    free(buffer);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_message_that_does_not_fit_is_kept, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    char small[3];

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    for (uint64_t i = 0; i < 8; i++) {
        size_t size = message_size(&link, i);

        PUT(&link, far, i);
        if (i == 0)
            PUT(&link, far, 100);
        for (int again = 0; again < 2; again++) {
            CHECK_INT(naru_recv(near, small, sizeof small, NARU_S(WAIT_LONG_S)), -EMSGSIZE);
            CHECK_CONTAINS(naru_explain(), test_format("%zu", size));
            CHECK_CONTAINS(naru_explain(), "3");
        }
        TAKE(&link, near, i);
        if (i == 0)
            TAKE(&link, near, 100); /* it had not overtaken */
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(pieces_are_gathered_and_scattered, each_variant)
{
    struct naru_message out = NARU_INIT(struct naru_message), in = NARU_INIT(struct naru_message);
    struct naru_channel *far, *near;
    struct link link;
    char sent[] = "0123456789abcdef", head[2], tail[64] = "";
    bool fixed;
    size_t length;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    fixed = link.variant->traits & FIXED;
    length = fixed ? 4 : 16;
    struct iovec from[] = {{sent, 1}, {NULL, 0}, {sent + 1, 2}, {sent + 3, length - 3}};
    struct iovec to[] = {{head, 2}, {NULL, 0}, {tail, sizeof tail}};
    out.iov = from;
    out.iov_count = 4;
    in.iov = to;
    in.iov_count = 3;
    CHECK_OK(naru_send_message(far, &out, NARU_S(WAIT_LONG_S)));
    CHECK_OK(naru_recv_message(near, &in, NARU_S(WAIT_LONG_S)));
    CHECK_INT(in.length, length);
    CHECK(memcmp(head, sent, 2) == 0);
    CHECK(memcmp(tail, sent + 2, length - 2) == 0);
    CHECK_INT(from[3].iov_len, length - 3); /* a send does not write to the pieces */
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_batch_is_messages, each_variant)
{
    enum { BATCH = 400 }; /* more than a pipe holds: some are cut in the middle */
    struct naru_message messages[BATCH];
    struct iovec pieces[BATCH];
    struct naru_channel *far, *near;
    struct link link;
    uint64_t sent = 0, taken = 0;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    for (size_t i = 0; i < BATCH; i++) {
        pieces[i].iov_len = message_size(&link, i);
        pieces[i].iov_base = malloc(pieces[i].iov_len);
        CHECK(pieces[i].iov_base != NULL);
        message_make(&link, i, pieces[i].iov_base, pieces[i].iov_len);
        messages[i] = (struct naru_message){.size = sizeof *messages, .iov = &pieces[i], .iov_count = 1};
    }
    CHECK_INT(naru_send_batch(far, messages, 0, NARU_NOWAIT), 0);
    while (taken < BATCH) {
        long long r = 1;

        while (r > 0 && sent < BATCH && sent - taken < link_window(&link)) { /* until it is full */
            uint64_t room = BATCH - sent < link_window(&link) ? BATCH - sent : link_window(&link);

            r = naru_send_batch(far, messages + sent, room, NARU_NOWAIT);
            CHECK(r == -EAGAIN || (r > 0 && r <= (long long)room));
            sent += r > 0 ? (uint64_t)r : 0;
        }
        CHECK(sent > taken);
        while (taken < sent) {
            int flushed =
                naru_flush(far, NARU_SENT, NARU_NOWAIT); /* of one that was cut: it counts as sent */

            CHECK(flushed == 0 || flushed == -EAGAIN);
            TAKE(&link, near, taken++);
        }
    }
    for (size_t i = 0; i < BATCH; i++)
        free(pieces[i].iov_base);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(a_loan_is_written_in_place_and_a_view_outlives_the_channel, each_variant)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan), second = NARU_INIT(struct naru_loan);
    struct naru_view first_view = NARU_INIT(struct naru_view), second_view = NARU_INIT(struct naru_view);
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    CHECK_OK(naru_loan(far, MESSAGE_MAX < largest(far) ? MESSAGE_MAX : largest(far), NARU_S(1), &loan));
    CHECK(loan.capacity >= message_size(&link, 5));
    CHECK_INT(naru_loan(far, 4, NARU_S(1), &second), -EBUSY);
    naru_loan_cancel(&loan);
    for (uint64_t i = 5; i < 7; i++) {
        CHECK_OK(naru_loan(far, message_size(&link, i), NARU_S(WAIT_LONG_S), &loan));
        message_make(&link, i, loan.data, message_size(&link, i));
        CHECK_OK(naru_commit(&loan, message_size(&link, i), NULL));
        CHECK_INT(naru_commit(&loan, 1, NULL), -EINVAL); /* it is no longer out */
    }
    CHECK_OK(naru_borrow(near, NARU_S(WAIT_LONG_S), &first_view));
    CHECK_OK(naru_borrow(near, NARU_S(WAIT_LONG_S), &second_view));
    message_check(__FILE__, __LINE__, &link, 5, first_view.data, (long long)first_view.length);
    CHECK_INT(naru_borrow(near, NARU_NOWAIT, &(struct naru_view)NARU_INIT(struct naru_view)), -EAGAIN);
    naru_release(&first_view);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
    message_check(__FILE__, __LINE__, &link, 6, second_view.data, (long long)second_view.length);
    naru_release(&second_view);
    naru_release(&second_view); /* harmless */
}

TEST_EACH(what_went_through_is_counted, each_variant)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_channel *far, *near;
    struct link link;
    uint64_t bytes = 0;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    for (uint64_t i = 0; i < 20; i++) {
        PUT(&link, far, i);
        TAKE(&link, near, i);
        bytes += message_size(&link, i);
    }
    CHECK_OK(naru_channel_info(far, &info));
    CHECK_INT(info.messages_sent, 20);
    CHECK_INT(info.bytes_sent, bytes);
    CHECK_INT(info.messages_received, 0);
    CHECK_STR(info.mechanism->name, link.variant->row);
    CHECK_CONTAINS(info.url, link.row->scheme);
    CHECK_OK(naru_channel_info(near, &info));
    CHECK_INT(info.messages_received, 20);
    CHECK_INT(info.bytes_received, bytes);
    CHECK_INT(info.messages_sent, 0);
    CHECK_INT(info.dropped, 0);
    CHECK_INT(info.exit_status, -1);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}
