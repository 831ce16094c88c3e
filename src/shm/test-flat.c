/* SPDX-License-Identifier: MIT */
/*
 * Rings in memory of the program's own, as naru/shm.h has them: every length at every offset of memory that
 * has not a byte more, against a model that knows nothing but lengths; writers and readers that come anew at
 * any point; what overwritten memory makes of them; two threads; sleeping. tests/test-ring-kills.c kills
 * them.
 */
#include "shm/flat.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "naru/error.h"
#include "naru/shm.h"
#include "runner.h"

enum { CAPACITY = 1024, LONGEST = CAPACITY / 2 - 16, QUEUE = CAPACITY / 16 };

/* A ring, and what is expected to be in it. */
struct bank {
    uint8_t *memory; /* a block of just the size: AddressSanitizer sees every byte beyond */
    size_t bytes;
    struct flat_page *page;
    struct naru_ring_writer writer;
    struct naru_ring_reader reader;
    struct {
        uint32_t length;
        uint8_t first; /* byte i of the payload is first + i */
    } queue[QUEUE];
    uint64_t put, got; /* messages so far */
};

static void attach(struct bank *b)
{
    CHECK_INT(naru_ring_attach_writer(b->memory, b->bytes, &b->writer), 0);
    CHECK_INT(naru_ring_attach_reader(b->memory, b->bytes, &b->reader), 0);
}

/* Empty, at a position, over old bytes that look like headers. */
static void start_at(struct bank *b, uint64_t position)
{
    memset(b->memory, RECORD_DATA, b->bytes);
    CHECK_INT(naru_ring_init(b->memory, b->bytes), 0);
    atomic_store(&b->page->taken, position);
    atomic_store(ring_header(flat_ring(b->page), CAPACITY - 1, position), 0);
    attach(b);
    b->put = b->got = 0;
}

static void open_bank(struct bank *b)
{
    memset(b, 0, sizeof *b);
    b->bytes = naru_ring_size(CAPACITY);
    CHECK_INT(posix_memalign((void **)&b->memory, 64, b->bytes), 0);
    b->page = (struct flat_page *)(void *)b->memory;
    start_at(b, 0);
}

static void close_bank(struct bank *b)
{
    free(b->memory);
}

static bool put(struct bank *b, uint32_t length)
{
    uint8_t first = (uint8_t)test_random(), payload[LONGEST];
    int r;

    for (uint32_t i = 0; i < length; i++)
        payload[i] = (uint8_t)(first + i);
    r = naru_ring_put(&b->writer, payload, length);
    if (r == -EAGAIN)
        return false;
    CHECK_INT(r, 0);
    b->queue[b->put % QUEUE].length = length;
    b->queue[b->put++ % QUEUE].first = first;
    return true;
}

/* The same in place; more is reserved, and written, than is committed. */
static bool put_in_place(struct bank *b, uint32_t reserved, uint32_t length)
{
    uint8_t first = (uint8_t)test_random();
    void *place = NULL;
    int r = naru_ring_reserve(&b->writer, reserved, &place);

    if (r == -EAGAIN)
        return false;
    CHECK_INT(r, 0);
    CHECK_INT((uintptr_t)place % 8, 0);
    for (uint32_t i = 0; i < reserved; i++)
        ((uint8_t *)place)[i] = (uint8_t)(i < length ? first + i : 0xff);
    CHECK_INT(naru_ring_commit(&b->writer, length), 0);
    b->queue[b->put % QUEUE].length = length;
    b->queue[b->put++ % QUEUE].first = first;
    return true;
}

static void expect(struct bank *b, const uint8_t *data, ssize_t length)
{
    CHECK_INT(length, b->queue[b->got % QUEUE].length);
    for (ssize_t i = 0; i < length; i++)
        if (data[i] != (uint8_t)(b->queue[b->got % QUEUE].first + i))
            test_fail(__FILE__, __LINE__, "byte %zd of %zd of message %llu is wrong", i, length,
                      (unsigned long long)b->got);
    b->got++;
}

