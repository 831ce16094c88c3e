/* SPDX-License-Identifier: MIT */
/* What a lost connection leaves to a channel that connects again: messages, views, loans and counts; and to a
 * child that adopts it. */
#include "reconnect.h"

TEST_EACH(what_the_old_connection_brought_is_received_before_the_new, each_near_way)
{
    for (int in_place = 0; in_place < 2; in_place++) {
        const char *url = url_of(index);
        struct test_gate leave;
        struct naru_channel *ch;
        int server, r = 0;

        test_gate_init(&leave);
        server = start_speaker(url, &leave);
        ch = join(url, NARU_FOREVER, 0);
        hear(ch, "one", in_place); /* so the others have been sent soon */
        test_gate_open(&leave);
        test_join(server);
        while (r == 0)
            r = naru_send(ch, "x", 1, patience);
        CHECK(is_end(r));
        server = start_server(url, 0);
        CHECK_OK(naru_send(ch, "new", 3, patience));
        CHECK_INT(reconnects(ch), 1);
        hear(ch, "three", in_place);
        hear(ch, "two", in_place);
        hear(ch, "new", in_place);
        ask(ch, "again");
        naru_channel_close(ch);
        test_join(server);
    }
}

TEST(what_cannot_be_borrowed_of_the_old_connection_can_be_received)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    const char *url = url_of(0);
    struct test_gate leave;
    struct naru_channel *ch;
    int server, r;
    char buf[8];

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(test_format("%s?max-message=4", url), NARU_FOREVER, 0);
    test_gate_open(&leave);
    test_join(server);
    while ((r = naru_send(ch, "gone", 4, patience)) == 0)
        ;
    CHECK_INT(r, -EPIPE);
    hear(ch, "one", true);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_borrow(ch, NARU_NOWAIT, &view), -EMSGSIZE);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 5);
    CHECK(memcmp(buf, "three", 5) == 0);
    hear(ch, "two", true);
    naru_channel_close(ch);
}

/* A message that is too large for this end is not the last. A stream's would be: it cannot be passed over. */
TEST_EACH(what_nobody_received_before_a_second_loss_is_counted, each_near_way)
{
    bool limited = strcmp(ways[index].name, "unix-stream") != 0;
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    const char *url = url_of(index);
    struct test_gate leave;
    struct naru_channel *ch;
    int server;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(limited ? test_format("%s%cmax-message=3", url, strchr(url, '?') ? '&' : '?') : url,
              NARU_FOREVER, 0);
    test_gate_open(&leave);
    test_join(server);
    send_until_the_end(ch);
    server = start_server(url, 1);
    CHECK_OK(naru_send(ch, "new", 3, patience));
    CHECK_INT(reconnects(ch), 1);
    test_join(server);
    send_until_the_end(ch);
    CHECK_OK(naru_channel_info(ch, &info));
    CHECK_INT(info.dropped, 3);
    hear(ch, "new", false);
    naru_channel_close(ch);
}

/* However large it is. */
TEST_EACH(a_large_message_that_nobody_received_is_counted_with_the_others, each_near_way)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    static const char large[100 * 1000];
    const char *url = url_of(index);
    struct naru_channel *far, *near;
    struct naru_listener *l;

    CHECK_OK(naru_listen(url, NULL, &l));
    far = join(url, NARU_FOREVER, 0);
    CHECK_OK(naru_accept(l, patience, &near));
    CHECK_OK(naru_send(near, "one", 3, patience));
    CHECK_OK(naru_send(near, large, sizeof large, patience));
    CHECK_OK(naru_send(near, "two", 3, patience));
    naru_channel_close(near);
    send_until_the_end(far);
    CHECK_OK(naru_send(far, "new", 3, patience));
    CHECK_OK(naru_accept(l, patience, &near));
    naru_channel_close(near);
    send_until_the_end(far);
    CHECK_OK(naru_channel_info(far, &info));
    CHECK_INT(info.dropped, 3);
    naru_channel_close(far);
    naru_listener_close(l);
}

