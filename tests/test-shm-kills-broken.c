/* SPDX-License-Identifier: MIT */
/*
 * The sweep over kill points can fail: victims whose ring is broken, each in one way that the rules of ring.h
 * and wakeup.h are there against, are caught, and with the right words.
 */
#include "killpoints-shm.h"

#include <string.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "runner.h"

/* What ring_commit() does, in other orders. */
enum flaw {
    COMMIT_FIRST,   /* the header is stored before the payload: [P1] */
    NEXT_NOT_ZEROED /* the reader finds what lay there before: I2 */
};

static void commit(struct ring_writer *w, enum flaw flaw, const uint8_t *message, size_t length)
{
    uint64_t next = w->position + record_bytes(length);
    _Atomic uint64_t *header = ring_header(w->data, w->mask, w->position);
    uint8_t *payload = NULL;

    CHECK_INT(ring_reserve(w, length, &payload), RING_OK);
    if (flaw != NEXT_NOT_ZEROED)
        atomic_store(ring_header(w->data, w->mask, next), 0);
    if (flaw == COMMIT_FIRST)
        atomic_store(header, record_word(RECORD_DATA, (uint32_t)length));
    memcpy(payload, message, length);
    atomic_store(header, record_word(RECORD_DATA, (uint32_t)length));
    w->position = next;
}

/* The first message goes the right way, so that the end belongs to this process. */
static void send_wrongly(struct kill_run *run, struct naru_channel *ch, enum flaw flaw)
{
    for (int i = 0; i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of((uint64_t)i, &length);
        struct shm *shm = ch->state;

        run->begun = (uint64_t)i + 1;
        if (i == 0)
            CHECK_INT(naru_send(ch, message, length, NARU_FOREVER), 0);
        else
            commit(&shm->link.tx, flaw, message, length);
        waker_published(&shm->link.their_receiver);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

static void commits_first(struct kill_run *run, struct naru_channel *ch)
{
    send_wrongly(run, ch, COMMIT_FIRST);
}

/* Over a ring that was full of other bytes. */
static void leaves_the_next_header(struct kill_run *run, struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    memset(sealed_ring(&shm->link.own) + RECORD_HEADER, 0x01, 2000);
    send_wrongly(run, ch, NEXT_NOT_ZEROED);
}

/* Answers, and does not wake whoever waits for the answer. */
static void rings_nobody(struct kill_run *run, struct naru_channel *ch)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct shm *shm = ch->state;

    for (int i = 0; i < run->scenario->messages; i++) {
        ssize_t n = naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER);

        CHECK(message_is(buffer, n, (uint64_t)i));
        run->begun = (uint64_t)i + 1;
        commit(&shm->link.tx, COMMIT_FIRST, buffer, (size_t)n);
        run->done = (uint64_t)i + 1;
    }
}

/* Says that it is finished before the last message is sent. */
static void ends_early(struct kill_run *run, struct naru_channel *ch)
{
    struct shm *shm = ch->state;
    size_t length;
    const uint8_t *message = message_of(1, &length);

    run->begun = 1;
    CHECK_INT(naru_send(ch, "", 0, NARU_FOREVER), 0);
    run->done = 1;
    shm_link_end(&shm->link, SHM_FINISHED);
    run->begun = 2;
    commit(&shm->link.tx, COMMIT_FIRST, message, length);
    run->done = 2;
    naru_channel_close(ch);
}

static void expect_caught(const struct kill_scenario *scenario, const char *words)
{
    struct kill_verdict verdict;

    kill_sweep(scenario, &verdict);
    CHECK_CONTAINS(verdict.complaint, words);
}

#define RING "shm:?ring=4k&wait=sleep"

/* Every few instructions: between the two stores are more than that. */
TEST(a_commit_before_the_payload_is_caught_at_some_instruction)
{
    enum { POINTS = 1500 };
    struct kill_verdict verdict;

    kill_sweep_instructions(&(struct kill_scenario){"commits first", RING, commits_first, survive_receiving,
                                                    .sends = true, .messages = 3},
                            POINTS, &verdict);
    CHECK_CONTAINS(verdict.complaint, "arrived damaged");
    CHECK_CONTAINS(verdict.complaint, "before instruction");
}

TEST(a_commit_before_the_payload_is_caught)
{
    expect_caught(&(struct kill_scenario){"commits first", RING, commits_first, survive_receiving,
                                          .sends = true, .thorough = true, .messages = 3},
                  "arrived damaged");
}

TEST(a_next_header_that_is_not_zeroed_is_caught)
{
    expect_caught(&(struct kill_scenario){"leaves the next header", RING, leaves_the_next_header,
                                          survive_receiving, .sends = true, .thorough = true, .messages = 3},
                  "is no record, by its header 0x101010101010101");
}

TEST(a_bell_that_is_not_rung_is_caught)
{
    expect_caught(&(struct kill_scenario){"rings nobody", RING, rings_nobody, survive_asking, .eager = true,
                                          .sends = true, .thorough = true, .messages = 3},
                  "nobody wakes it");
}

TEST(an_end_that_is_said_too_early_is_caught)
{
    expect_caught(&(struct kill_scenario){"ends early", RING, ends_early, survive_receiving, .eager = true,
                                          .sends = true, .thorough = true, .messages = 2},
                  "another receive gave 8");
}
