/* SPDX-License-Identifier: MIT */
/* Whether shared memory holds what it can hold: see validate.h. */
#include "shm/validate.h"

#include <errno.h>
#include <inttypes.h>

#include "base/error.h"

/* --- rings --- */

/* Chunks that are described by records: no more than can be out. */
struct chunks {
    unsigned count;
    struct shm_chunk chunk[SHM_RETURNS];
};

static int add_chunk(const char *what, uint64_t position, const uint8_t *found, uint64_t pool,
                     struct chunks *chunks)
{
    const struct pool_reader reader = {.size = pool};
    struct shm_chunk chunk;

    if (pool_read(&reader, found, &chunk) != RING_OK)
        return error_set(EPROTO,
                         "%s: the record at %" PRIu64 " describes no chunk of a pool of %" PRIu64 " bytes",
                         what, position, pool);
    if (chunks->count == SHM_RETURNS)
        return error_set(EPROTO, "%s: more than %d chunks are described, which is more than can be out", what,
                         SHM_RETURNS);
    for (unsigned i = 0; i < chunks->count; i++) {
        const struct shm_chunk other = chunks->chunk[i];

        if (shm_chunk_offset(chunk) < shm_chunk_offset(other) + pool_whole_pages(other.length) &&
            shm_chunk_offset(other) < shm_chunk_offset(chunk) + pool_whole_pages(chunk.length))
            return error_set(EPROTO,
                             "%s: the record at %" PRIu64 " describes a chunk at %" PRIu64
                             " of the pool that overlaps another at %" PRIu64,
                             what, position, shm_chunk_offset(chunk), shm_chunk_offset(other));
    }
    chunks->chunk[chunks->count++] = chunk;
    return 0;
}

/* From the reader's position on up to the first header of 0. */
static int walk(const char *what, struct ring_reader *reader, bool flat, uint64_t pool)
{
    uint64_t from = reader->position, capacity = reader->mask + 1;
    struct chunks chunks = {.count = 0};

    if (from % RECORD_HEADER != 0)
        return error_set(EPROTO, "%s: the position %" PRIu64 " is no multiple of %d", what, from,
                         RECORD_HEADER);
    for (;;) {
        struct ring_record record;
        enum ring_state state = flat ? flat_peek(reader, &record) : ring_peek(reader, &record);
        int r = 0;

        if (reader->position - from > capacity - RECORD_HEADER) /* I1 of ring.h */
            return error_set(EPROTO,
                             "%s: the records from %" PRIu64 " on fill more than a ring of %" PRIu64
                             " bytes, with no header of 0 behind them",
                             what, from, capacity);
        if (state == RING_EMPTY)
            return 0;
        if (state == RING_BROKEN)
            return error_set(EPROTO, "%s: at %" PRIu64 " is no record, by its header %#" PRIx64, what,
                             reader->position, record.word);
        if (state == RING_CHUNK)
            r = add_chunk(what, reader->position, record.data, pool, &chunks);
        if (r < 0)
            return r;
        ring_release(reader, record.length);
    }
}

int validate_ring(const char *what, const uint8_t *data, uint64_t capacity, uint64_t from, uint64_t pool,
                  uint64_t *ret_end)
{
    _Atomic uint64_t aside = from; /* a reader that nobody sees */
    struct ring_reader reader;
    int r;

    ring_reader_init(&reader, data, capacity, &aside);
    reader.position = from;
    r = walk(what, &reader, false, pool);
    if (r == 0)
        *ret_end = reader.position;
    return r;
}

int validate_flat(const char *what, const struct flat_page *page, size_t bytes)
{
    uint64_t capacity = flat_check(page, bytes);
    _Atomic uint64_t aside = 0;
    struct ring_reader reader;

    if (capacity == 0)
        return error_set(EPROTO, "%s: it does not begin with the page of a ring of layout %d", what,
                         FLAT_LAYOUT);
    ring_reader_init(&reader, (const uint8_t *)(page + 1), capacity, &aside);
    reader.position = atomic_load_explicit(&page->taken, memory_order_acquire); /* [C2] */
    return walk(what, &reader, true, 0);
}

/* --- pools --- */

static int pool_wrong(const char *what, const char *why, unsigned slot)
{
    return error_set(EPROTO, "%s: the pool's slot %u %s", what, slot, why);
}

/* What was given back and not noticed yet: tokens of chunks that are out, each once. */
static int validate_returns(const char *what, const struct pool *p)
{
    bool back[SHM_RETURNS] = {false};
    enum ring_state state;
    uint32_t token;

    for (uint64_t i = p->seen; (state = pool_token_at(p, i, &token)) == RING_OK; i++) {
        unsigned slot = token % SHM_RETURNS; /* pool.c: SLOT_MASK */

        if (p->slots[slot].out != token || back[slot])
            return error_set(EPROTO, "%s: the peer has given back token %" PRIu32 ", which is not out", what,
                             token);
        back[slot] = true;
    }
    return state == RING_EMPTY ? 0 : error_set(EPROTO, "%s: the peer's returns hold what is none", what);
}

/* I3 of pool.h */
static int validate_kept(const char *what, const struct pool *p)
{
    uint32_t count = p->kept_end - p->kept_first;
    bool kept[SHM_RETURNS] = {false};

    if (count > SHM_RETURNS)
        return error_set(EPROTO, "%s: the pool keeps %" PRIu32 " chunks", what, count);
    for (uint32_t i = p->kept_first; i != p->kept_end; i++) {
        unsigned number = p->kept[i % SHM_RETURNS];
        const struct pool_slot *slot = &p->slots[number];

        if (kept[number] || !slot->used || pool_is_out(p, number) || slot->bytes != p->kept_bytes)
            return pool_wrong(what, "is kept, and may not be", number);
        kept[number] = true;
    }
    return 0;
}

