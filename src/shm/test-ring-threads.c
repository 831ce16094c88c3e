/* SPDX-License-Identifier: MIT */
/* The ring between two threads, with positions that run over 2^64: nothing lost, twice, torn or out of order.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/clock.h"
#include "runner.h"
#include "segment/sealed.h"
#include "shm/ring.h"

enum { CAPACITY = 4096, LONGEST = CAPACITY / 2 - 2 * RECORD_HEADER };

/* Messages; fewer where a time runs out: beside programs that spin on all CPUs each turn of the two threads,
 * and a ring of this size takes some twenty messages a turn, costs time slices. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { STREAMED = 20000 };
#else
enum { STREAMED = 200000 };
#endif
enum { STREAMED_LEAST = 2000 /* over 2^64, and on */, STREAMED_S = 5 };

/* A ring, and its two ends. */
struct streaming {
    struct sealed own, theirs;
    _Atomic uint64_t taken;
    struct ring_writer writer;
    struct ring_reader reader;
    _Atomic uint64_t all; /* how many there were; UINT64_MAX: there are more */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint32_t streamed_length(uint64_t number)
{
    uint64_t dice = mix(number);

    return (uint32_t)(dice % 8 ? dice / 8 % 80 : dice / 8 % (LONGEST + 1));
}

static void *stream(void *argument)
{
    struct streaming *s = argument;
    struct ring_writer *w = &s->writer;
    int64_t enough = clock_now() + NARU_S(STREAMED_S);
    uint64_t number = 0;

    for (; number < STREAMED && (number < STREAMED_LEAST || clock_now() < enough); number++) {
        uint32_t length = streamed_length(number);
        uint8_t *payload = NULL;

        while (ring_reserve(w, length, &payload) == RING_FULL)
            (void)sched_yield();
        for (uint32_t i = 0; i < length; i++)
            payload[i] = (uint8_t)(mix(number + i / 8) >> i % 8 * 8);
        ring_commit(w, RECORD_DATA, length);
    }
    atomic_store(&s->all, number);
    return NULL;
}

/* ThreadSanitizer knows addresses, not pages: it judges with both threads in one mapping. */
static void open_ends(struct streaming *s, bool one_mapping)
{
    const uint64_t start = UINT64_C(0) - 50 * CAPACITY;
    int fd = -1;

    CHECK_INT(sealed_make("shm:", "naru-test", SHM_PAGE, CAPACITY, 0, &s->own, &fd), 0);
    CHECK_INT(sealed_attach("shm:", fd, SHM_PAGE, CAPACITY, 0, &s->theirs), 0);
    close(fd);
    atomic_init(&s->taken, start);
    ring_writer_init(&s->writer, sealed_ring(&s->own), CAPACITY, &s->taken);
    ring_reader_init(&s->reader, sealed_ring(one_mapping ? &s->own : &s->theirs), CAPACITY, &s->taken);
    s->writer.position = s->writer.taken = s->reader.position = start;
}

static void check_message(uint64_t number, const struct ring_record *record)
{
    CHECK_INT(record->length, streamed_length(number));
    for (uint32_t i = 0; i < record->length; i++)
        if (record->data[i] != (uint8_t)(mix(number + i / 8) >> i % 8 * 8))
            test_fail(__FILE__, __LINE__, "message %llu, byte %u", (unsigned long long)number, i);
}

static void stream_through(bool one_mapping)
{
    struct streaming s = {.all = UINT64_MAX};
    pthread_t thread;

    open_ends(&s, one_mapping);
    CHECK_INT(pthread_create(&thread, NULL, stream, &s), 0);
    for (uint64_t number = 0;; number++) {
        struct ring_record record = {0};
        enum ring_state state;

        while ((state = ring_peek(&s.reader, &record)) == RING_EMPTY && number != atomic_load(&s.all))
            (void)sched_yield();
        if (state == RING_EMPTY)
            break;
        CHECK_INT(state, RING_OK);
        check_message(number, &record);
        ring_release(&s.reader, record.length);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK(s.reader.position == s.writer.position && s.taken == s.writer.position);
    sealed_deinit(&s.own);
    sealed_deinit(&s.theirs);
}

TEST(two_threads_stream_through_one_mapping)
{
    stream_through(true);
}

TEST(two_threads_stream_through_a_mapping_each)
{
    stream_through(false);
}
