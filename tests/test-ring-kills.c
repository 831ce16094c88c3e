/* SPDX-License-Identifier: MIT */
/*
 * The writer and the reader of a ring in the program's own memory are killed before and after each of their
 * stores (killpoints.h): from making the ring on, and where padding goes before its end. What was put arrives
 * whole, in order, none twice; and the next writer and the next reader go on. A writer that puts its padding
 * behind the record is found out.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "killpoints.h"
#include "naru/error.h"
#include "naru/segment.h"
#include "naru/shm.h"
#include "runner.h"
#include "shm/flat.h"

enum { CAPACITY = 256, LONGEST = CAPACITY / 2 - 16, MESSAGES = 5 };

static uint8_t *memory; /* of a memfd called naru: the tracer knows it by that */
static size_t bytes;
static uint64_t start;  /* the ring's first position; 0: the victim makes the ring */
static uint64_t filled; /* messages that are in it before */

/* Message number n: 1 to 5 take 32, 56, 16, 112 bytes of the ring and 32 again, in whatever order they come.
 */
static size_t message(uint64_t n, uint8_t data[LONGEST])
{
    static const size_t lengths[] = {24, 48, 1, 100, 20};
    size_t length = lengths[n % (sizeof lengths / sizeof *lengths)];

    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(n * 31 + i * 7 + 1);
    return length;
}

static uint8_t expected[LONGEST];

static bool is_message(const uint8_t *data, ssize_t length, uint64_t n)
{
    size_t size = message(n, expected);

    return length == (ssize_t)size && memcmp(data, expected, size) == 0;
}

/* Before each run: a ring near its end, or none. */
static void prepare(void)
{
    struct flat_page *page = (struct flat_page *)(void *)memory;
    struct naru_ring_writer writer;

    memset(memory, 0, bytes);
    if (start == 0)
        return;
    CHECK_INT(naru_ring_init(memory, bytes), 0);
    memset(flat_ring(page), RECORD_DATA, CAPACITY);
    atomic_store(&page->taken, start);
    atomic_store(ring_header(flat_ring(page), CAPACITY - 1, start), 0);
    CHECK_INT(naru_ring_attach_writer(memory, bytes, &writer), 0);
    for (uint64_t n = 0; n < filled; n++) {
        size_t length = message(n, expected);

        CHECK_INT(naru_ring_put(&writer, expected, length), 0);
    }
}

/* --- victims --- */

static void puts_messages(struct kill_run *run, struct naru_channel *none)
{
    static uint8_t data[MESSAGES][LONGEST];
    struct naru_ring_writer writer;
    size_t lengths[MESSAGES];

    (void)none;
    for (uint64_t n = 0; n < MESSAGES; n++)
        lengths[n] = message(n, data[n]);
    if (start == 0)
        CHECK_INT(naru_ring_init(memory, bytes), 0);
    CHECK_INT(naru_ring_attach_writer(memory, bytes, &writer), 0);
    for (uint64_t n = 0; n < (uint64_t)run->scenario->messages; n++) {
        run->begun = n + 1;
        CHECK_INT(naru_ring_put(&writer, data[n], lengths[n]), 0);
        run->done = n + 1;
    }
}

/* In place; more is reserved, and written, than is committed. */
static void commits_messages(struct kill_run *run, struct naru_channel *none)
{
    struct naru_ring_writer writer;

    (void)none;
    CHECK_INT(naru_ring_attach_writer(memory, bytes, &writer), 0);
    for (uint64_t n = 0; n < (uint64_t)run->scenario->messages; n++) {
        size_t length = message(n, expected);
        void *place = NULL;

        run->begun = n + 1;
        CHECK_INT(naru_ring_reserve(&writer, length + 8, &place), 0);
        memcpy(place, expected, length);
        memset((uint8_t *)place + length, 0xff, 8);
        CHECK_INT(naru_ring_commit(&writer, length), 0);
        run->done = n + 1;
    }
}

/* Goes to the beginning before it has said that it does. */
static void pads_last(struct kill_run *run, struct naru_channel *none)
{
    struct flat_page *page = (struct flat_page *)(void *)memory;
    uint64_t next = (start + CAPACITY) & ~(uint64_t)(CAPACITY - 1);
    uint8_t *ring = flat_ring(page);

    (void)none;
    run->begun = 1;
    memcpy(ring + RECORD_HEADER, expected, message(0, expected));
    atomic_store(ring_header(ring, CAPACITY - 1, next + record_bytes(message(0, expected))), 0);
    atomic_store(ring_header(ring, CAPACITY - 1, next),
                 record_word(RECORD_DATA, (uint32_t)message(0, expected)));
    run->done = 1;
    atomic_store(ring_header(ring, CAPACITY - 1, start),
                 record_word((enum record_kind)RECORD_PADDING, (uint32_t)(next - start - RECORD_HEADER)));
}

static void takes_messages(struct kill_run *run, struct naru_channel *none)
{
    struct naru_ring_reader reader;
    uint8_t data[LONGEST];

    (void)none;
    CHECK_INT(naru_ring_attach_reader(memory, bytes, &reader), 0);
    for (uint64_t n = 0; n < filled; n++) {
        run->begun = n + 1;
        CHECK(is_message(data, naru_ring_take(&reader, data, sizeof data), n));
        run->done = n + 1;
    }
}

/* --- survivors --- */

static void leave(void)
{
    prepare(); /* the next run's */
    CHECK_INT(munmap(memory, (bytes + 4095) & ~(size_t)4095), 0);
}

static bool await_death(struct kill_run *run)
{
    while (kill_may_act(run))
        ; /* nobody sleeps in this */
    return true;
}

