/* SPDX-License-Identifier: MIT */
/*
 * Large messages of shm: through the pool: copied once in and once out by naru_send() and naru_recv(), and
 * not at all by loan and borrow; what a full pool means; and peers that die with chunks, or give back or
 * describe what is not there.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

enum { FRAME = 1 << 20, LARGE = 300 * 1000 };

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

static struct shm *inside(struct naru_channel *ch)
{
    return ch->state;
}

/* Frame `number`: its number, again and again. */
static int send_frame(struct naru_channel *ch, uint32_t number, int64_t timeout_ns)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    int r = naru_loan(ch, FRAME, timeout_ns, &loan);

    if (r < 0)
        return r;
    for (size_t i = 0; i < FRAME / sizeof number; i++)
        memcpy((uint8_t *)loan.data + i * sizeof number, &number, sizeof number);
    return naru_commit(&loan, FRAME, NULL);
}

static void check_frame(const struct naru_view *view, uint32_t number)
{
    CHECK_INT(view->length, FRAME);
    for (size_t i = 0; i < FRAME / sizeof number; i++)
        if (memcmp((const uint8_t *)view->data + i * sizeof number, &number, sizeof number) != 0)
            test_fail(__FILE__, __LINE__, "frame %u is another at word %zu", number, i);
}

TEST(what_is_too_large_for_the_ring_goes_by_the_pool_and_nothing_is_reserved_before)
{
    static uint8_t out[LARGE], in[LARGE];
    unsigned char pages[LARGE / 4096 + 1];
    struct naru_channel *ch[2];

    open_pair("shm:", ch);
    CHECK_INT(naru_send(ch[0], out, 1000, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), 1000);
    CHECK_INT(mincore(sealed_pool(&inside(ch[0])->link.own), sizeof pages * 4096, pages), 0);
    for (size_t i = 0; i < sizeof pages; i++)
        CHECK_INT(pages[i] & 1, 0);
    for (int round = 0; round < 300; round++) { /* more than there are tokens */
        memset(out, round, sizeof out);
        CHECK_INT(naru_send(ch[0], out, sizeof out, NARU_FOREVER), 0);
        CHECK_INT(naru_send(ch[0], out, 10, NARU_FOREVER), 0);
        CHECK_INT(naru_recv(ch[1], in, 10, NARU_FOREVER), -EMSGSIZE);
        CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), sizeof out);
        CHECK(memcmp(in, out, sizeof out) == 0);
        CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), 10);
    }
    close_pair(ch);
}

TEST(without_a_pool_half_of_the_ring_is_the_limit)
{
    static uint8_t out[LARGE];
    struct naru_channel *ch[2];

    open_pair("shm:?pool=0", ch);
    CHECK_INT(naru_send(ch[0], out, sizeof out, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "?pool=");
    CHECK_INT(naru_send(ch[0], out, 128 * 1024 - 16, NARU_NOWAIT), 0);
    close_pair(ch);
}

TEST(frames_are_held_out_of_order_while_the_sender_goes_on)
{
    enum { FRAMES = 200, HELD = 6 };
    struct naru_view held[HELD];
    uint32_t numbers[HELD];
    struct naru_channel *ch[2];
    int pid;

    open_pair("shm:?pool=8M", ch);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        for (uint32_t i = 0; i < FRAMES; i++)
            CHECK_INT(send_frame(ch[0], i, NARU_S(60)), 0);
        ch[0] = naru_channel_close(ch[0]);
        test_child_end();
    }
    ch[0] = naru_channel_close(ch[0]);
    memset(held, 0, sizeof held);
    for (uint32_t i = 0; i < FRAMES; i++) {
        size_t k = i < HELD ? i : test_random() % HELD;

        if (held[k].data)
            check_frame(&held[k], numbers[k]);
        naru_release(&held[k]);
        held[k].size = sizeof held[k];
        CHECK_INT(naru_borrow(ch[1], NARU_S(60), &held[k]), 0);
        numbers[k] = i;
    }
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &(struct naru_view)NARU_INIT(struct naru_view)), -EPIPE);
    test_join(pid);
    ch[1] = naru_channel_close(ch[1]);
    for (size_t k = 0; k < HELD; k++) { /* they outlive both ends */
        check_frame(&held[k], numbers[k]);
        naru_release(&held[k]);
    }
}