/* There is place for one lost connection: the one that a loan is of. */
TEST(what_is_lost_beside_a_loan_of_an_older_connection_is_counted)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    const char *url = url_of(0);
    struct naru_channel *far, *near;
    struct naru_listener *l;
    char buf[8];

    CHECK_OK(naru_listen(url, NULL, &l));
    far = join(url, NARU_FOREVER, 0);
    CHECK_OK(naru_loan(far, 100, patience, &loan));
    CHECK_OK(naru_accept(l, patience, &near));
    naru_channel_close(near);
    CHECK(is_end(naru_recv(far, buf, sizeof buf, patience)));
    while (reconnects(far) == 0)
        CHECK_INT(naru_recv(far, buf, sizeof buf, NARU_MS(50)), -ETIMEDOUT);
    CHECK_OK(naru_accept(l, patience, &near));
    CHECK_OK(naru_send(near, "one", 3, patience));
    CHECK_OK(naru_send(near, "two", 3, patience));
    naru_channel_close(near);
    send_until_the_end(far);
    CHECK_OK(naru_channel_info(far, &info));
    CHECK_INT(info.dropped, 2);
    memset(loan.data, 'x', loan.capacity); /* its place is still there */
    CHECK_INT(naru_commit(&loan, 3, NULL), -EPIPE);
    naru_channel_close(far);
    naru_listener_close(l);
}

TEST_EACH(a_view_of_the_old_connection_stays_valid, each_way)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    char buf[8];

    CHECK_OK(naru_send(ch, "keep", 4, patience));
    CHECK_OK(naru_borrow(ch, patience, &view));
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    server = start_server(url, 0);
    ask(ch, "other");
    CHECK(view.length == 4 && memcmp(view.data, "keep", 4) == 0);
    naru_release(&view);
    ask(ch, "another");
    naru_channel_close(ch);
    test_join(server);
}

/* small: in the ring; else in the pool. */
static void loan_over_a_loss(size_t way, size_t length, bool commits)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    const char *url = url_of(way);
    struct test_gate leave;
    struct naru_channel *ch;
    char buf[8];
    int server, r;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(url, NARU_FOREVER, 0);
    hear(ch, "one", false);
    hear(ch, "three", false);
    hear(ch, "two", false);
    CHECK_OK(naru_loan(ch, length, patience, &loan));
    test_gate_open(&leave);
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    server = start_server(url, 0);
    memset(loan.data, 'x', length); /* its place is still there */
    if (commits) {
        r = naru_commit(&loan, 3, NULL);
        CHECK_INT(r, strncmp(ways[way].name, "shm", 3) == 0
                         ? -EPIPE
                         : 0); /* elsewhere it was a buffer of ours: sent to the next */
        if (r == 0)
            CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 3);
    } else {
        naru_loan_cancel(&loan);
    }
    ask(ch, "second");
    CHECK_OK(naru_loan(ch, 6, patience, &loan));
    memcpy(loan.data, "loaned", 6);
    CHECK_OK(naru_commit(&loan, 6, NULL));
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 6);
    naru_channel_close(ch);
    test_join(server);
}

TEST_EACH(a_loan_of_the_old_connection_is_not_sent_on_the_new, each_way)
{
    for (int i = 0; i < 4; i++)
        loan_over_a_loss(index, i & 1 ? 100 : index == 0 ? 190 * 1000 : 100 * 1000, i & 2);
}

