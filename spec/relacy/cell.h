/* SPDX-License-Identifier: MIT */
/*
 * The orders of src/shm/cell.h and doze.h, for weak-memory.cpp: a writer and a reader of one cell of two
 * slots, whose words are relacy's.
 */
#include "shm/cell.c"
#include "shm/doze.c"

enum { CELL_WORDS = 2, CELL_SLOTS = 2, CELL_VALUES = 4 };

static uint8_t *cell_memory()
{
    alignas(64) static uint8_t memory[1024];

    return memory;
}

struct cell_model {
    rl::atomic<uint64_t> version, asleep, begun[CELL_SLOTS], length[CELL_SLOTS], word[CELL_SLOTS][CELL_WORDS];
};
static cell_model *the_cell_model;

int futex_wake(uint32_t *, int)
{
    return ++rung;
}

/* As model_of(), for what is in the cell. */
static rl::atomic<uint64_t> *cell_model_of(const void *address)
{
    cell_page *page = (cell_page *)cell_memory();
    size_t offset = (size_t)((const uint8_t *)address - cell_memory() - sizeof *page),
           slot = offset / SHM_LINE;

    if (address == &page->version)
        return &the_cell_model->version;
    if (address == &page->asleep)
        return &the_cell_model->asleep;
    if ((const uint8_t *)address < (uint8_t *)(page + 1) || slot >= CELL_SLOTS)
        return NULL;
    switch (offset % SHM_LINE / 8) {
    case 0:
        return &the_cell_model->begun[slot];
    case 1:
        return &the_cell_model->length[slot];
    default:
        return &the_cell_model->word[slot][offset % SHM_LINE / 8 - 2];
    }
}

template <typename check> struct over_a_cell : rl::test_suite<check, 2> {
    cell_model m;
    struct cell cell;

    void before()
    {
        the_cell_model = &m;
        rung = 0;
        for (int i = 0; i < CELL_SLOTS; i++)
            for (int j = 0; j < CELL_WORDS; j++)
                m.word[i][j].store(0, rl::mo_relaxed, $);
        cell_init(cell_memory(), 8 * CELL_WORDS, CELL_SLOTS);
        if (!cell_attach(cell_memory(), 1024, &cell))
            abort();
    }

    void put(uint64_t number)
    {
        uint64_t value[CELL_WORDS] = {number, number};

        RL_ASSERT(cell_put(&cell, value, number % 2 ? sizeof value : 8) == number);
    }
};

/* Values of two lengths, while they are read. */
struct cell_values : over_a_cell<cell_values> {
    void thread(unsigned side)
    {
        uint64_t last = 0, value[CELL_WORDS];

        if (side == SENDER) {
            for (uint64_t i = 1; i <= CELL_VALUES; i++)
                put(i);
            return;
        }
        for (int i = 0; i < 2 * CELL_VALUES; i++) {
            cell_value found;
            enum cell_state state = cell_look(&cell, &found);

            if (state == CELL_EMPTY)
                continue;
            cell_copy(&found, value, sizeof value);
            state = cell_check(&cell, &found);
            RL_ASSERT(state != CELL_BROKEN);
            if (state != CELL_OK)
                continue;
            RL_ASSERT(found.version >= last && value[0] == found.version);
            RL_ASSERT(found.length == (found.version % 2 ? 16u : 8u));
            RL_ASSERT(found.length == 8 || value[1] == found.version);
            last = found.version;
        }
    }
};

/* A reader that goes to sleep while a value comes. */
struct value_wakes : over_a_cell<value_wakes> {
    bool sleeps;

    void thread(unsigned side)
    {
        if (side == SENDER) {
            put(1);
            doze_wake(&cell.page->asleep);
            return;
        }
        doze_arm(&cell.page->asleep);
        sleeps = cell_version(&cell) == 0;
    }

    void after()
    {
        RL_ASSERT(!sleeps || rung > 0);
    }
};