TEST(a_full_pool_holds_up_large_messages_and_a_release_lets_them_go_on)
{
    struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};
    struct naru_channel *ch[2];
    struct test_gate polls;
    char small[4];
    int fd, pid, r;

    test_gate_init(&polls);
    open_pair("shm:?pool=2M&wait=sleep", ch);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        CHECK_INT(send_frame(ch[0], 0, NARU_NOWAIT), 0);
        CHECK_INT(send_frame(ch[0], 1, NARU_NOWAIT), 0);
        CHECK_INT(send_frame(ch[0], 2, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(send_frame(ch[0], 2, NARU_MS(1)), -ETIMEDOUT);
        CHECK_INT(naru_send(ch[0], "abcd", 4, NARU_NOWAIT), 0); /* the ring has room */
        CHECK_INT(send_frame(ch[0], 2, NARU_FOREVER), 0);
        fd = naru_channel_fd(ch[0]);
        CHECK_INT(send_frame(ch[0], 3, NARU_NOWAIT), -EAGAIN);
        test_gate_open(&polls);
        do /* it may be woken for too little */
            CHECK_INT(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 60000), 1);
        while ((r = send_frame(ch[0], 3, NARU_NOWAIT)) == -EAGAIN);
        CHECK_INT(r, 0);
        ch[0] = naru_channel_close(ch[0]);
        test_child_end();
    }
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &views[0]), 0);
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &views[1]), 0);
    CHECK_INT(naru_recv(ch[1], small, sizeof small, NARU_S(60)), 4);
    test_wait_asleep(pid);
    naru_release(&views[1]);
    views[1].size = sizeof views[1];
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &views[1]), 0);
    check_frame(&views[0], 0);
    check_frame(&views[1], 2);
    test_gate_wait(&polls);
    test_wait_asleep(pid);
    naru_release(&views[0]);
    views[0].size = sizeof views[0];
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &views[0]), 0);
    check_frame(&views[0], 3);
    naru_release(&views[0]);
    naru_release(&views[1]);
    test_join(pid);
    ch[1] = naru_channel_close(ch[1]);
}

TEST(messages_overtake_a_loan_in_the_pool_and_it_may_be_cancelled)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan), second = NARU_INIT(struct naru_loan);
    static char in[LARGE];
    struct naru_channel *ch[2];

    open_pair("shm:?pool=512k", ch);
    CHECK_INT(naru_loan(ch[0], LARGE, NARU_NOWAIT, &loan), 0);
    CHECK_INT(naru_loan(ch[0], 1, NARU_NOWAIT, &second), -EBUSY);
    CHECK_INT(naru_send(ch[0], "abcd", 4, NARU_FOREVER), 0);
    CHECK_INT(naru_send(ch[0], in, sizeof in, NARU_NOWAIT), -EAGAIN);
    naru_loan_cancel(&loan);
    CHECK_INT(naru_loan(ch[0], LARGE, NARU_NOWAIT, &loan), 0);
    memset(loan.data, 5, 10);
    CHECK_INT(naru_commit(&loan, 10, NULL), 0);
    CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), 4);
    CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), 10);
    CHECK_INT(in[9], 5);
    close_pair(ch);
}

TEST(a_sender_that_waits_for_chunks_of_a_killed_receiver_is_told)
{
    struct naru_channel *ch[2];
    struct test_gate holding;
    int pid;

    open_pair("shm:?pool=2M&wait=sleep", ch);
    test_gate_init(&holding);
    pid = test_fork();
    if (pid == 0) {
        struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};

        ch[0] = naru_channel_close(ch[0]);
        for (int i = 0; i < 2; i++)
            CHECK_INT(naru_borrow(ch[1], NARU_S(60), &views[i]), 0);
        test_gate_open(&holding);
        for (;;)
            pause();
    }
    ch[1] = naru_channel_close(ch[1]);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_INT(send_frame(ch[0], i, NARU_S(60)), 0);
    test_gate_wait(&holding);
    CHECK_INT(send_frame(ch[0], 2, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(kill(pid, SIGKILL), 0);
    CHECK_INT(send_frame(ch[0], 2, NARU_FOREVER), -EPIPE);
    test_kill(pid);
    ch[0] = naru_channel_close(ch[0]);
}

TEST(a_view_stays_whole_when_its_sender_is_killed)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    int pid;

    open_pair("shm:", ch);
    pid = test_fork();
    if (pid == 0) {
        ch[1] = naru_channel_close(ch[1]);
        CHECK_INT(send_frame(ch[0], 7, NARU_S(60)), 0);
        for (;;)
            pause();
    }
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_borrow(ch[1], NARU_S(60), &view), 0);
    test_kill(pid);
    CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &(struct naru_view)NARU_INIT(struct naru_view)), -EPIPE);
    check_frame(&view, 7);
    ch[1] = naru_channel_close(ch[1]);
    naru_release(&view);
}