static void check_valid(struct kill_run *run)
{
    if (naru_ring_validate(memory, bytes) != 0)
        kill_complain(run, "%s", naru_explain());
}

/* Takes what is there; the first is message n. How many there were. */
static uint64_t take_all(struct kill_run *run, struct naru_ring_reader *reader, uint64_t n)
{
    uint64_t count = 0;
    uint8_t data[LONGEST];
    ssize_t length;

    for (; (length = naru_ring_take(reader, data, sizeof data)) >= 0; count++)
        if (!is_message(data, length, n + count))
            kill_complain(run, "message %d is damaged, or another", (int)(n + count));
    if (length != -EAGAIN)
        kill_complain(run, "a take ended with %zd", length);
    return count;
}

/* The next writer's messages go right behind what is there. */
static void go_on(struct kill_run *run, struct naru_ring_reader *reader, uint64_t n)
{
    struct naru_ring_writer writer;

    if (naru_ring_attach_writer(memory, bytes, &writer) < 0) {
        kill_complain(run, "the next writer cannot attach");
        return;
    }
    for (uint64_t i = n; i < n + 2 * MESSAGES; i++) {
        size_t length = message(i, expected);

        if (naru_ring_put(&writer, expected, length) < 0 || take_all(run, reader, i) != 1)
            kill_complain(run, "the next writer's message %d does not arrive", (int)i);
    }
}

static void survive_reading(struct kill_run *run, struct naru_channel *none)
{
    struct naru_ring_reader reader;

    (void)none;
    await_death(run);
    if (naru_ring_attach_reader(memory, bytes, &reader) < 0) {
        if (run->begun > 0 || start > 0)
            kill_complain(run, "there is no ring any more");
    } else {
        check_valid(run);
        run->arrived = take_all(run, &reader, 0);
        check_valid(run);
        go_on(run, &reader, run->arrived);
        check_valid(run);
    }
    leave();
}

static void survive_writing(struct kill_run *run, struct naru_channel *none)
{
    struct naru_ring_reader reader;
    struct flat_page *page = (struct flat_page *)(void *)memory;
    uint64_t taken = 0, position = atomic_load(&page->taken), at = start;

    (void)none;
    await_death(run);
    position = atomic_load(&page->taken);
    for (; taken < filled && at < position; taken++) { /* the messages that it has given back */
        uint64_t size = record_bytes(message(taken, expected));

        if (at % CAPACITY + size > CAPACITY)
            at = (at + CAPACITY) & ~(uint64_t)(CAPACITY - 1);
        if (at < position)
            at += size;
        else
            break;
    }
    if (at != position)
        kill_complain(run, "it has taken up to %d, in the middle of message %d", (int)position, (int)taken);
    if (taken < run->done || taken > run->begun)
        kill_complain(run, "it has taken %d messages, begun %d, and had %d", (int)taken, (int)run->begun,
                      (int)run->done);
    check_valid(run);
    CHECK_INT(naru_ring_attach_reader(memory, bytes, &reader), 0);
    if (take_all(run, &reader, taken) != filled - taken)
        kill_complain(run, "not all that it had left is there");
    go_on(run, &reader, filled);
    run->arrived = filled;
    leave();
}

/* --- sweeps --- */

static void sweep(const struct kill_scenario *scenario, uint64_t first, uint64_t before,
                  struct kill_verdict *ret_verdict)
{
    struct naru_segment *segment = NULL;

    start = first;
    filled = before;
    bytes = naru_ring_size(CAPACITY);
    CHECK_INT(naru_segment_open("memfd:naru", bytes, NULL, &segment), 0);
    memory = naru_segment_data(segment);
    prepare();
    kill_sweep(scenario, ret_verdict);
    naru_segment_close(segment);
}

TEST(a_writer_killed_anywhere_has_put_a_message_or_not)
{
    struct kill_verdict verdict;

    sweep(&(struct kill_scenario){.name = "puts messages",
                                  .victim = puts_messages,
                                  .survivor = survive_reading,
                                  .sends = true,
                                  .thorough = true,
                                  .messages = 4},
          0, 0, &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.stores > 20);
}

TEST(a_writer_killed_where_it_wraps)
{
    struct kill_verdict verdict;

    for (uint64_t left = 8; left <= 40; left += 8) {
        sweep(&(struct kill_scenario){.name = "wraps",
                                      .victim = puts_messages,
                                      .survivor = survive_reading,
                                      .sends = true,
                                      .thorough = true,
                                      .messages = 2},
              5 * CAPACITY - left, 0, &verdict);
        CHECK_STR(verdict.complaint, "");
        sweep(&(struct kill_scenario){.name = "wraps in place",
                                      .victim = commits_messages,
                                      .survivor = survive_reading,
                                      .sends = true,
                                      .thorough = true,
                                      .messages = 2},
              5 * CAPACITY - left, 0, &verdict);
        CHECK_STR(verdict.complaint, "");
    }
}

TEST(a_reader_killed_anywhere_has_taken_a_message_or_not)
{
    struct kill_verdict verdict;

    sweep(&(struct kill_scenario){.name = "takes messages",
                                  .victim = takes_messages,
                                  .survivor = survive_writing,
                                  .thorough = true},
          5 * CAPACITY - 40, 3, &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.stores >= 4); /* three messages, and the padding between the first and the second */
}

TEST(a_writer_that_pads_last_is_caught)
{
    struct kill_verdict verdict;

    sweep(&(struct kill_scenario){.name = "pads last",
                                  .victim = pads_last,
                                  .survivor = survive_reading,
                                  .sends = true,
                                  .thorough = true,
                                  .messages = 1},
          5 * CAPACITY - 8, 0, &verdict);
    CHECK_CONTAINS(verdict.complaint, "0 messages arrived; the victim had sent 1");
}
