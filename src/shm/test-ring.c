/* SPDX-License-Identifier: MIT */
/*
 * The ring by itself: every length, every offset, full and empty, positions that run over 2^64, and what a
 * mad peer can write. The invariants of ring.h are checked after each step, against a model that knows
 * nothing but lengths.
 */
#include "shm/ring.h"

#include <stdlib.h>
#include <unistd.h>

#include "runner.h"
#include "segment/sealed.h"

enum { CAPACITY = 4096, LONGEST = CAPACITY / 2 - 2 * RECORD_HEADER, QUEUE = CAPACITY / 16 };

/* A ring, the reader in a mapping of its own, and what is expected to be in it. */
struct bank {
    struct sealed own, theirs;
    _Atomic uint64_t taken;
    struct ring_writer writer;
    struct ring_reader reader;
    struct {
        uint32_t length;
        uint8_t first; /* byte i of the payload is first + i */
    } queue[QUEUE];
    uint64_t put, got;        /* records so far */
    uint8_t before[CAPACITY]; /* the ring as it was before the step */
};

static void open_bank(struct bank *b)
{
    int fd = -1;

    memset(b, 0, sizeof *b);
    CHECK_INT(sealed_make("shm:", "naru-test", SHM_PAGE, CAPACITY, 0, &b->own, &fd), 0);
    CHECK_INT(sealed_attach("shm:", fd, SHM_PAGE, CAPACITY, 0, &b->theirs), 0);
    close(fd);
    ring_writer_init(&b->writer, sealed_ring(&b->own), CAPACITY, &b->taken);
    ring_reader_init(&b->reader, sealed_ring(&b->theirs), CAPACITY, &b->taken);
}

static void close_bank(struct bank *b)
{
    sealed_deinit(&b->own);
    sealed_deinit(&b->theirs);
}

/* Puts both at a position, over old bytes that look like headers. */
static void start_at(struct bank *b, uint64_t position)
{
    memset(sealed_ring(&b->own), RECORD_DATA, CAPACITY);
    atomic_store(&b->taken, position);
    b->writer.position = b->writer.taken = b->reader.position = position;
    b->put = b->got = 0;
    atomic_store(ring_header(b->writer.data, b->writer.mask, position), 0);
}

/* I1 and I2. */
static void check_invariants(struct bank *b)
{
    uint64_t taken = atomic_load(&b->taken), held = b->writer.position - taken;

    CHECK(held <= CAPACITY - RECORD_HEADER);
    CHECK(b->reader.position - taken <= held);
    CHECK(b->writer.taken - (taken - CAPACITY) <= CAPACITY); /* what the writer knows is old, not wrong */
    CHECK_INT(b->writer.position % RECORD_HEADER, 0);
    CHECK_INT(atomic_load(ring_header(b->writer.data, b->writer.mask, b->writer.position)), 0);
}

/* Whether it is what ring_claim() leaves: the first word of a line, in what is free by what the writer knows,
 * zero. */
static bool is_claimed(const struct bank *b, uint64_t position)
{
    return position % SHM_LINE < RECORD_HEADER && position - b->writer.taken < CAPACITY &&
           ((const uint8_t *)sealed_ring(&b->own))[position % CAPACITY] == 0;
}

/* I3: a step stores nowhere but in `bytes` bytes from `position` on, and claims nothing but lines behind. */
static void check_stores(const struct bank *b, uint64_t position, uint64_t bytes)
{
    const uint8_t *now = sealed_ring(&b->own);

    for (uint64_t i = bytes; i < CAPACITY; i++)
        if (now[(position + i) % CAPACITY] != b->before[(position + i) % CAPACITY] &&
            !(i < bytes + 2 * RING_CLAIM && is_claimed(b, position + i)))
            test_fail(__FILE__, __LINE__, "byte %llu after a record of %llu bytes was written",
                      (unsigned long long)i, (unsigned long long)bytes);
}

static void remember(struct bank *b)
{
    memcpy(b->before, sealed_ring(&b->own), CAPACITY);
}

/* Reserves `reserved` bytes, writes them all and commits the first `length`. Whether there was room, which
 * must be so exactly if it fits. */
