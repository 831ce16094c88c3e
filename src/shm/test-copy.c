/* SPDX-License-Identifier: MIT */
/* Payloads of every small length, and the short way into a ring. */
#include "shm/copy.h"

#include "runner.h"
#include "shm/ring.h"

enum { LENGTHS = 200, AROUND = 64, CAPACITY = 4096 };

static void check_copied(const uint8_t *to, const uint8_t *from, size_t length)
{
    CHECK_INT(memcmp(to + AROUND, from, length), 0);
    for (size_t i = 0; i < AROUND; i++) {
        CHECK_INT(to[i], 0xee);
        CHECK_INT(to[AROUND + length + i], 0xee);
    }
}

TEST(a_payload_of_every_length_is_copied_whole_and_nothing_beside_it)
{
    uint8_t from[LENGTHS + AROUND], to[LENGTHS + 2 * AROUND];

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 7 + 1);
    for (size_t length = 0; length <= LENGTHS; length++) {
        memset(to, 0xee, sizeof to);
        copy_payload(to + AROUND, from + length % 8, length);
        check_copied(to, from + length % 8, length);
        memset(to, 0xee, sizeof to);
        copy_fresh(to + AROUND, from + length % 8, length);
        check_copied(to, from + length % 8, length);
    }
}

/* A ring in plain memory; its records end before the mirror would begin. */
static _Alignas(SHM_LINE) uint8_t data[2 * CAPACITY];

static enum ring_state put_somehow(struct ring_writer *w, const void *payload, uint32_t length)
{
    enum ring_state state = ring_put(w, RECORD_DATA, payload, length);

    if (state == RING_OK)
        return state;
    state = ring_find_room(w, record_bytes(length) + RECORD_HEADER);
    return state == RING_OK ? ring_put(w, RECORD_DATA, payload, length) : state;
}

TEST(what_is_put_in_one_piece_is_peeked_at_in_order_until_the_ring_is_full)
{
    _Atomic uint64_t taken = 0;
    struct ring_writer w;
    struct ring_reader r;
    struct ring_record record = {0};
    uint32_t put = 0, length = 0;
    uint8_t payload[128];

    ring_writer_init(&w, data, CAPACITY, &taken);
    ring_reader_init(&r, data, CAPACITY, &taken);
    memset(data, 0xee, CAPACITY); /* of an earlier lap: only what is zeroed may look empty */
    memset(data, 0, RECORD_HEADER);
    for (;; put++) {
        length = 1 + put * 5 % 100;
        memset(payload, (int)put, sizeof payload);
        if (put_somehow(&w, payload, length) != RING_OK)
            break;
    }
    CHECK_INT(put_somehow(&w, payload, length), RING_FULL);
    CHECK(w.position <= CAPACITY - RECORD_HEADER && w.position + 200 > CAPACITY);
    for (uint32_t i = 0; i < put; i++) {
        CHECK_INT(ring_peek(&r, &record), RING_OK);
        CHECK_INT(record.length, 1 + i * 5 % 100);
        for (uint32_t at = 0; at < record.length; at++)
            CHECK_INT(record.data[at], (uint8_t)i);
        ring_release(&r, record.length);
    }
    CHECK_INT(ring_peek(&r, &record), RING_EMPTY);
}

/* Every length and every fill of the ring: what the reader has not taken is never written to, and what is
 * written ahead is nothing but zeros at the beginning of lines. */
TEST(lines_are_claimed_ahead_only_where_the_ring_is_free)
{
    static uint8_t before[CAPACITY];
    const uint8_t payload[COPY_SHORT] = {1};
    unsigned claims = 0;

    for (uint32_t length = 0; length <= COPY_SHORT; length++) {
        _Atomic uint64_t taken = 0;
        struct ring_writer w;

        ring_writer_init(&w, data, CAPACITY, &taken);
        for (unsigned put = 0; put < 3 * CAPACITY / 16; put++) {
            uint64_t position = w.position, end = position + record_bytes(length) + RECORD_HEADER;

            memset(data, 0xee, CAPACITY);
            memcpy(before, data, CAPACITY);
            atomic_store(&taken, position < CAPACITY / 2 ? 0 : position - put % (CAPACITY / 2) / 8 * 8);
            if (put_somehow(&w, payload, length) != RING_OK)
                break;
            for (uint64_t at = end; at < position + CAPACITY; at++) {
                if (data[at % CAPACITY] == before[at % CAPACITY])
                    continue;
                CHECK(at < w.taken + CAPACITY && at < end + 2 * RING_CLAIM);
                CHECK(at % SHM_LINE < RECORD_HEADER && data[at % CAPACITY] == 0);
                claims++;
            }
        }
    }
    CHECK(claims > 0);
}

TEST(a_reader_that_claims_to_be_ahead_of_the_writer_breaks_what_is_put)
{
    _Atomic uint64_t taken = 0;
    struct ring_writer w;
    uint8_t payload[1000] = {0};
    int i = 0;

    ring_writer_init(&w, data, CAPACITY, &taken);
    while (i < CAPACITY && put_somehow(&w, payload, sizeof payload) == RING_OK)
        i++;
    atomic_store(&taken, UINT64_C(1) << 40);
    CHECK_INT(put_somehow(&w, payload, sizeof payload), RING_BROKEN);
}