static bool take(struct bank *b)
{
    uint8_t buffer[LONGEST];
    ssize_t n = naru_ring_take(&b->reader, buffer, sizeof buffer);

    CHECK_INT(n == -EAGAIN, b->got == b->put);
    if (n == -EAGAIN)
        return false;
    expect(b, buffer, n);
    return true;
}

static bool take_in_place(struct bank *b)
{
    const void *data = NULL, *again = NULL;
    ssize_t n = naru_ring_peek(&b->reader, &data);

    CHECK_INT(n == -EAGAIN, b->got == b->put);
    if (n == -EAGAIN)
        return false;
    CHECK_INT(naru_ring_peek(&b->reader, &again), n);
    CHECK(again == data && (uintptr_t)data % 8 == 0);
    expect(b, data, n);
    CHECK_INT(naru_ring_release(&b->reader), 0);
    return true;
}

TEST(every_length_at_every_offset)
{
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += RECORD_HEADER)
        for (uint32_t length = 0; length <= LONGEST; length += length < 80 ? 1 : 13) {
            start_at(&b, UINT64_C(0) - CAPACITY + offset); /* runs over 2^64 */
            CHECK(put(&b, length) && take_in_place(&b) && !take_in_place(&b));
            CHECK(put_in_place(&b, length, length / 2) && take(&b) && !take(&b));
        }
    close_bank(&b);
}

/* Whatever the lengths, whoever comes anew: nothing is lost, and a ring that was emptied takes the longest.
 */
TEST(any_walk_agrees_with_the_model)
{
    struct bank b;

    open_bank(&b);
    for (int i = 0; i < 200000; i++) {
        uint64_t dice = test_random();
        uint32_t length = (uint32_t)(dice >> 8) % (dice & 1 ? 70 : LONGEST + 1);

        if (dice >> 40 & 1)
            (void)(dice & 2 ? put(&b, length) : put_in_place(&b, length, dice & 4 ? length : length / 3));
        else
            (void)(dice & 2 ? take(&b) : take_in_place(&b));
        if ((dice >> 41) % 16 == 0)
            CHECK_INT(naru_ring_attach_writer(b.memory, b.bytes, &b.writer), 0);
        if ((dice >> 45) % 16 == 0)
            CHECK_INT(naru_ring_attach_reader(b.memory, b.bytes, &b.reader), 0);
        if ((dice >> 50) % 64 == 0) {
            while (take(&b))
                ;
            CHECK(put(&b, LONGEST) && take(&b));
        }
    }
    close_bank(&b);
}

/* As many of one length as there is room for, less what is left before the end. */
TEST(full_is_full_and_no_sooner)
{
    struct bank b;

    open_bank(&b);
    for (uint32_t length = 0; length <= LONGEST; length++) {
        uint64_t offset = test_random() & (CAPACITY - 8), size = record_bytes(length), used = 0, fit = 0,
                 count = 0;

        for (;;) { /* with the header behind it, which is zeroed */
            uint64_t at = (offset + used) % CAPACITY, left = at + size > CAPACITY ? CAPACITY - at : 0;

            if (used + left + size + RECORD_HEADER > CAPACITY)
                break;
            used += left + size;
            fit++;
        }
        start_at(&b, offset);
        while (put(&b, length))
            count++;
        CHECK_INT(count, fit);
        CHECK(count > 0);
        while (count-- > 0)
            CHECK(take(&b));
        CHECK(!take(&b));
    }
    close_bank(&b);
}