static bool put_part(struct bank *b, uint32_t reserved, uint32_t length)
{
    uint64_t position = b->writer.position;
    bool fits = position - b->taken + record_bytes(reserved) + RECORD_HEADER <= CAPACITY;
    uint8_t first = (uint8_t)test_random(), *payload = NULL;

    remember(b);
    CHECK_INT(ring_reserve(&b->writer, reserved, &payload), fits ? RING_OK : RING_FULL);
    if (!fits) {
        CHECK(payload == NULL && b->writer.position == position);
        return false;
    }
    for (uint32_t i = 0; i < reserved; i++)
        payload[i] = (uint8_t)(i < length ? first + i : 0xff);
    ring_commit(&b->writer, RECORD_DATA, length);
    b->queue[b->put % QUEUE].length = length;
    b->queue[b->put % QUEUE].first = first;
    b->put++;
    CHECK_INT(b->writer.position - position, record_bytes(length));
    check_invariants(b);
    check_stores(b, position, record_bytes(reserved) + RECORD_HEADER);
    return true;
}

static bool put(struct bank *b, uint32_t length)
{
    return put_part(b, length, length);
}

/* Takes the oldest record, which must be what was put. Whether there was one. */
static bool take(struct bank *b)
{
    struct ring_record record = {.length = 7};
    uint64_t position = b->reader.position;
    uint32_t length = b->queue[b->got % QUEUE].length;

    CHECK_INT(ring_peek(&b->reader, &record), b->got < b->put ? RING_OK : RING_EMPTY);
    if (b->got == b->put)
        return false;
    CHECK_INT(record.length, length);
    for (uint32_t i = 0; i < length; i++)
        if (record.data[i] != (uint8_t)(b->queue[b->got % QUEUE].first + i))
            test_fail(__FILE__, __LINE__, "byte %u of %u at %#llx is wrong", i, length,
                      (unsigned long long)position);
    ring_release(&b->reader, record.length);
    b->got++;
    CHECK_INT(b->reader.position - position, record_bytes(length));
    check_invariants(b);
    return true;
}

TEST(what_a_record_takes)
{
    CHECK_INT(record_bytes(0), 16);
    CHECK_INT(record_bytes(8), 16);
    CHECK_INT(record_bytes(9), 32);
    CHECK_INT(record_bytes(24), 32);
    CHECK_INT(record_bytes(25), 64);
    CHECK_INT(record_bytes(56), 64);
    CHECK_INT(record_bytes(57), 72);
    for (uint64_t length = 0; length < 10000; length++) {
        CHECK(record_bytes(length) >= RECORD_HEADER + length);
        CHECK_INT(record_bytes(length) % RECORD_HEADER, 0);
        CHECK(record_bytes(length + 1) >= record_bytes(length));
    }
    for (uint64_t ring = SHM_PAGE; ring <= 1 << 30; ring *= 2) /* the longest leaves half to another */
        CHECK(record_bytes(record_max(ring)) + RECORD_HEADER <= ring / 2);
}

TEST(every_length_at_the_ends_of_the_ring)
{
    struct bank b;

    open_bank(&b);
    for (uint32_t length = 0; length <= LONGEST; length++) {
        const uint64_t starts[] = {0, CAPACITY - RECORD_HEADER, CAPACITY - record_bytes(length),
                                   CAPACITY - (record_bytes(length) / 2 & ~7ULL), test_random() & ~7ULL};

        for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
            start_at(&b, starts[i]);
            CHECK(put(&b, length));
            CHECK(take(&b));
            CHECK(!take(&b));
        }
    }
    close_bank(&b);
}

TEST(every_offset_with_lengths_of_every_kind)
{
    static const uint32_t lengths[] = {0, 1, 8, 9, 24, 25, 56, 57, 64, 200, LONGEST - 1, LONGEST};
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += RECORD_HEADER)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            start_at(&b, UINT64_C(0) - CAPACITY + offset); /* runs over 2^64 */
            CHECK(put(&b, lengths[i]));
            CHECK(put(&b, lengths[(i + 3) % 12]));
            CHECK(take(&b) && take(&b) && !take(&b));
        }
    close_bank(&b);
}

/* As many of `count` records as fit, in one batch; nothing is seen of them before it is published. How many.
 */
