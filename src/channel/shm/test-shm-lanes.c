/* SPDX-License-Identifier: MIT */
/*
 * Lanes of shm: what is sent with a higher priority is received first, in order within each; a full lane
 * holds up no other; loans, views, batches, stages and ends know all of them; and peers that write nonsense
 * into one of them.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

enum { SMALL = 100, LARGE = 3000 }; /* more than half of a ring of 4 KiB: goes by the pool */

static char bytes[LARGE];

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

/* Sends `size` bytes that begin with the number. */
static int put(struct naru_channel *ch, unsigned priority, uint32_t number, size_t size, int64_t timeout_ns)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {bytes, size};

    memcpy(bytes, &number, sizeof number);
    m.iov = &piece;
    m.iov_count = 1;
    m.priority = priority;
    return naru_send_message(ch, &m, timeout_ns);
}

static void expect(struct naru_channel *ch, unsigned priority, uint32_t number, int64_t timeout_ns)
{
    static char buffer[LARGE];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {buffer, sizeof buffer};
    uint32_t got;

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_recv_message(ch, &m, timeout_ns), 0);
    memcpy(&got, buffer, sizeof got);
    CHECK_INT(got, number);
    CHECK_INT(m.priority, priority);
}

TEST(the_highest_comes_first_and_each_lane_in_order)
{
    struct naru_channel *ch[2];

    open_pair("shm:?lanes=8&ring=4k&pool=256k", ch);
    for (uint32_t i = 0; i < 40; i++) /* small ones and such of the pool, in every lane */
        CHECK_INT(put(ch[0], i * 5 % 8, i, i % 3 ? SMALL : LARGE, NARU_NOWAIT), 0);
    for (unsigned priority = 8; priority-- > 0;)
        for (uint32_t i = 0; i < 40; i++)
            if (i * 5 % 8 == priority)
                expect(ch[1], priority, i, NARU_NOWAIT);
    CHECK_INT(naru_recv(ch[1], bytes, sizeof bytes, NARU_NOWAIT), -EAGAIN);
    close_pair(ch);
}

TEST(a_priority_without_a_lane_is_refused)
{
    static const char *const urls[] = {"shm:", "shm:?lanes=3"};

    for (unsigned i = 0; i < 2; i++) {
        struct naru_loan loan = NARU_INIT(struct naru_loan);
        struct naru_message meta = NARU_INIT(struct naru_message);
        struct naru_channel *ch[2];

        open_pair(urls[i], ch);
        meta.priority = i ? 3 : 1;
        CHECK_INT(put(ch[0], meta.priority, 1, SMALL, NARU_NOWAIT), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "lanes=");
        meta.iov = &(struct iovec){bytes, 8};
        meta.iov_count = 1;
        CHECK_INT(naru_send_batch(ch[0], &meta, 1, NARU_NOWAIT), -EINVAL);
        CHECK_INT(naru_loan(ch[0], 8, NARU_NOWAIT, &loan), 0);
        CHECK_INT(naru_commit(&loan, 8, &meta), -EINVAL);
        CHECK(loan.data); /* it is out until it is committed otherwise */
        naru_loan_cancel(&loan);
        CHECK_INT(put(ch[0], i ? 2 : 0, 1, SMALL, NARU_NOWAIT), 0);
        expect(ch[1], i ? 2 : 0, 1, NARU_NOWAIT);
        CHECK_INT(naru_recv(ch[1], bytes, sizeof bytes, NARU_NOWAIT), -EAGAIN);
        close_pair(ch);
    }
    CHECK_INT(naru_channel_pair("shm:?lanes=9", NULL, (struct naru_channel *[2]){NULL, NULL}), -EINVAL);
    CHECK_INT(naru_channel_pair("shm:?lanes=0", NULL, (struct naru_channel *[2]){NULL, NULL}), -EINVAL);
}

static void *drain_lane_0(void *end)
{
    for (uint32_t i = 0; i < 2000; i++)
        expect(end, 0, i, NARU_FOREVER);
    return NULL;
}

