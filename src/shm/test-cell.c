/* SPDX-License-Identifier: MIT */
/*
 * The shared variable by itself: values of every length, readers that are overtaken at each point, threads at
 * once, and what a mad writer can leave in the memory. spec/cell.pml has every interleaving; tests/ kills the
 * writer everywhere (test-cell-kills.c).
 */
#include "shm/cell.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "runner.h"
#include "sync/futex.h"

enum { BYTES = 16 * 1024 };

static _Alignas(SHM_LINE) uint8_t memory[BYTES];

static struct cell make(uint64_t capacity, uint32_t slots)
{
    struct cell c;

    memset(memory, 0xa5, sizeof memory);
    CHECK(cell_bytes(capacity, slots) > 0 && cell_bytes(capacity, slots) <= BYTES);
    cell_init(memory, capacity, slots);
    CHECK(!cell_attach(memory, (size_t)cell_bytes(capacity, slots) - 1, &c));
    CHECK(cell_attach(memory, (size_t)cell_bytes(capacity, slots), &c));
    CHECK_INT(c.capacity, capacity);
    CHECK_INT(c.count, slots);
    return c;
}

/* Byte i of value number v. */
static uint8_t byte_of(uint64_t v, uint64_t i)
{
    return (uint8_t)(v * 31 + i * 7 + 1);
}

static uint64_t put(const struct cell *c, uint64_t v, uint64_t length)
{
    uint8_t data[1024];

    for (uint64_t i = 0; i < length; i++)
        data[i] = byte_of(v, i);
    return cell_put(c, data, length);
}

static void expect(const uint8_t *data, uint64_t v, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        if (data[i] != byte_of(v, i))
            test_fail(__FILE__, __LINE__, "byte %llu of value %llu is torn", (unsigned long long)i,
                      (unsigned long long)v);
}

TEST(what_is_no_cell_has_no_size)
{
    CHECK_INT(cell_bytes(0, 2), 0);
    CHECK_INT(cell_bytes(8, 1), 0);
    CHECK_INT(cell_bytes(8, CELL_SLOTS_MOST + 1), 0);
    CHECK_INT(cell_bytes(CELL_CAPACITY_MOST + 1, 2), 0);
    CHECK_INT(cell_bytes(1, 2), 3 * SHM_LINE + 2 * SHM_LINE);
    CHECK_INT(cell_bytes(48, 2), 3 * SHM_LINE + 2 * SHM_LINE);
    CHECK_INT(cell_bytes(49, 3), 3 * SHM_LINE + 6 * SHM_LINE);
}

TEST(every_length_in_every_number_of_slots)
{
    for (uint32_t slots = 2; slots <= 5; slots++)
        for (uint64_t capacity = 1; capacity <= 200; capacity++) {
            struct cell c = make(capacity, slots);
            struct cell_value value;
            uint8_t data[256];

            CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_EMPTY);
            for (uint64_t length = 0, v = 1; length <= capacity; length++, v++) {
                memset(data, 0x5a, sizeof data);
                CHECK_INT(put(&c, v, length), v);
                CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_OK);
                CHECK_INT(value.version, v);
                CHECK_INT(value.length, length);
                expect(data, v, length);
                CHECK_INT(data[length], 0x5a);
            }
            /* Nothing is stored behind it. */
            for (size_t i = (size_t)cell_bytes(capacity, slots); i < BYTES; i++)
                CHECK_INT(memory[i], 0xa5);
        }
}

TEST(a_buffer_that_is_too_small_gets_the_beginning_and_the_length)
{
    struct cell c = make(100, 2);
    struct cell_value value;
    uint8_t data[8] = {0};

    put(&c, 1, 100);
    CHECK_INT(cell_get(&c, data, 5, &value), CELL_OK);
    CHECK_INT(value.length, 100);
    expect(data, 1, 5);
    CHECK_INT(data[5], 0);
}

