/* SPDX-License-Identifier: MIT */
/*
 * One side of a channel over shared memory is killed at every point that the other could notice
 * (killpoints.h): every message whose commit had happened arrives whole and in order and none twice, then the
 * end; nobody hangs, nothing is left behind.
 */
#include "killpoints-shm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

/* --- victims --- */

static void send_all(struct kill_run *run, struct naru_channel *ch, int64_t timeout)
{
    for (int i = 0; i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);

        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_send(ch, message, length, timeout), 0);
        run->done = (uint64_t)i + 1;
    }
}

static void sends(struct kill_run *run, struct naru_channel *ch)
{
    send_all(run, ch, NARU_FOREVER);
    CHECK_INT(naru_channel_finish(ch), 0);
    naru_channel_close(ch);
}

static void sends_in_time(struct kill_run *run, struct naru_channel *ch)
{
    send_all(run, ch, NARU_S(60));
    naru_channel_close(ch);
}

/* As many descriptors as the message's number says. */
static void sends_descriptors(struct kill_run *run, struct naru_channel *ch)
{
    const int fds[4] = {0, 0, 0, 0};

    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece;

        piece.iov_base = (void *)(uintptr_t)message_of(run->scenario->first + (uint64_t)i, &piece.iov_len);
        m.iov = &piece;
        m.iov_count = 1;
        m.fds = (int *)(uintptr_t)fds;
        m.fd_count = descriptors_of(run->scenario->first + (uint64_t)i);
        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_send_message(ch, &m, NARU_FOREVER), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* From the highest down, so that all is received in the order in which it was sent. */
static void sends_in_lanes(struct kill_run *run, struct naru_channel *ch)
{
    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece;

        piece.iov_base = (void *)(uintptr_t)message_of(run->scenario->first + (uint64_t)i, &piece.iov_len);
        m.iov = &piece;
        m.iov_count = 1;
        m.priority = (unsigned)(run->scenario->messages - 1 - i);
        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_send_message(ch, &m, NARU_FOREVER), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* Each batch is one step: all of it arrives, or nothing. */
static void sends_batches(struct kill_run *run, struct naru_channel *ch)
{
    int batch = run->scenario->batch;

    for (int i = 0; i < run->scenario->messages; i += batch) {
        struct naru_message m[8];
        struct iovec pieces[8];

        for (int j = 0; j < batch; j++) {
            pieces[j].iov_base =
                (void *)(uintptr_t)message_of(run->scenario->first + (uint64_t)(i + j), &pieces[j].iov_len);
            m[j] = (struct naru_message){.size = sizeof m[j], .iov = &pieces[j], .iov_count = 1};
        }
        run->begun = (uint64_t)(i + batch);
        CHECK_INT(naru_send_batch(ch, m, (size_t)batch, NARU_FOREVER), batch);
        run->done = (uint64_t)(i + batch);
    }
    naru_channel_close(ch);
}

/* Loans lie in shared memory: a store of each byte would be a kill point of each byte. */
static void sends_loans(struct kill_run *run, struct naru_channel *ch)
{
    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_loan loan = NARU_INIT(struct naru_loan);
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);

        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_loan(ch, length, NARU_FOREVER, &loan), 0);
        memcpy(loan.data, message, length);
        CHECK_INT(naru_commit(&loan, length, NULL), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* In an event loop: polls the channel's descriptor, and never blocks in it. */
static void sends_from_a_loop(struct kill_run *run, struct naru_channel *ch)
{
    struct pollfd ready = {.fd = naru_channel_fd(ch), .events = POLLIN};

    for (int i = 0; i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);
        int r;

        run->begun = (uint64_t)i + 1;
        while ((r = naru_send(ch, message, length, NARU_NOWAIT)) == -EAGAIN) {
            ready.events = loop_events(ch);
            CHECK_INT(poll(&ready, 1, -1), 1);
        }
        CHECK_INT(r, 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

static void receive_some(struct kill_run *run, struct naru_channel *ch, int64_t timeout)
{
    static uint8_t buffer[MESSAGE_MAX];

    for (int i = 0; i < run->scenario->messages; i++) {
        run->begun = (uint64_t)i + 1;
        CHECK(message_is(buffer, naru_recv(ch, buffer, sizeof buffer, timeout),
                         run->scenario->first + (uint64_t)i));
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

static void receives(struct kill_run *run, struct naru_channel *ch)
{
    receive_some(run, ch, NARU_FOREVER);
}

static void receives_in_time(struct kill_run *run, struct naru_channel *ch)
{
    receive_some(run, ch, NARU_S(60));
}

static void receives_views(struct kill_run *run, struct naru_channel *ch)
{
    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_view view = NARU_INIT(struct naru_view);

        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_borrow(ch, NARU_FOREVER, &view), 0);
        CHECK(message_is(view.data, (ssize_t)view.length, run->scenario->first + (uint64_t)i));
        naru_release(&view);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* Whole messages: of all lanes, with whatever descriptors come with them. */
static void receives_all_of_it(struct kill_run *run, struct naru_channel *ch)
{
    static uint8_t buffer[MESSAGE_MAX];

    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece = {buffer, sizeof buffer};
        uint64_t number = run->scenario->first + (uint64_t)i;
        int fds[4];

        m.iov = &piece;
        m.iov_count = 1;
        m.fds = fds;
        m.fd_capacity = 4;
        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_recv_message(ch, &m, NARU_FOREVER), 0);
        CHECK(message_is(buffer, (ssize_t)m.length, number));
        for (size_t j = 0; j < m.fd_count; j++)
            CHECK_INT(close(fds[j]), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

static void receives_from_a_loop(struct kill_run *run, struct naru_channel *ch)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct pollfd ready = {.fd = naru_channel_fd(ch), .events = POLLIN};

    for (int i = 0; i < run->scenario->messages; i++) {
        ssize_t n;

        run->begun = (uint64_t)i + 1;
        while ((n = naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT)) == -EAGAIN) {
            ready.events = loop_events(ch);
            CHECK_INT(poll(&ready, 1, -1), 1);
        }
        CHECK(message_is(buffer, n, run->scenario->first + (uint64_t)i));
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* Answers each message with the same. */
static void answers(struct kill_run *run, struct naru_channel *ch)
{
    static uint8_t buffer[MESSAGE_MAX];

    for (int i = 0; i < run->scenario->messages; i++) {
        ssize_t n = naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER);

        CHECK(message_is(buffer, n, run->scenario->first + (uint64_t)i));
        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_send(ch, buffer, (size_t)n, NARU_FOREVER), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* --- scenarios --- */

static const struct kill_scenario scenarios[] = {
    {"sends", "shm:?ring=4k&wait=sleep", sends, survive_receiving, .sends = true, .messages = 5},
    {"sends to one that sleeps", "shm:?ring=4k&wait=sleep", sends, survive_receiving, .eager = true,
     .sends = true, .messages = 7},
    {"sends to one that spins first", "shm:?ring=4k", sends, survive_receiving, .eager = true, .sends = true,
     .messages = 3},
    {"sends to an event loop", "shm:?ring=4k&wait=sleep", sends, survive_receiving_in_a_loop, .eager = true,
     .sends = true, .messages = 5},
    {"sends into a full ring", "shm:?ring=4k&wait=sleep", sends, survive_receiving, .sends = true,
     .messages = 18},
    {"sends into a full ring, with a limit", "shm:?ring=4k&wait=sleep", sends_in_time, survive_receiving,
     .sends = true, .messages = 14},
    {"sends into a full ring, from a loop", "shm:?ring=4k&wait=sleep", sends_from_a_loop, survive_receiving,
     .sends = true, .messages = 14},
    {"sends loans", "shm:?ring=4k&wait=sleep", sends_loans, survive_receiving, .eager = true, .sends = true,
     .messages = 5},
    {"sends batches", "shm:?ring=4k&wait=sleep", sends_batches, survive_receiving, .sends = true,
     .messages = 8, .batch = 4},
    {"sends batches to one that sleeps", "shm:?ring=4k&wait=sleep", sends_batches, survive_receiving,
     .eager = true, .sends = true, .messages = 4, .batch = 2},
    {"sends in lanes", "shm:?ring=4k&lanes=5&wait=sleep", sends_in_lanes, survive_receiving, .sends = true,
     .messages = 5},
    {"sends descriptors", "shm:?ring=4k&wait=sleep", sends_descriptors, survive_receiving_descriptors,
     .sends = true, .messages = 5},
    {"sends descriptors by the pool", "shm:?ring=4k&pool=8k&wait=sleep", sends_descriptors,
     survive_receiving_descriptors, .eager = true, .sends = true, .messages = 3, .first = LARGE},
    {"receives", "shm:?ring=4k&wait=sleep", receives, survive_sending, .eager = true, .messages = 16},
    {"receives, and sleeps", "shm:?ring=4k&wait=sleep", receives, survive_sending, .messages = 8},
    {"receives, with a limit", "shm:?ring=4k&wait=sleep", receives_in_time, survive_sending, .messages = 8},
    {"receives from a sender in a loop", "shm:?ring=4k&wait=sleep", receives, survive_sending_from_a_loop,
     .eager = true, .messages = 14},
    {"receives in a loop", "shm:?ring=4k&wait=sleep", receives_from_a_loop, survive_sending, .messages = 8},
    {"receives views", "shm:?ring=4k&wait=sleep", receives_views, survive_sending, .eager = true,
     .messages = 9},
    {"receives views from one that waits for each", "shm:?ring=4k&wait=sleep", receives_views,
     survive_flushing, .eager = true, .messages = 5},
    {"receives views of the pool from one that waits for each", "shm:?ring=4k&pool=8k&wait=sleep",
     receives_views, survive_flushing, .eager = true, .messages = 4, .first = LARGE},
    {"sends by the pool", "shm:?ring=4k&pool=8k&wait=sleep", sends, survive_receiving, .sends = true,
     .messages = 6, .first = LARGE},
    {"sends with repeated stores", "shm:?ring=4k&pool=8k&wait=sleep", sends, survive_receiving, .sends = true,
     .messages = 1, .first = VAST, .thorough = true},
    {"sends loans of the pool", "shm:?ring=4k&pool=64k&wait=sleep", sends_loans, survive_receiving,
     .eager = true, .sends = true, .messages = 5, .first = LARGE},
    {"sends loans of a pool where they take turns", "shm:?ring=4k&pool=8k&wait=sleep", sends_loans,
     survive_receiving, .eager = true, .sends = true, .messages = 9, .first = LARGE},
    {"sends batches by the pool", "shm:?ring=4k&pool=64k&wait=sleep", sends_batches, survive_receiving,
     .sends = true, .messages = 6, .first = LARGE, .batch = 3},
    {"receives lanes", "shm:?ring=4k&lanes=3&wait=sleep", receives_all_of_it, survive_sending_in_lanes,
     .eager = true, .messages = 8},
    {"receives descriptors", "shm:?ring=4k&wait=sleep", receives_all_of_it, survive_sending_descriptors,
     .eager = true, .messages = 6},
    {"receives descriptors by the pool", "shm:?ring=4k&pool=8k&wait=sleep", receives_all_of_it,
     survive_sending_descriptors, .eager = true, .messages = 4, .first = LARGE},
    {"receives by the pool", "shm:?ring=4k&pool=8k&wait=sleep", receives, survive_sending, .eager = true,
     .messages = 8, .first = LARGE},
    {"receives views of the pool", "shm:?ring=4k&pool=8k&wait=sleep", receives_views, survive_sending,
     .messages = 8, .first = LARGE},
    {"answers", "shm:?ring=4k&wait=sleep", answers, survive_asking, .eager = true, .sends = true,
     .messages = 6},
};

static const char *scenario_name(size_t index)
{
    return index < sizeof scenarios / sizeof scenarios[0] ? scenarios[index].name : NULL;
}

TEST_EACH(the_survivor_is_well_wherever_the_other_side_is_killed, scenario_name)
{
    struct kill_verdict verdict;

    kill_sweep(&scenarios[index], &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.points > 4 && verdict.stores > 2 && verdict.calls > 2);
}

/* Some instructions only, spread over the whole; ./dev soak, which has the time, sets NARU_SOAK for all. */
TEST_EACH(the_survivor_is_well_before_any_instruction_of_the_other_side, scenario_name)
{
    struct kill_verdict verdict;

    kill_sweep_instructions(&scenarios[index], getenv("NARU_SOAK") ? SIZE_MAX : 30, &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.points > 2);
}
