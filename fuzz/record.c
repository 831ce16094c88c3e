/* SPDX-License-Identifier: MIT */
/*
 * Records of a ring as a reader sees them: the input is the ring's memory, whatever a hostile writer has put
 * there, and then what that writer changes between the reader's steps. Its first two bytes choose the ring's
 * size and where the reader begins. What must hold besides not crashing:
 *
 *   - a record that is found lies in the ring's two copies, is no longer than the longest, and is what its
 *     header says;
 *   - each record goes forward by its size, `taken` with it, and never past what a record can take;
 *   - nonsense is nonsense, and nothing else is: a word is empty, a record, or broken, by its bits alone;
 *   - validate.h accepts the ring if and only if the reader comes to its end, and finds no two chunks there
 *     that overlap;
 *   - views of records that are held stay inside, whatever else is received, and `taken` waits for the
 * oldest.
 *
 * The ring is a block of exactly twice its size, so that AddressSanitizer sees every byte beyond; its second
 * copy is kept like the first by hand.
 */
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "shm/held.h"
#include "shm/pool.h"
#include "shm/validate.h"

enum { STEPS = 400, HELD = 4 };

static const uint8_t *script;
static size_t script_left;

/* Takes that many bytes of the input into a number; 0 once it is used up. */
static uint64_t next(unsigned bytes)
{
    uint64_t value = 0;

    for (; bytes > 0 && script_left > 0; bytes--, script_left--)
        value = value << 8 | *script++;
    return value;
}

struct bank {
    uint8_t *data;
    uint64_t capacity;
    struct shm_lane lane;
    struct ring_reader reader;
    struct held held;
    struct {
        struct held_record record;
        const uint8_t *data;
        uint32_t length;
        bool out;
    } views[HELD];
};

static void mirror(struct bank *b)
{
    memcpy(b->data + b->capacity, b->data, b->capacity);
}

static void open_bank(struct bank *b)
{
    b->capacity = UINT64_C(256) << next(1) % 5; /* smaller than a page: less to explore */
    b->data = aligned_alloc(SHM_LINE, 2 * b->capacity);
    CHECK(b->data);
    memset(b->data, 0, b->capacity);
    memset(&b->lane, 0, sizeof b->lane);
    ring_reader_init(&b->reader, b->data, b->capacity, &b->lane.taken);
    b->reader.position = UINT64_C(0) - 8 * next(1); /* runs over 2^64 */
    atomic_store(&b->lane.taken, b->reader.position);
    held_init(&b->held, &b->reader, &b->lane);
    for (uint64_t at = 0; at < b->capacity && script_left > 0; at++)
        b->data[at] = (uint8_t)next(1);
    mirror(b);
}

/* What ring.h says of a header. */
static enum ring_state judge(uint64_t word, uint64_t capacity)
{
    if (word == 0)
        return RING_EMPTY;
    if ((word >> 32 & 0xffffff) > 253)
        return RING_BROKEN;
    if (word >> 56 == RECORD_CHUNK && (uint32_t)word == sizeof(struct shm_chunk))
        return RING_CHUNK;
    if (word >> 56 == RECORD_DATA && (word >> 32 & 0xffffff) > 0 && (uint32_t)word <= capacity / 2 - 16)
        return RING_FDS;
    return word >> 32 == (uint64_t)RECORD_DATA << 24 && (uint32_t)word <= capacity / 2 - 16 ? RING_OK
                                                                                            : RING_BROKEN;
}

/* A reader of its own that goes as far as it can: whether it comes to the end, and to no chunks that cannot
 * be out at once. *ret_end: where that is. */
static bool comes_to_the_end(const struct bank *b, uint64_t pool, uint64_t *ret_end)
{
    const struct pool_reader chunks = {.size = pool};
    struct shm_chunk found[SHM_RETURNS];
    uint64_t position = b->reader.position;
    unsigned count = 0;

    for (;;) {
        const uint8_t *record = b->data + position % b->capacity;
        enum ring_state state;
        uint64_t word;

        memcpy(&word, record, sizeof word);
        state = judge(word, b->capacity);
        *ret_end = position;
        if (state == RING_EMPTY || state == RING_BROKEN)
            return state == RING_EMPTY;
        if (state == RING_CHUNK) {
            if (count == SHM_RETURNS || pool_read(&chunks, record + RECORD_HEADER, &found[count]) != RING_OK)
                return false;
            for (unsigned i = 0; i < count; i++)
                if (shm_chunk_offset(found[i]) < shm_chunk_offset(found[count]) + found[count].length &&
                    shm_chunk_offset(found[count]) < shm_chunk_offset(found[i]) + found[i].length)
                    return false;
            count++;
        }
        position += record_bytes(record_length(word));
        if (position - b->reader.position > b->capacity - RECORD_HEADER)
            return false;
    }
}