static unsigned put_batch(struct bank *b, unsigned count, uint32_t length)
{
    struct ring_batch batch = ring_batch_begin(&b->writer);
    uint64_t position = b->writer.position;
    struct ring_record record;
    unsigned put = 0;

    remember(b);
    for (; put < count; put++) {
        uint64_t bytes = batch.next - b->taken + record_bytes(length) + RECORD_HEADER;
        uint8_t first = (uint8_t)test_random(), *payload = NULL;

        CHECK_INT(ring_batch_add(&b->writer, &batch, RECORD_DATA, length, &payload),
                  bytes <= CAPACITY ? RING_OK : RING_FULL);
        if (!payload)
            break;
        for (uint32_t i = 0; i < length; i++)
            payload[i] = (uint8_t)(first + i);
        b->queue[(b->put + put) % QUEUE].length = length;
        b->queue[(b->put + put) % QUEUE].first = first;
        if (b->put == b->got)
            CHECK_INT(ring_peek(&b->reader, &record), RING_EMPTY);
        check_invariants(b);
    }
    if (put)
        ring_batch_publish(&b->writer, &batch);
    b->put += put;
    CHECK_INT(b->writer.position - position, put * record_bytes(length));
    check_invariants(b);
    check_stores(b, position, put * record_bytes(length) + RECORD_HEADER);
    return put;
}

TEST(a_batch_is_there_at_once_or_not_at_all)
{
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += RECORD_HEADER)
        for (unsigned count = 1; count < 12; count++) {
            uint32_t length = (uint32_t)(test_random() % 300);

            start_at(&b, UINT64_C(0) - CAPACITY + offset);
            CHECK(put(&b, length));
            CHECK_INT(put_batch(&b, count, length), count);
            CHECK(put(&b, length));
            for (unsigned i = 0; i < count + 2; i++)
                CHECK(take(&b));
            CHECK(!take(&b));
        }
    close_bank(&b);
}

TEST(of_a_batch_that_does_not_fit_goes_what_fits)
{
    struct bank b;

    open_bank(&b);
    for (uint32_t length = 0; length <= LONGEST; length += 13) {
        unsigned fits = (unsigned)((CAPACITY - RECORD_HEADER) / record_bytes(length));

        start_at(&b, test_random() & ~7ULL);
        CHECK_INT(put_batch(&b, 1000, length), fits);
        CHECK_INT(put_batch(&b, 1000, length), 0);
        CHECK(take(&b));
        CHECK_INT(put_batch(&b, 1000, length), 1);
        while (take(&b))
            ;
    }
    close_bank(&b);
}

/* Fills the ring with records of one length, from each of many offsets, and empties it. */
TEST(full_is_full_and_no_sooner)
{
    struct bank b;

    open_bank(&b);
    for (uint32_t length = 0; length <= LONGEST; length += length < 80 ? 1 : 97) {
        uint64_t fit = (CAPACITY - RECORD_HEADER) / record_bytes(length), count = 0;

        start_at(&b, test_random() & ~7ULL);
        while (put(&b, length))
            count++;
        CHECK_INT(count, fit);
        CHECK(take(&b) && put(&b, length) && !put(&b, length)); /* one out, one in */
        while (count-- > 0)
            CHECK(take(&b));
        CHECK(!take(&b));
        CHECK(put(&b, LONGEST)); /* all the room is back */
        CHECK(take(&b));
    }
    close_bank(&b);
}

/* Less than was reserved is committed; what was written behind it becomes the next header. */
TEST(a_part_of_what_was_reserved)
{
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += RECORD_HEADER) {
        start_at(&b, offset);
        CHECK(put_part(&b, LONGEST, 0) && put_part(&b, 400, 33) && put(&b, 100));
        CHECK(take(&b) && take(&b) && take(&b) && !take(&b));
    }
    close_bank(&b);
}

static void walk(struct bank *b, uint64_t start, int steps)
{
    start_at(b, start);
    for (int i = 0; i < steps; i++) {
        uint64_t dice = test_random();
        uint32_t length = (uint32_t)(dice >> 8) % (dice & 1 ? 70 : LONGEST + 1);
        bool full = false, empty = false;

        if ((dice >> 1) % 64 == 0) /* to the brim, or to the ground */
            while (dice & 128 ? put(b, length) : take(b))
                ;
        else if ((dice >> 1) & 1)
            full = !put_part(b, length, (uint32_t)(dice & 16 ? length : length / 3));
        else
            empty = !take(b);
        CHECK(!full || b->put > b->got);
        CHECK(!empty || b->put == b->got);
    }
}

TEST(any_walk_agrees_with_the_model)
{
    struct bank b;

    open_bank(&b);
    walk(&b, 0, 3000);
    walk(&b, UINT64_C(0) - 8, 3000);
    walk(&b, UINT64_C(0) - 10 * CAPACITY, 3000);
    walk(&b, test_random() & ~7ULL, 3000);
    close_bank(&b);
}