TEST(what_is_no_ring_is_refused)
{
    static _Alignas(64) uint8_t memory[64 + 4096];
    struct naru_ring_writer writer;
    struct naru_ring_reader reader;

    CHECK_INT(naru_ring_size(0), 0);
    CHECK_INT(naru_ring_size(128), 0);
    CHECK_INT(naru_ring_size(1000), 0);
    CHECK_INT(naru_ring_size(256), 576);
    CHECK_INT(naru_ring_init(NULL, 576), -EINVAL);
    CHECK_INT(naru_ring_init(memory + 8, 576), -EINVAL);
    CHECK_INT(naru_ring_init(memory, 575), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "575 bytes are too few; the smallest takes 576");
    CHECK_INT(naru_ring_attach_writer(memory, 576, &writer), -EPROTO);
    CHECK_INT(naru_ring_attach_reader(memory, 576, &reader), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "never initialised");
    CHECK_INT(naru_ring_init(memory, 2000), 0); /* 1024 fit */
    CHECK_INT(naru_ring_attach_writer(memory, naru_ring_size(1024) - 1, &writer), -EPROTO);
    CHECK_INT(naru_ring_attach_writer(memory + 8, 2000, &writer), -EINVAL);
    CHECK_INT(naru_ring_attach_writer(memory, naru_ring_size(1024), &writer), 0);
    for (uint64_t capacity = 1; capacity; capacity <<= 1) { /* others than the one it has */
        struct flat_page *page = (struct flat_page *)(void *)memory;

        atomic_store(&page->capacity, capacity + 1);
        CHECK_INT(naru_ring_attach_reader(memory, 2000, &reader), -EPROTO);
        atomic_store(&page->capacity, capacity);
        CHECK_INT(naru_ring_attach_reader(memory, 2000, &reader),
                  capacity >= 256 && capacity <= 1024 ? 0 : -EPROTO);
    }
}

TEST(calls_that_make_no_sense_are_refused)
{
    uint8_t buffer[LONGEST + 1] = {0};
    const void *data = NULL;
    void *place = NULL;
    struct bank b;

    open_bank(&b);
    CHECK_INT(naru_ring_put(&b.writer, buffer, sizeof buffer), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "a message of 497 bytes, of which it takes 496 at most");
    CHECK_INT(naru_ring_reserve(&b.writer, sizeof buffer, &place), -EMSGSIZE);
    CHECK_INT(naru_ring_wait_room(&b.writer, sizeof buffer, NARU_FOREVER), -EMSGSIZE);
    CHECK_INT(naru_ring_commit(&b.writer, 0), -EINVAL);
    CHECK_INT(naru_ring_reserve(&b.writer, 10, &place), 0);
    CHECK_INT(naru_ring_commit(&b.writer, 11), -EINVAL);
    CHECK_INT(naru_ring_commit(&b.writer, 10), 0);
    CHECK_INT(naru_ring_commit(&b.writer, 10), -EINVAL);
    CHECK_INT(naru_ring_reserve(&b.writer, 10, &place), 0);
    CHECK_INT(naru_ring_put(&b.writer, "x", 1), 0); /* forgets it */
    CHECK_INT(naru_ring_commit(&b.writer, 10), -EINVAL);
    CHECK_INT(naru_ring_release(&b.reader), -EINVAL);
    CHECK_INT(naru_ring_take(&b.reader, buffer, 9), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "the message has 10 bytes, the buffer 9");
    CHECK_INT(naru_ring_peek(&b.reader, &data), 10);
    CHECK_INT(naru_ring_release(&b.reader), 0);
    CHECK_INT(naru_ring_release(&b.reader), -EINVAL);
    CHECK_INT(naru_ring_take(&b.reader, buffer, sizeof buffer), 1);
    CHECK_INT(naru_ring_take(&b.reader, buffer, sizeof buffer), -EAGAIN);
    close_bank(&b);
}