TEST(a_full_lane_holds_up_no_other_and_room_in_it_wakes)
{
    struct naru_channel *ch[2];
    pthread_t thread;
    uint32_t sent = 0;

    open_pair("shm:?lanes=2&ring=4k&wait=sleep", ch);
    while (put(ch[0], 0, sent, SMALL, NARU_NOWAIT) == 0)
        sent++;
    CHECK_INT(put(ch[0], 0, sent, SMALL, NARU_MS(1)), -ETIMEDOUT);
    for (uint32_t i = 0; i < 200; i++) {
        CHECK_INT(put(ch[0], 1, i, SMALL, NARU_FOREVER), 0);
        expect(ch[1], 1, i, NARU_FOREVER);
    }
    CHECK_INT(naru_send(ch[0], bytes, SMALL, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(pthread_create(&thread, NULL, drain_lane_0, ch[1]), 0);
    for (; sent < 2000; sent++)
        CHECK_INT(put(ch[0], 0, sent, SMALL, sent % 2 ? NARU_FOREVER : NARU_S(60)), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    close_pair(ch);
}

static void *take_any(void *end)
{
    uint32_t next[4] = {0, 0, 0, 0};

    for (int i = 0; i < 4000; i++) {
        struct naru_view view = NARU_INIT(struct naru_view);
        uint32_t number;

        CHECK_INT(naru_borrow(end, NARU_FOREVER, &view), 0);
        memcpy(&number, view.data, sizeof number);
        CHECK_INT(number, next[view.priority]++);
        naru_release(&view);
    }
    CHECK_INT(naru_recv(end, bytes, 1, NARU_FOREVER), -EPIPE);
    return NULL;
}

/* Asleep or about to be: a message in any lane wakes, and none is passed over by the end. */
TEST(a_receiver_is_woken_by_every_lane)
{
    static const char *const urls[] = {"shm:?lanes=4&ring=4k&wait=sleep", "shm:?lanes=4&ring=4k"};

    for (int round = 0; round < 2; round++) {
        struct naru_channel *ch[2];
        uint32_t next[4] = {0, 0, 0, 0};
        pthread_t thread;

        open_pair(urls[round], ch);
        CHECK_INT(pthread_create(&thread, NULL, take_any, ch[1]), 0);
        for (int i = 0; i < 4000; i++) {
            unsigned priority = (unsigned)(test_random() % 4);

            CHECK_INT(put(ch[0], priority, next[priority]++, 8, NARU_FOREVER), 0);
            if (i % 5 == 0)
                CHECK_INT(naru_flush(ch[0], i % 2 ? NARU_DONE : NARU_TAKEN, NARU_FOREVER), 0);
        }
        CHECK_INT(naru_channel_finish(ch[0]), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        close_pair(ch);
    }
}

TEST(views_of_all_lanes_count_for_the_stages)
{
    struct naru_view views[3];
    struct naru_channel *ch[2];

    open_pair("shm:?lanes=3&ring=4k", ch);
    for (unsigned i = 0; i < 3; i++)
        CHECK_INT(put(ch[0], i, i, SMALL, NARU_NOWAIT), 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
        views[i] = (struct naru_view)NARU_INIT(struct naru_view);
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i]), 0);
        CHECK_INT(views[i].priority, 2 - i);
    }
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), -EAGAIN);
        naru_release(&views[(i + 1) % 3]);
    }
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
    close_pair(ch);
}

TEST(a_loan_goes_by_the_lane_that_its_commit_names)
{
    static const size_t sizes[] = {SMALL, LARGE};

    for (int i = 0; i < 2; i++) {
        struct naru_loan loan = NARU_INIT(struct naru_loan);
        struct naru_message meta = NARU_INIT(struct naru_message);
        struct naru_channel *ch[2];
        uint32_t number = 77;

        open_pair("shm:?lanes=2&ring=4k&pool=64k", ch);
        CHECK_INT(put(ch[0], 0, 1, SMALL, NARU_NOWAIT), 0);
        CHECK_INT(naru_loan(ch[0], sizes[i], NARU_NOWAIT, &loan), 0);
        memcpy(loan.data, &number, sizeof number);
        CHECK_INT(put(ch[0], 1, 2, SMALL, NARU_NOWAIT), 0); /* another lane is free meanwhile */
        meta.priority = 1;
        CHECK_INT(naru_commit(&loan, sizes[i], &meta), 0);
        CHECK_INT(put(ch[0], 0, 3, SMALL, NARU_NOWAIT), 0);
        expect(ch[1], 1, 2, NARU_NOWAIT);
        expect(ch[1], 1, 77, NARU_NOWAIT);
        expect(ch[1], 0, 1, NARU_NOWAIT);
        expect(ch[1], 0, 3, NARU_NOWAIT);
        close_pair(ch);
    }
}