/* Where a loan is a place of the connection's. The commit itself is told of the end. */
TEST(a_commit_that_finds_the_end_leaves_the_next_connection_its_own_loans)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    const char *url = url_of(0);
    struct test_gate leave;
    struct naru_channel *ch;
    char buf[8];
    int server;

    for (size_t length = 100; length <= 190 * 1000; length *= 1900) { /* in the ring; in the pool */
        test_gate_init(&leave);
        server = start_speaker(url, &leave);
        ch = join(url, NARU_FOREVER - 1, 0); /* which is as good */
        CHECK_OK(naru_loan(ch, length, patience, &loan));
        test_gate_open(&leave);
        test_join(server);
        CHECK_INT(naru_commit(&loan, 3, NULL), -EPIPE);
        CHECK_CONTAINS(naru_explain(), "the next call connects again");
        server = start_server(url, 0);
        hear(ch, "one", false); /* which had come before the end */
        hear(ch, "three", false);
        hear(ch, "two", false);
        CHECK_OK(naru_loan(ch, 6, patience, &loan));
        memcpy(loan.data, "loaned", 6);
        CHECK_OK(naru_commit(&loan, 6, NULL));
        CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 6);
        ask(ch, "second");
        naru_channel_close(ch);
        test_join(server);
    }
}

/* --- another process goes on with it --- */

static struct naru_channel *join_to_be_adopted(const char *url)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.reconnect_ns = NARU_FOREVER;
    options.keep_on_fork = 1;
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    return ch;
}

TEST_EACH(an_adopted_channel_connects_again, each_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 2), child;
    struct naru_channel *ch = join_to_be_adopted(url);
    struct test_gate adopted;
    char buf[8];

    test_gate_init(&adopted);
    ask(ch, "x");
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        test_gate_open(&adopted);
        for (int i = 0; i < 2; i++) {
            ask(ch, "y");
            CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
        }
        ask(ch, "z");
        naru_channel_close(ch);
        test_child_end();
    }
    test_gate_wait(&adopted); /* shm+sysv: whose seat nobody else has is free when it is closed */
    naru_channel_close(ch);
    for (int i = 1; i >= 0; i--) {
        test_join(server);
        server = start_server(url, i);
    }
    test_join(child);
    test_join(server);
}

/* Lost by the parent, whose child adopts it then; or by the child. */
static void drain_in_child(size_t way, bool before)
{
    const char *url = url_of(way);
    struct test_gate leave;
    struct naru_channel *ch;
    int server, child;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join_to_be_adopted(url);
    test_gate_open(&leave);
    test_join(server);
    if (before)
        send_until_the_end(ch);
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        if (!before)
            send_until_the_end(ch);
        server = start_server(url, 0);
        CHECK_OK(naru_send(ch, "new", 3, patience));
        hear(ch, "one", false);
        hear(ch, "three", true);
        hear(ch, "two", false);
        hear(ch, "new", false);
        naru_channel_close(ch);
        test_join(server);
        test_child_end();
    }
    test_join(child);
    naru_channel_close(ch);
}

TEST_EACH(an_adopted_channel_brings_what_its_old_connection_brought, each_near_way)
{
    drain_in_child(index, true);
    drain_in_child(index, false);
}

/* Sleeps until its descriptor is ready, and calls. The end of the one who greeted before may come first. */
static void be_greeted(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);
    ssize_t n;

    item.channel = ch;
    do {
        char buf[8];

        CHECK_INT(naru_wait_any(&item, 1, patience), 1);
        n = naru_recv(ch, buf, sizeof buf, NARU_NOWAIT);
    } while (n == -EAGAIN || is_end(n));
    CHECK_INT(n, 3);
}

TEST_EACH(an_adopted_channel_wakes_its_loop_to_connect_again, each_polled_way)
{
    const char *url = url_of(index);
    int server = start_greeter(url), child;
    struct naru_channel *ch = join_to_be_adopted(url);
    struct test_gate greeted;

    test_gate_init(&greeted);
    CHECK_OK(naru_channel_fd(ch));
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        for (int i = 0; i < 3; i++) {
            be_greeted(ch);
            test_gate_open(&greeted);
        }
        naru_channel_close(ch);
        test_child_end();
    }
    naru_channel_close(ch);
    for (int i = 0; i < 3; i++) {
        test_gate_wait(&greeted);
        test_kill(server);
        if (i < 2)
            server = start_greeter(url);
    }
    test_join(child);
    remove_name(url);
}