/* A reader stands still, at each of its steps, while so many values are put. */
TEST(a_reader_notices_that_it_was_overtaken_and_only_then)
{
    for (uint32_t slots = 2; slots <= 4; slots++)
        for (uint64_t newer = 0; newer < 10; newer++) {
            struct cell c = make(40, slots);
            struct cell_value value;
            uint8_t data[40];

            put(&c, 1, 40);
            CHECK_INT(cell_look(&c, &value), CELL_OK);
            for (uint64_t v = 2; v < 2 + newer; v++)
                put(&c, v, 40);
            cell_copy(&value, data, value.length);
            CHECK_INT(cell_check(&c, &value), newer < slots ? CELL_OK : CELL_OVERTAKEN);
            if (newer < slots)
                expect(data, 1, 40);
            CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_OK);
            CHECK_INT(value.version, 1 + newer);
        }
}

/* As a writer leaves it that was killed after it had begun: the slot says so, the version does not. */
TEST(a_value_that_was_begun_and_never_finished_is_not_seen)
{
    struct cell c = make(40, 2);
    struct cell_value value;
    uint8_t data[40];

    put(&c, 1, 40);
    put(&c, 2, 40);
    atomic_store(&cell_slot_of(&c, 3)->version, 3);
    atomic_store(&cell_slot_of(&c, 3)->words[0], 0x123456789abcdef);
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_OK);
    CHECK_INT(value.version, 2);
    expect(data, 2, 40);
    CHECK_INT(put(&c, 3, 40), 3); /* the next writer */
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_OK);
    expect(data, 3, 40);
}

/* --- nonsense --- */

TEST(what_no_writer_stores_is_broken)
{
    struct cell c = make(40, 2);
    struct cell_value value;
    uint8_t data[40];

    put(&c, 1, 40);
    atomic_store(&c.page->version, 7); /* slot 1 says 1 */
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_BROKEN);
    atomic_store(&c.page->version, 1);
    atomic_store(&cell_slot_of(&c, 1)->version, 3); /* begun for 3, and 2 was never put */
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_BROKEN);
    atomic_store(&cell_slot_of(&c, 1)->version, 2); /* another slot's */
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_BROKEN);
    atomic_store(&cell_slot_of(&c, 1)->version, 1);
    atomic_store(&cell_slot_of(&c, 1)->length, 41);
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_BROKEN);
    atomic_store(&cell_slot_of(&c, 1)->length, UINT64_MAX);
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_BROKEN);
    atomic_store(&cell_slot_of(&c, 1)->length, 40);
    CHECK_INT(cell_get(&c, data, sizeof data, &value), CELL_OK);
}

/* Under AddressSanitizer: whatever the bytes are, nobody reads or writes outside of the cell. */
TEST(garbage_harms_neither_readers_nor_writers)
{
    enum { LENGTH = 100 };
    size_t bytes = (size_t)cell_bytes(LENGTH, 3);
    uint8_t *own = NULL, data[LENGTH];

    CHECK_INT(posix_memalign((void **)&own, SHM_LINE, bytes), 0);
    for (int round = 0; round < 20000; round++) {
        struct cell_value value;
        struct cell c, other;

        cell_init(own, LENGTH, 3);
        CHECK(cell_attach(own, bytes, &c));
        put(&c, 1, LENGTH);
        for (uint64_t count = test_random() % 4 + 1; count > 0; count--) {
            uint64_t word = test_random() >> test_random() % 64;

            memcpy(own + test_random() % (bytes / 8) * 8, &word, sizeof word);
        }
        if (cell_attach(own, bytes, &other)) { /* a size it may have, in what is there */
            CHECK(cell_bytes(other.capacity, other.count) <= bytes);
            CHECK(cell_get(&other, data, sizeof data, &value) != CELL_OVERTAKEN);
        }
        (void)cell_get(&c, data, sizeof data, &value);
        (void)put(&c, 2, LENGTH);
    }
    free(own);
}

/* --- at once --- */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { VALUES = 20000 };
#else
enum { VALUES = 200000 };
#endif