TEST(it_tells_how_full_it_is)
{
    struct naru_ring_info info = NARU_INIT(struct naru_ring_info);
    struct bank b;

    open_bank(&b);
    start_at(&b, CAPACITY - 32);
    CHECK_INT(naru_ring_info(b.memory, b.bytes, &info), 0);
    CHECK_INT(info.size, sizeof info);
    CHECK_INT(info.capacity, CAPACITY);
    CHECK_INT(info.max_message, LONGEST);
    CHECK_INT(info.used, 0);
    CHECK(put(&b, 24) && put(&b, 24) && put(&b, 0)); /* 32 up to the end, 32, 16 */
    CHECK_INT(naru_ring_info(b.memory, b.bytes, &info), 0);
    CHECK_INT(info.used, 80);
    CHECK_INT(info.taken, CAPACITY - 32);
    CHECK_INT(info.written, CAPACITY + 48);
    CHECK(take(&b));
    CHECK_INT(naru_ring_info(b.memory, b.bytes, &info), 0);
    CHECK_INT(info.used, 48);
    CHECK_INT(naru_ring_info(b.memory, b.bytes - 1, &info), -EPROTO);
    close_bank(&b);
}

/* --- nonsense --- */

TEST(headers_that_no_writer_writes_are_broken)
{
    uint8_t buffer[LONGEST];
    struct bank b;

    open_bank(&b);
    for (uint64_t offset = 0; offset < CAPACITY; offset += RECORD_HEADER) {
        uint64_t left = CAPACITY - offset;
        struct {
            uint64_t word;
            bool good;
        } words[] = {{record_word(RECORD_DATA, 0), left >= 16},
                     {record_word(RECORD_DATA, 100), left >= 112}, /* I5: it ends inside */
                     {record_word(RECORD_DATA, LONGEST), left >= LONGEST + 8},
                     {record_word(RECORD_DATA, LONGEST + 1), false},
                     {record_word(RECORD_CHUNK, 16), false},
                     {record_word((enum record_kind)RECORD_PADDING, (uint32_t)left), false},
                     {record_word((enum record_kind)RECORD_PADDING, 0), false},
                     {1, false},
                     {UINT64_MAX, false}};

        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            start_at(&b, offset);
            atomic_store(ring_header(flat_ring(b.page), CAPACITY - 1, offset), words[i].word);
            if (record_kind_of(words[i].word) == RECORD_KIND(RECORD_PADDING) && left == 8)
                continue; /* that is what it has to be */
            CHECK_INT(naru_ring_take(&b.reader, buffer, sizeof buffer),
                      words[i].good ? (long long)record_length(words[i].word) : -EPROTO);
        }
        start_at(&b, offset); /* padding that goes up to the end is right, but not from the beginning on */
        atomic_store(ring_header(flat_ring(b.page), CAPACITY - 1, offset),
                     record_word((enum record_kind)RECORD_PADDING, (uint32_t)left - 8));
        atomic_store(ring_header(flat_ring(b.page), CAPACITY - 1, 0),
                     offset ? 0 : record_word((enum record_kind)RECORD_PADDING, CAPACITY - 8));
        CHECK_INT(naru_ring_take(&b.reader, buffer, sizeof buffer), offset ? -EAGAIN : -EPROTO);
    }
    close_bank(&b);
}

TEST(positions_that_no_reader_has_are_broken)
{
    struct bank b;

    open_bank(&b);
    while (put(&b, 100))
        ;
    for (uint64_t bit = 1; bit; bit <<= 1) {
        atomic_store(&b.page->taken, bit);
        if (bit != 1024 && bit != 8 && bit != 16 && bit != 32 && bit != 64 && bit != 128 && bit != 256 &&
            bit != 512)
            CHECK_INT(naru_ring_put(&b.writer, "", 0), -EPROTO);
        if (bit < RECORD_HEADER)
            CHECK_INT(naru_ring_attach_reader(b.memory, b.bytes, &b.reader), -EPROTO);
    }
    close_bank(&b);
}