/* --- hostile peers: what each writes is in its own memory --- */

static void check_sender_refuses(void (*forge)(struct naru_channel *receiver, uint32_t token))
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    uint32_t number = 1;
    int r;

    open_pair("shm:", ch);
    CHECK_INT(send_frame(ch[0], 0, NARU_NOWAIT), 0);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), 0);
    forge(ch[1], inside(ch[1])->views[0].token);
    while ((r = send_frame(ch[0], number, NARU_NOWAIT)) == 0 && number < 2 * POOL_TURN)
        number++; /* until it looks what came back */
    CHECK_INT(r, -EPROTO);
    CHECK_INT(naru_send(ch[0], "x", 1, NARU_FOREVER), -EPROTO);
    naru_release(&view);
    close_pair(ch);
}

static void return_twice(struct naru_channel *receiver, uint32_t token)
{
    pool_return(&inside(receiver)->their_pool, token);
    pool_return(&inside(receiver)->their_pool, token);
}

static void return_a_guess(struct naru_channel *receiver, uint32_t token)
{
    pool_return(&inside(receiver)->their_pool, token + 1);
}

TEST(a_receiver_that_gives_back_what_it_has_not_is_refused)
{
    check_sender_refuses(return_twice);
    check_sender_refuses(return_a_guess);
}

static void check_receiver_refuses(const struct shm_chunk *chunk, unsigned kind, uint32_t length)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    uint8_t *payload = NULL;
    char in[100];

    open_pair("shm:?pool=1M", ch);
    CHECK_INT(naru_send(ch[0], "x", 1, NARU_FOREVER), 0);
    CHECK_INT(ring_reserve(&inside(ch[0])->link.tx, sizeof *chunk, &payload), RING_OK);
    memcpy(payload, chunk, sizeof *chunk);
    ring_commit(&inside(ch[0])->link.tx, (enum record_kind)kind, length);
    CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), 1);
    CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &view), -EPROTO);
    CHECK_INT(naru_recv(ch[1], in, sizeof in, NARU_FOREVER), -EPROTO);
    close_pair(ch);
}

TEST(a_sender_that_describes_what_is_not_there_is_refused)
{
    const struct shm_chunk right = {10, 0}, wrong[] = {{1, 1 << 20},
                                                       {(1 << 20) + 1, 0},
                                                       {1 << 20, 4096},
                                                       {4096, UINT32_MAX},
                                                       {UINT32_MAX, UINT32_MAX}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_receiver_refuses(&wrong[i], RECORD_CHUNK, sizeof *wrong);
    check_receiver_refuses(&right, RECORD_CHUNK, sizeof right - 4);
    check_receiver_refuses(&right, RECORD_CHUNK, sizeof right + 4);
    check_receiver_refuses(&right, RECORD_CHUNK + 1, sizeof right);
}

TEST(a_description_of_more_than_is_taken_costs_nothing)
{
    static const struct shm_chunk chunk = {FRAME, 0};
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    unsigned char pages[FRAME / 4096];
    uint8_t *payload = NULL;

    options.max_message = FRAME - 1;
    CHECK_INT(naru_channel_pair("shm:", &options, ch), 0);
    CHECK_INT(ring_reserve(&inside(ch[0])->link.tx, sizeof chunk, &payload), RING_OK);
    memcpy(payload, &chunk, sizeof chunk);
    ring_commit(&inside(ch[0])->link.tx, RECORD_CHUNK, sizeof chunk);
    CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &view), -EMSGSIZE);
    CHECK_INT(mincore(sealed_pool(&inside(ch[0])->link.own), FRAME, pages), 0);
    for (size_t i = 0; i < sizeof pages; i++)
        CHECK_INT(pages[i] & 1, 0);
    close_pair(ch);
}

TEST(a_child_releases_views_of_a_channel_that_its_parent_has_closed)
{
    static const char small[8], large[LARGE] = {[LARGE - 1] = 'x'};
    struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};
    struct naru_channel *ch[2];
    int pid;

    open_pair("shm:", ch);
    CHECK_INT(naru_send(ch[0], small, sizeof small, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(ch[0], large, sizeof large, NARU_NOWAIT), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_borrow(ch[1], NARU_NOWAIT, &views[i]), 0);
    ch[1] = naru_channel_close(ch[1]);
    pid = test_fork();
    if (pid == 0) { /* no call before these has told naru that this is a child */
        naru_release(&views[0]);
        naru_release(&views[1]);
        close_pair(ch);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(((const char *)views[1].data)[LARGE - 1], 'x');
    for (int i = 0; i < 2; i++)
        naru_release(&views[i]);
    close_pair(ch);
}