static void check_validate(const struct bank *b)
{
    uint64_t pool = b->capacity * 64, end = 0, wanted = 0;
    bool good = comes_to_the_end(b, pool, &wanted);

    CHECK((validate_ring("fuzz", b->data, b->capacity, b->reader.position, pool, &end) == 0) == good);
    CHECK(!good || end == wanted);
}

static void read_all(const struct bank *b, const uint8_t *data, uint32_t length)
{
    volatile uint8_t sink;

    CHECK(data >= b->data + RECORD_HEADER && data + length <= b->data + 2 * b->capacity);
    for (uint32_t i = 0; i < length; i++)
        sink = data[i];
    (void)sink;
}

static void check_taken(struct bank *b)
{
    uint64_t oldest = b->reader.position;

    for (size_t i = 0; i < HELD; i++)
        if (b->views[i].out) {
            if (b->reader.position - b->views[i].record.start > b->reader.position - oldest)
                oldest = b->views[i].record.start;
            read_all(b, b->views[i].data, b->views[i].length);
        }
    CHECK(atomic_load(&b->lane.taken) == oldest);
    CHECK(oldest % RECORD_HEADER == 0);
}

/* The description of a message in the pool, of which there is none but its size. */
static void check_chunk(const struct bank *b, const uint8_t *found)
{
    const struct pool_reader pool = {.size = b->capacity * 64};
    struct shm_chunk chunk = {0}, said;
    uint64_t end;

    memcpy(&said, found, sizeof said);
    end = (uint64_t)(said.place / SHM_PAGE) * SHM_PAGE + said.length;
    CHECK((pool_read(&pool, found, &chunk) == RING_OK) == (end <= pool.size));
    if (end <= pool.size)
        CHECK(memcmp(&chunk, &said, sizeof chunk) == 0);
}

/* The reader's step: looks, and takes or holds what is there. */
static bool step(struct bank *b, unsigned choice)
{
    struct ring_record record = {0};
    uint64_t position = b->reader.position, word;
    size_t slot = choice % HELD;
    enum ring_state state;

    memcpy(&word, b->data + position % b->capacity, sizeof word);
    state = ring_peek(&b->reader, &record);
    CHECK(state == judge(word, b->capacity));
    if (state == RING_CHUNK)
        check_chunk(b, record.data);
    else if (state != RING_OK)
        return state == RING_EMPTY;
    CHECK(record.length == (uint32_t)word && record.data == b->data + position % b->capacity + RECORD_HEADER);
    read_all(b, record.data, record.length);
    if (choice & 128 && !b->views[slot].out) {
        held_add(&b->held, &b->views[slot].record);
        b->views[slot].data = record.data;
        b->views[slot].length = record.length;
        b->views[slot].out = true;
    }
    ring_release(&b->reader, record.length);
    CHECK(b->reader.position - position >= RECORD_HEADER + (uint64_t)record.length);
    CHECK(b->reader.position - position <= b->capacity / 2);
    return true;
}

static void give_back(struct bank *b, size_t slot)
{
    if (!b->views[slot].out)
        return;
    (void)held_remove(&b->held, &b->views[slot].record);
    b->views[slot].out = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bank b = {0};
    bool whole = true;

    script = data;
    script_left = size;
    open_bank(&b);
    check_validate(&b);
    for (int i = 0; whole && i < STEPS; i++) {
        unsigned choice = (unsigned)next(1);

        if (choice % 8 == 7) { /* the writer's turn: a word at or behind what is read next */
            uint64_t at = (b.reader.position + 8 * next(1)) % b.capacity, word = next(8);

            memcpy(b.data + at, &word, sizeof word);
            mirror(&b);
        } else if (choice % 8 == 6) {
            give_back(&b, choice / 8 % HELD);
        } else {
            whole = step(&b, choice);
        }
        check_taken(&b);
        if (choice % 8 == 7)
            check_validate(&b);
    }
    for (size_t i = 0; i < HELD; i++)
        give_back(&b, i);
    check_taken(&b);
    free(b.data);
    return 0;
}
