/* SPDX-License-Identifier: MIT */
/* Records that are held in a ring: where `taken` stands, whatever the order in which they are given back. */
#include "shm/held.h"

#include <stdlib.h>

#include "runner.h"

enum { CAPACITY = 4096, RECORDS = 12 };

struct bank {
    uint8_t *data; /* the ring twice: small payloads at its beginning never run over its end here */
    struct shm_lane lane;
    struct ring_writer writer;
    struct ring_reader reader;
    struct held held;
};

static void open_bank(struct bank *b)
{
    b->data = aligned_alloc(SHM_LINE, 2 * CAPACITY);
    CHECK(b->data != NULL);
    memset(b->data, 0, 2 * CAPACITY);
    memset(&b->lane, 0, sizeof b->lane);
    ring_writer_init(&b->writer, b->data, CAPACITY, &b->lane.taken);
    ring_reader_init(&b->reader, b->data, CAPACITY, &b->lane.taken);
    held_init(&b->held, &b->reader, &b->lane);
}

static void put(struct bank *b, uint32_t number)
{
    uint8_t *payload = NULL;

    CHECK_INT(ring_reserve(&b->writer, sizeof number, &payload), RING_OK);
    memcpy(payload, &number, sizeof number);
    ring_commit(&b->writer, RECORD_DATA, sizeof number);
}

static void hold(struct bank *b, uint32_t number, struct held_record *record)
{
    struct ring_record found = {0};

    CHECK_INT(ring_peek(&b->reader, &found), RING_OK);
    CHECK_INT(found.length, sizeof number);
    CHECK(memcmp(found.data, &number, sizeof number) == 0);
    held_add(&b->held, record);
    ring_release(&b->reader, found.length);
}

static void take(struct bank *b, uint32_t number)
{
    struct ring_record found = {0};

    CHECK_INT(ring_peek(&b->reader, &found), RING_OK);
    CHECK(memcmp(found.data, &number, sizeof number) == 0);
    ring_release(&b->reader, found.length);
}

TEST(taken_stands_at_the_oldest_that_is_held)
{
    struct held_record first, second;
    struct bank b;

    open_bank(&b);
    for (uint32_t i = 0; i < 4; i++)
        put(&b, i);
    take(&b, 0);
    CHECK_INT(b.lane.taken, 16);
    hold(&b, 1, &first);
    CHECK_INT(b.lane.taken, 16);
    take(&b, 2); /* receiving goes on */
    hold(&b, 3, &second);
    CHECK_INT(b.lane.taken, 16);
    CHECK(held_remove(&b.held, &first));
    CHECK_INT(b.lane.taken, 48); /* what was received in between is free with it */
    CHECK(held_remove(&b.held, &second));
    CHECK_INT(b.lane.taken, 64);
    put(&b, 4);
    take(&b, 4);
    CHECK_INT(b.lane.taken, 80); /* nothing is held: each release shows at once */
    free(b.data);
}

TEST(a_younger_one_given_back_first_frees_nothing)
{
    struct held_record records[3];
    struct bank b;

    open_bank(&b);
    for (uint32_t i = 0; i < 3; i++) {
        put(&b, i);
        hold(&b, i, &records[i]);
    }
    CHECK(!held_remove(&b.held, &records[1]));
    CHECK(!held_remove(&b.held, &records[2]));
    CHECK_INT(b.lane.taken, 0);
    CHECK(held_remove(&b.held, &records[0]));
    CHECK_INT(b.lane.taken, 48);
    free(b.data);
}

TEST(any_order_keeps_the_bytes_of_what_is_held)
{
    struct held_record records[RECORDS];
    bool out[RECORDS] = {false};
    uint32_t numbers[RECORDS];
    struct bank b;

    open_bank(&b);
    for (uint32_t i = 0; i < 20000; i++) {
        size_t slot = test_random() % RECORDS;
        uint64_t oldest;

        if (out[slot]) {
            CHECK(memcmp(b.data + (records[slot].start & (CAPACITY - 1)) + RECORD_HEADER, &numbers[slot],
                         sizeof *numbers) == 0);
            (void)held_remove(&b.held, &records[slot]);
            out[slot] = false;
        } else if (b.writer.position - b.lane.taken < CAPACITY - 64) {
            put(&b, i);
            numbers[slot] = i;
            hold(&b, i, &records[slot]);
            out[slot] = true;
        }
        oldest = b.reader.position;
        for (size_t k = 0; k < RECORDS; k++)
            if (out[k] && records[k].start < oldest)
                oldest = records[k].start;
        CHECK_INT(b.lane.taken, oldest);
        CHECK(b.lane.received <= b.reader.position); /* what it was once, or what it is */
        if (oldest != b.reader.position)
            CHECK_INT(b.lane.received, b.reader.position);
    }
    free(b.data);
}