int validate_pool(const char *what, const struct pool *p)
{
    unsigned used = 0, sent = 0;
    uint64_t end = 0;

    if (p->used > SHM_RETURNS || p->reached > p->size)
        return error_set(EPROTO, "%s: the pool's count %u or its mark %" PRIu64 " cannot be", what, p->used,
                         p->reached);
    for (unsigned i = 0; i < p->used; i++) { /* I1 of pool.h */
        unsigned number = p->by_offset[i];
        const struct pool_slot *slot = &p->slots[number % SHM_RETURNS];

        if (number >= SHM_RETURNS || !slot->used || slot->token % SHM_RETURNS != number)
            return pool_wrong(what, "is listed, and not in use", number);
        if (slot->offset < end || slot->offset % SHM_PAGE != 0 || slot->bytes % SHM_PAGE != 0 ||
            slot->bytes > p->size - slot->offset || slot->offset + slot->bytes > p->reached)
            return pool_wrong(what, "overlaps another, or the pool's end", number);
        end = slot->offset + slot->bytes;
    }
    for (unsigned i = 0; i < SHM_RETURNS; i++) {
        used += p->slots[i].used;
        sent += pool_is_out(p, i);
        if (pool_is_out(p, i) && !p->slots[i].used)
            return pool_wrong(what, "was sent, and is not in use", i);
    }
    if (used != p->used || sent != p->sent)
        return error_set(EPROTO, "%s: the pool counts %u chunks, %u of them sent, and has %u and %u", what,
                         p->used, p->sent, used, sent);
    return validate_kept(what, p) < 0 ? -EPROTO : validate_returns(what, p);
}

/* --- channels --- */

/* Of the other's pool a side may map less than there is. */
static int validate_page(const char *what, bool ours, const struct shm_page *page,
                         const struct sealed *memory)
{
    const char *whose = ours ? "our" : "the peer's";
    uint32_t end = atomic_load_explicit(&page->end, memory_order_relaxed); /* its value alone counts */
    bool has_pool = ours ? page->pool == memory->pool : page->pool >= memory->pool;

    if (page->magic != SHM_MAGIC || page->layout != SHM_LAYOUT || page->line != SHM_LINE ||
        page->ring != memory->ring || page->lanes != memory->more + 1 || !has_pool)
        return error_set(EPROTO, "%s: %s page does not say what it is", what, whose);
    if (end > SHM_CLOSED)
        return error_set(EPROTO, "%s: %s end is %" PRIu32 ", which is none", what, whose, end);
    return 0;
}

/* What this side has sent and the other has not taken. */
static int validate_sent(const char *what, const struct shm_link *l, const struct ring_writer *tx)
{
    uint64_t taken = atomic_load_explicit(tx->their_taken, memory_order_acquire), end = 0; /* [C2] */
    int r;

    if (taken - tx->taken > tx->position - tx->taken)
        return error_set(EPROTO, "%s: the peer has taken up to %" PRIu64 " of %" PRIu64, what, taken,
                         tx->position);
    r = validate_ring(what, tx->data, tx->mask + 1, taken, l->own.pool, &end);
    if (r == 0 && end != tx->position) /* I2 of ring.h */
        r = error_set(EPROTO, "%s: what was sent ends at %" PRIu64 ", and not at %" PRIu64, what, end,
                      tx->position);
    return r;
}

int validate_link(const char *what, const struct shm_link *l)
{
    uint64_t end;
    int r = validate_page(what, true, l->page, &l->own);

    if (r == 0)
        r = validate_page(what, false, l->their_page, &l->theirs);
    for (unsigned i = 0; i < l->lanes_out && r == 0; i++)
        r = validate_sent(what, l, i ? &l->more_tx[i - 1] : &l->tx);
    for (unsigned i = 0; i < l->lanes_in && r == 0; i++) {
        const struct ring_reader *rx = i ? &l->more_rx[i - 1] : &l->rx;

        r = validate_ring(what, rx->data, rx->mask + 1, rx->position, l->theirs.pool, &end);
    }
    return r;
}

/* --- cells --- */

int validate_cell(const char *what, const struct cell *c)
{
    uint64_t version = cell_version(c);

    if (version > CELL_VERSION_MOST)
        return error_set(EPROTO, "%s: version %" PRIu64 " is one that nobody gets to", what, version);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct cell_slot *slot = cell_slot_of(c, i);
        uint64_t begun = atomic_load_explicit(&slot->version, memory_order_acquire); /* [C6] */
        uint64_t length = atomic_load_explicit(&slot->length, memory_order_relaxed);
        uint64_t back = (version % c->count + c->count - i) % c->count; /* so much older than the latest */
        uint64_t last = back < version ? version - back : 0;

        if (begun != last && !(begun == version + 1 && begun % c->count == i)) /* I2 of cell.h */
            return error_set(
                EPROTO, "%s: slot %" PRIu32 " was begun for version %" PRIu64 ", and the latest is %" PRIu64,
                what, i, begun, version);
        if (length > c->capacity)
            return error_set(EPROTO, "%s: the value in slot %" PRIu32 " has %" PRIu64 " bytes of %" PRIu64,
                             what, i, length, c->capacity);
    }
    return 0;
}