/* --- nonsense --- */

static void expect_header(struct bank *b, uint64_t word, enum ring_state expected)
{
    struct ring_record record;
    enum ring_state state;

    atomic_store(ring_header(b->writer.data, b->writer.mask, b->reader.position), word);
    state = ring_peek(&b->reader, &record);
    if (state != expected)
        test_fail(__FILE__, __LINE__, "header %#llx: %d, not %d", (unsigned long long)word, state, expected);
    if (state == RING_OK) /* all of it is mapped */
        CHECK(record.data >= b->reader.data && record.data + record.length <= b->reader.data + 2 * CAPACITY);
}

TEST(headers_that_no_writer_writes_are_broken)
{
    const uint64_t good = record_word(RECORD_DATA, 100);
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8 * RECORD_HEADER) {
        start_at(&b, offset);
        expect_header(&b, 0, RING_EMPTY);
        expect_header(&b, good, RING_OK);
        expect_header(&b, record_word(RECORD_DATA, LONGEST), RING_OK);
        expect_header(&b, record_word(RECORD_DATA, LONGEST + 1), RING_BROKEN);
        expect_header(&b, record_word(RECORD_DATA, UINT32_MAX), RING_BROKEN);
        for (uint32_t length = 1; length != 0; length <<= 1) /* a length without a kind */
            expect_header(&b, length, RING_BROKEN);
        for (int bit = 32; bit < 64; bit++) /* one bit too many, or the only one missing; or descriptors */
            expect_header(&b, good ^ (UINT64_C(1) << bit), bit < 40 ? RING_FDS : RING_BROKEN);
        expect_header(&b, record_word_with_fds(RECORD_DATA, 253, LONGEST), RING_FDS);
        expect_header(&b, record_word_with_fds(RECORD_DATA, 253, LONGEST + 1), RING_BROKEN);
        expect_header(&b, record_word_with_fds(RECORD_DATA, 254, 100), RING_BROKEN);
        expect_header(&b, record_word_with_fds(RECORD_CHUNK, 253, 8), RING_CHUNK);
        expect_header(&b, record_word_with_fds(RECORD_CHUNK, 254, 8), RING_BROKEN);
        expect_header(&b, record_word_with_fds(RECORD_CHUNK, 1, 16), RING_BROKEN);
        for (int i = 0; i < 200; i++) {
            uint64_t word = test_random();

            expect_header(&b, word,
                          word == 0 ? RING_EMPTY
                          : word >> 32 == (uint64_t)RECORD_DATA << 24 && (uint32_t)word <= LONGEST
                              ? RING_OK
                              : RING_BROKEN);
        }
    }
    close_bank(&b);
}

static void expect_taken(struct bank *b, uint64_t taken, enum ring_state expected)
{
    uint64_t seen = b->writer.taken, position = b->writer.position;

    atomic_store(&b->taken, taken);
    CHECK_INT(ring_find_room(&b->writer, LONGEST), expected);
    CHECK(b->writer.position == position);
    CHECK(b->writer.taken == (expected == RING_BROKEN ? seen : taken));
}

TEST(positions_that_no_reader_has_are_broken)
{
    static const uint64_t starts[] = {0, 64 * 1000, UINT64_C(0) - 800, UINT64_C(0) - CAPACITY};
    struct bank b;

    open_bank(&b);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        uint64_t start = starts[i], end;

        start_at(&b, start);
        while (put(&b, 100))
            ;
        end = b.writer.position;
        expect_taken(&b, start, RING_FULL);
        expect_taken(&b, start - 8, RING_BROKEN); /* back */
        expect_taken(&b, end + 8, RING_BROKEN);   /* ahead of all that was written */
        expect_taken(&b, end + CAPACITY, RING_BROKEN);
        expect_taken(&b, start - CAPACITY, RING_BROKEN);
        expect_taken(&b, start + (UINT64_C(1) << 63), RING_BROKEN);
        for (uint64_t bit = 1; bit < RECORD_HEADER; bit <<= 1)
            expect_taken(&b, start + 112 + bit, RING_BROKEN); /* in no record's beginning */
        expect_taken(&b, start + 112, RING_FULL);
        expect_taken(&b, start, RING_BROKEN); /* was believed before, and is back now */
        expect_taken(&b, end, RING_OK);
    }
    close_bank(&b);
}