TEST(a_batch_goes_by_runs_of_one_priority_and_descriptors_by_none)
{
    static const unsigned priorities[] = {0, 0, 1, 1, 1, 0};
    struct naru_message m[6];
    uint32_t numbers[6];
    struct iovec pieces[6];
    struct naru_channel *ch[2];
    int fd = 0;

    open_pair("shm:?lanes=2", ch);
    for (unsigned i = 0; i < 6; i++) {
        numbers[i] = i;
        pieces[i] = (struct iovec){&numbers[i], sizeof *numbers};
        m[i] = (struct naru_message)NARU_INIT(struct naru_message);
        m[i].iov = &pieces[i];
        m[i].iov_count = 1;
        m[i].priority = priorities[i];
    }
    CHECK_INT(naru_send_batch(ch[0], m, 6, NARU_NOWAIT), 2);
    CHECK_INT(naru_send_batch(ch[0], m + 2, 4, NARU_NOWAIT), 3);
    CHECK_INT(naru_send_batch(ch[0], m + 5, 1, NARU_NOWAIT), 1);
    for (uint32_t i = 2; i < 5; i++)
        expect(ch[1], 1, i, NARU_NOWAIT);
    for (uint32_t i = 0; i < 6; i += i == 1 ? 4 : 1)
        expect(ch[1], 0, i, NARU_NOWAIT);
    m[2].fds = &fd;
    m[2].fd_count = 1;
    CHECK_INT(naru_send_message(ch[0], &m[2], NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "descriptors");
    close_pair(ch);
}

static void *connect_thread(void *url)
{
    struct naru_channel *ch = NULL;
    int r = naru_connect(url, NULL, NARU_S(60), &ch);

    if (r < 0)
        test_fail(__FILE__, __LINE__, "naru_connect: %d: %s", r, naru_explain());
    return ch;
}

/* Each side says how many it has. */
TEST(the_two_sides_may_have_different_lanes)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("shm://%s?lanes=4", path);
    struct naru_listener *l;
    struct naru_channel *near;
    pthread_t thread;
    void *far;

    CHECK_INT(naru_listen(test_format("shm://%s", path), NULL, &l), 0);
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t)url), 0);
    CHECK_INT(naru_accept(l, NARU_S(60), &near), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    CHECK_INT(put(far, 0, 1, SMALL, NARU_NOWAIT), 0);
    CHECK_INT(put(far, 3, 2, SMALL, NARU_NOWAIT), 0);
    expect(near, 3, 2, NARU_S(60));
    expect(near, 0, 1, NARU_S(60));
    CHECK_INT(put(near, 1, 1, SMALL, NARU_NOWAIT), -EINVAL);
    CHECK_INT(put(near, 0, 5, SMALL, NARU_NOWAIT), 0);
    expect(far, 0, 5, NARU_S(60));
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- nonsense in one lane --- */

TEST(nonsense_in_any_lane_is_a_protocol_error)
{
    for (unsigned lane = 0; lane < 3; lane++)
        for (int what = 0; what < 3; what++) {
            struct naru_channel *ch[2];
            struct shm_link *l;
            struct ring_writer *tx;
            int r;

            open_pair("shm:?lanes=3&ring=4k", ch);
            l = &((struct shm *)ch[1]->state)->link;
            tx = shm_link_tx(l, lane);
            if (what == 0)
                atomic_store(ring_header(tx->data, tx->mask, tx->position), 99);
            else if (what == 1)
                atomic_store(&l->page->lane[lane].taken, 8000);
            else
                atomic_store(&l->page->lane[lane].received, 8000);
            r = what == 0 ? naru_flush(ch[0], NARU_SENT, NARU_NOWAIT) : put(ch[0], lane, 1, 8, NARU_NOWAIT);
            CHECK(r == 0 || r == -EPROTO);
            CHECK_INT(what == 0 ? (int)naru_recv(ch[0], bytes, sizeof bytes, NARU_FOREVER)
                                : naru_flush(ch[0], NARU_TAKEN, NARU_FOREVER),
                      -EPROTO);
            CHECK_INT(put(ch[0], 0, 1, SMALL, NARU_FOREVER), -EPROTO);
            close_pair(ch);
        }
}

/* A ring of good headers in every lane, and nobody behind them: it ends. */
TEST(lanes_that_go_round_for_ever_end_with_their_writer)
{
    struct naru_channel *ch[2];
    struct shm_link *l;
    long long r = 0;
    int count = 0;

    open_pair("shm:?lanes=3&ring=4k", ch);
    l = &((struct shm *)ch[1]->state)->link;
    for (unsigned lane = 0; lane < 3; lane++)
        for (uint64_t at = 0; at < 4096; at += 16)
            atomic_store(ring_header(shm_link_tx(l, lane)->data, 4095, at), record_word(RECORD_DATA, 8));
    ch[1] = naru_channel_close(ch[1]);
    ((struct shm *)ch[0]->state)->asked = 1; /* as after 4 GiB: it is asked for */
    while (r >= 0 && count++ < 10000)
        r = naru_recv(ch[0], bytes, sizeof bytes, NARU_NOWAIT);
    CHECK_INT(r, -EPROTO);
    CHECK(count <= 3 * 4096 / 16 + 2);
    close_pair(ch);
}
