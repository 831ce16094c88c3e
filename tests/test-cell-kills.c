/* SPDX-License-Identifier: MIT */
/*
 * The writer of a shared variable is killed before and after each of its stores, from making the cell on
 * (killpoints.h): a reader finds the last whole value or, with the last store done, the new one; and the next
 * writer goes on. A writer that flips first is found out.
 */
#include <string.h>
#include <sys/mman.h>

#include "killpoints.h"
#include "naru/error.h"
#include "naru/segment.h"
#include "naru/shm.h"
#include "runner.h"
#include "shm/cell.h"

enum { CAPACITY = 40, SLOTS = 2 };

static uint8_t *memory; /* of a memfd called naru: the tracer knows it by that */
static size_t bytes;

/* Byte i of value number v: no two values have a word in common. */
static void fill(uint8_t value[CAPACITY], uint64_t v)
{
    for (size_t i = 0; i < CAPACITY; i++)
        value[i] = (uint8_t)(v * 16 + i + 1);
}

static uint64_t length_of(uint64_t v)
{
    return CAPACITY - v % 3 * 9;
}

static void make(struct cell *ret_cell)
{
    cell_init(memory, CAPACITY, SLOTS);
    CHECK(cell_attach(memory, bytes, ret_cell));
}

static void puts_values(struct kill_run *run, struct naru_channel *none)
{
    uint8_t values[8][CAPACITY];
    struct cell c;

    (void)none;
    for (uint64_t v = 1; v <= (uint64_t)run->scenario->messages; v++)
        fill(values[v], v);
    make(&c);
    for (uint64_t v = 1; v <= (uint64_t)run->scenario->messages; v++) {
        run->begun = v;
        CHECK_INT(cell_put(&c, values[v], length_of(v)), v);
        run->done = v;
    }
}

/* The same, but for the order: [P4] comes before the value. */
static void flips_first(struct kill_run *run, struct naru_channel *none)
{
    uint8_t value[CAPACITY];
    struct cell c;

    (void)none;
    make(&c);
    for (uint64_t v = 1; v <= (uint64_t)run->scenario->messages; v++) {
        struct cell_slot *slot = cell_slot_of(&c, v);

        fill(value, v);
        run->begun = v;
        atomic_store(&slot->version, v);
        atomic_store(&c.page->version, v);
        atomic_store(&slot->length, length_of(v));
        memcpy((void *)slot->words, value, length_of(v));
        run->done = v;
    }
}

/* What is there is whole. The number of the latest value. */
static uint64_t look(struct kill_run *run, const struct cell *c)
{
    uint8_t found[CAPACITY], value[CAPACITY];
    struct cell_value latest;
    enum cell_state state = cell_get(c, found, sizeof found, &latest);

    if (state == CELL_EMPTY)
        return 0;
    if (state != CELL_OK) {
        kill_complain(run, "the cell's state is %d", state);
        return 0;
    }
    fill(value, latest.version);
    if (latest.length != length_of(latest.version) || memcmp(found, value, latest.length) != 0)
        kill_complain(run, "value %d is torn", (int)latest.version);
    return latest.version;
}

static void survive(struct kill_run *run, struct naru_channel *none)
{
    uint8_t value[CAPACITY];
    struct cell c;

    (void)none;
    while (kill_may_act(run))
        ; /* nobody sleeps in this */
    if (!cell_attach(memory, bytes, &c)) {
        if (run->done > 0 || run->begun > 0)
            kill_complain(run, "there is no cell any more");
    } else {
        if (naru_cell_validate(memory, bytes) < 0)
            kill_complain(run, "%s", naru_explain());
        run->arrived = look(run, &c);
        for (uint64_t v = run->arrived + 1; v < run->arrived + 4; v++) { /* the next writer */
            fill(value, v);
            if (cell_put(&c, value, length_of(v)) != v || look(run, &c) != v)
                kill_complain(run, "the next writer cannot go on with %d", (int)v);
        }
    }
    memset(memory, 0, bytes); /* for the next run */
    CHECK_INT(munmap(memory, (bytes + 4095) & ~(size_t)4095), 0);
}

static void sweep(const struct kill_scenario *scenario, struct kill_verdict *ret_verdict)
{
    struct naru_segment *segment = NULL;

    bytes = (size_t)cell_bytes(CAPACITY, SLOTS);
    CHECK_INT(naru_segment_open("memfd:naru", bytes, NULL, &segment), 0);
    memory = naru_segment_data(segment);
    kill_sweep(scenario, ret_verdict);
    naru_segment_close(segment);
}

TEST(a_writer_killed_anywhere_leaves_a_whole_value)
{
    struct kill_verdict verdict;

    sweep(&(struct kill_scenario){.name = "puts values",
                                  .victim = puts_values,
                                  .survivor = survive,
                                  .sends = true,
                                  .thorough = true,
                                  .messages = 5},
          &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.stores >= 5 * 6);
}

TEST(a_writer_that_flips_first_is_caught)
{
    struct kill_verdict verdict;

    sweep(&(struct kill_scenario){.name = "flips first",
                                  .victim = flips_first,
                                  .survivor = survive,
                                  .sends = true,
                                  .thorough = true,
                                  .messages = 5},
          &verdict);
    CHECK_CONTAINS(verdict.complaint, "is torn");
}