/* Under AddressSanitizer: whatever the bytes are, and for whoever attaches then. */
TEST(garbage_harms_nobody)
{
    struct bank b;
    unsigned broken = 0, fine = 0;

    open_bank(&b);
    for (int round = 0; round < 20000; round++) {
        uint8_t buffer[LONGEST];

        start_at(&b, test_random() & (CAPACITY - 8));
        for (int i = 0; i < 8; i++)
            (void)put(&b, (uint32_t)(test_random() % 200));
        for (uint64_t count = test_random() % 4; count > 0; count--) {
            uint64_t word = test_random() >> test_random() % 64;
            size_t at = test_random() % 2 ? 64 : sizeof *b.page;

            memcpy(b.memory + at + test_random() % ((b.bytes - at) / 8) * 8, &word, sizeof word);
        }
        if (test_random() % 2) {
            (void)!naru_ring_attach_writer(b.memory, b.bytes, &b.writer);
            (void)!naru_ring_attach_reader(b.memory, b.bytes, &b.reader);
        }
        for (int i = 0; i < 10; i++) {
            ssize_t n = naru_ring_take(&b.reader, buffer, sizeof buffer);
            void *place;

            *(n == -EPROTO ? &broken : &fine) += 1;
            if (naru_ring_reserve(&b.writer, 8 + (size_t)test_random() % (LONGEST - 8), &place) == 0) {
                memset(place, 1, 8);
                CHECK_INT(naru_ring_commit(&b.writer, 8), 0);
            }
        }
    }
    CHECK(broken > 100 && fine > 100);
    close_bank(&b);
}

/* --- two threads --- */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { STREAMED = 20000 };
#else
enum { STREAMED = 300000 };
#endif

static uint32_t streamed_length(uint64_t number)
{
    uint64_t dice = number * UINT64_C(0x9e3779b97f4a7c15) >> 20;

    return (uint32_t)(dice % 8 ? dice / 8 % 80 : dice / 8 % (LONGEST + 1));
}

static void *stream(void *argument)
{
    struct bank *b = argument;

    for (uint64_t number = 0; number < STREAMED; number++) {
        size_t length = streamed_length(number);
        uint8_t payload[LONGEST];
        int r;

        memset(payload, (int)(number % 251), length);
        while ((r = naru_ring_put(&b->writer, payload, length)) == -EAGAIN)
            CHECK_INT(naru_ring_wait_room(&b->writer, length, NARU_FOREVER), 0);
        CHECK_INT(r, 0);
        naru_ring_wake_reader(&b->writer);
    }
    return NULL;
}

TEST(two_threads_stream_and_sleep)
{
    pthread_t thread;
    struct bank b;

    open_bank(&b);
    CHECK_INT(pthread_create(&thread, NULL, stream, &b), 0);
    for (uint64_t number = 0; number < STREAMED; number++) {
        const void *data = NULL;
        ssize_t n;

        while ((n = naru_ring_peek(&b.reader, &data)) == -EAGAIN)
            CHECK_INT(naru_ring_wait_message(&b.reader, NARU_FOREVER), 0);
        CHECK_INT(n, streamed_length(number));
        for (ssize_t i = 0; i < n; i++)
            CHECK_INT(((const uint8_t *)data)[i], number % 251);
        CHECK_INT(naru_ring_release(&b.reader), 0);
        naru_ring_wake_writer(&b.reader);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    close_bank(&b);
}

TEST(a_wait_ends_in_time)
{
    struct bank b;

    open_bank(&b);
    CHECK_INT(naru_ring_wait_message(&b.reader, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_ring_wait_message(&b.reader, NARU_MS(5)), -ETIMEDOUT);
    CHECK_INT(naru_ring_wait_room(&b.writer, LONGEST, NARU_FOREVER), 0);
    while (put(&b, LONGEST))
        ;
    CHECK_INT(naru_ring_wait_message(&b.reader, NARU_NOWAIT), 0);
    CHECK_INT(naru_ring_wait_room(&b.writer, LONGEST, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_ring_wait_room(&b.writer, LONGEST, NARU_MS(5)), -ETIMEDOUT);
    CHECK(take(&b));
    CHECK_INT(naru_ring_wait_room(&b.writer, LONGEST / 2, NARU_NOWAIT), 0);
    atomic_store(ring_header(flat_ring(b.page), CAPACITY - 1, atomic_load(&b.page->taken)), 1);
    CHECK_INT(naru_ring_wait_message(&b.reader, NARU_FOREVER), -EPROTO);
    close_bank(&b);
}