struct stage {
    struct cell cell;
    uint64_t longest;
};

static void *write_values(void *argument)
{
    struct stage *stage = argument;

    for (uint64_t v = 1; v <= VALUES; v++)
        (void)put(&stage->cell, v, v % (stage->longest + 1));
    return NULL;
}

static void *read_values(void *argument)
{
    struct stage *stage = argument;
    uint64_t last = 0;

    while (last < VALUES) {
        struct cell_value value;
        uint8_t data[1024];
        enum cell_state state = cell_get(&stage->cell, data, sizeof data, &value);

        CHECK(state != CELL_BROKEN && !(state == CELL_EMPTY && last > 0));
        if (state != CELL_OK || value.version == last) {
            (void)sched_yield();
            continue;
        }
        CHECK(value.version > last);
        CHECK_INT(value.length, value.version % (stage->longest + 1));
        expect(data, value.version, value.length);
        last = value.version;
    }
    return NULL;
}

static void race(uint64_t longest, uint32_t slots)
{
    struct stage stage = {make(longest, slots), longest};
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, i ? read_values : write_values, &stage), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

TEST(readers_never_see_a_torn_value_in_two_slots)
{
    race(8, 2);
    race(333, 2);
}

TEST(readers_never_see_a_torn_value_in_many_slots)
{
    race(200, 16);
}

/* A mad writer that never ends: each call of a reader does. */
struct madness {
    struct cell cell;
    _Atomic bool enough;
};

static void *rage(void *argument)
{
    struct madness *m = argument;

    while (!atomic_load_explicit(&m->enough, memory_order_relaxed)) {
        uint64_t v = test_random();

        atomic_store_explicit(&cell_slot_of(&m->cell, v)->version, v % 3 ? v : v + m->cell.count,
                              memory_order_relaxed);
        atomic_store_explicit(&cell_slot_of(&m->cell, v)->length, v >> v % 64, memory_order_relaxed);
        atomic_store_explicit(&m->cell.page->version, v, memory_order_relaxed);
    }
    return NULL;
}

TEST(a_reader_comes_back_from_a_mad_writer)
{
    struct madness m = {.cell = make(100, 2)};
    uint64_t ended[4] = {0};
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, rage, &m), 0);
    for (int i = 0; i < 20000 || ended[CELL_BROKEN] == 0; i++) {
        struct cell_value value;
        uint8_t data[100];

        ended[cell_get(&m.cell, data, sizeof data, &value)]++;
    }
    atomic_store(&m.enough, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

/* --- sleeping --- */

struct bed {
    struct cell cell;
    _Atomic uint64_t seen[2];
    _Atomic int at;
};

/* Sleeps for each value. The nap is what a lost wake-up would cost, so it is counted. */
static void *sleep_for_values(void *argument)
{
    struct bed *bed = argument;
    int me = atomic_fetch_add(&bed->at, 1);

    for (uint64_t v = 0; v < 1000;) {
        _Atomic uint32_t *asleep = &bed->cell.page->asleep;
        uint32_t armed = doze_arm(asleep);

        if (cell_version(&bed->cell) == v)
            CHECK_INT(futex_wait(asleep, armed, deadline_after(NARU_S(60))), 0);
        v = cell_version(&bed->cell);
        atomic_store(&bed->seen[me], v);
    }
    return NULL;
}

/* The next value comes when all have seen the last: whose wake-up is lost never sees it. */
TEST(every_sleeper_is_woken_for_every_value)
{
    static struct bed bed;
    pthread_t threads[2];

    bed.cell = make(8, 2);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, sleep_for_values, &bed), 0);
    for (uint64_t v = 1; v <= 1000; v++) {
        CHECK_INT(cell_put(&bed.cell, &v, sizeof v), v);
        doze_wake(&bed.cell.page->asleep);
        while (atomic_load(&bed.seen[0]) < v || atomic_load(&bed.seen[1]) < v)
            (void)sched_yield();
    }
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}
