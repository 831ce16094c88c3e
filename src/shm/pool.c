/* SPDX-License-Identifier: MIT */
/* Chunks: where they lie, and how they come back. */
#include "shm/pool.h"

#include "base/clock.h"

#include <errno.h>

enum { SLOT_BITS = 8, SLOT_MASK = (1 << SLOT_BITS) - 1 };

static_assert(SHM_RETURNS == 1 << SLOT_BITS, "a token holds a slot's number");

void pool_init(struct pool *p, const struct sealed *memory, const struct shm_page *their_page)
{
    *p = (struct pool){.memory = memory,
                       .base = sealed_pool(memory),
                       .size = memory->pool,
                       .their_page = their_page,
                       .turn = POOL_TURN};
    for (uint32_t i = 0; i < SHM_RETURNS; i++) {
        p->slots[i].token = (uint16_t)i;
        p->slots[i].out = POOL_NOT_OUT;
    }
}

void pool_reader_init(struct pool_reader *r, const struct sealed *memory, struct shm_page *page)
{
    *r = (struct pool_reader){
        .memory = memory, .base = sealed_pool(memory), .size = memory->pool, .page = page};
}

/* --- the sender --- */

static void free_slot(struct pool *p, unsigned slot)
{
    unsigned at = 0;

    while (p->by_offset[at] != slot)
        at++;
    p->used--;
    memmove(&p->by_offset[at], &p->by_offset[at + 1], (p->used - at) * sizeof *p->by_offset);
    p->slots[slot].used = false;
}

static void free_kept(struct pool *p)
{
    while (pool_keeps_any(p))
        free_slot(p, p->kept[p->kept_first++ % SHM_RETURNS]);
}

/* A chunk is out no more. */
static void keep_or_free(struct pool *p, unsigned slot)
{
    if (p->slots[slot].bytes == p->kept_bytes)
        p->kept[p->kept_end++ % SHM_RETURNS] = (uint8_t)slot;
    else
        free_slot(p, slot);
}

enum ring_state pool_collect(struct pool *p)
{
    enum ring_state state;
    uint32_t token;

    while ((state = pool_token_at(p, p->seen, &token)) == RING_OK) {
        struct pool_slot *slot = &p->slots[token & SLOT_MASK];

        if (slot->out != token)
            return RING_BROKEN;
        slot->out = POOL_NOT_OUT;
        slot->token = (uint16_t)((token + (1U << SLOT_BITS)) & SHM_TOKEN); /* of the next use */
        p->seen++;
        p->sent--;
        keep_or_free(p, token & SLOT_MASK);
    }
    return state == RING_EMPTY ? RING_OK : state;
}

/* The first gap of so many bytes: where it is, and before which of the slots by offset. */
static bool find_gap(const struct pool *p, uint64_t bytes, unsigned *ret_at, uint64_t *ret_offset)
{
    uint64_t offset = 0;

    for (unsigned at = 0; at <= p->used; at++) {
        const struct pool_slot *next = at < p->used ? &p->slots[p->by_offset[at]] : NULL;

        if ((next ? next->offset : p->size) - offset >= bytes) {
            *ret_at = at;
            *ret_offset = offset;
            return true;
        }
        if (next)
            offset = next->offset + next->bytes;
    }
    return false;
}

enum ring_state pool_find(struct pool *p, uint64_t length)
{
    enum ring_state state = pool_collect(p);
    uint64_t bytes = pool_whole_pages(length), offset;
    unsigned at;

    if (state != RING_OK)
        return state;
    if (bytes != p->kept_bytes)
        free_kept(p);
    p->kept_bytes = bytes;
    return pool_keeps_any(p) || (p->used < SHM_RETURNS && find_gap(p, bytes, &at, &offset)) ? RING_OK
                                                                                            : RING_FULL;
}

static unsigned free_slot_number(const struct pool *p)
{
    unsigned slot = 0;

    while (p->slots[slot].used)
        slot++;
    return slot;
}

/* 0, -EINVAL: there is none, or -ENOMEM. */
static int take_gap(struct pool *p, uint64_t bytes, unsigned *ret_slot)
{
    uint64_t offset;
    unsigned at, slot;

    if (p->used == SHM_RETURNS || !find_gap(p, bytes, &at, &offset))
        return -EINVAL;
    if (offset + bytes > p->reached) {
        int r = sealed_populate(p->memory, p->reached, offset + bytes, true);

        if (r < 0)
            return r;
        p->reached = offset + bytes;
    }
    slot = free_slot_number(p);
    memmove(&p->by_offset[at + 1], &p->by_offset[at], (p->used - at) * sizeof *p->by_offset);
    p->by_offset[at] = (uint16_t)slot;
    p->used++;
    p->slots[slot].offset = offset;
    p->slots[slot].bytes = bytes;
    p->slots[slot].used = true;
    *ret_slot = slot;
    return 0;
}

/* Whether one more chunk is better than one that is kept. */
static bool is_turn_short(const struct pool *p)
{
    uint64_t most = p->turn > POOL_TURN || p->size < POOL_TURN_BYTES ? p->size : POOL_TURN_BYTES;

    return p->used < p->turn && (p->used + 1) * p->kept_bytes <= most;
}

int pool_take(struct pool *p, uint64_t length, unsigned *ret_slot)
{
    int r = -EINVAL; /* not asked before */

    if (!pool_keeps_any(p) || is_turn_short(p))
        r = take_gap(p, pool_whole_pages(length), ret_slot);
    return r < 0 && pool_take_kept(p, length, ret_slot) ? 0 : r;
}

/* How many should be in turn, after so many looks: what nobody reads and writes is in no cache, and the more
 * of it, the fewer looks. If no look found more than `most_out` chunks out, those beyond become gaps. */
static void judge_turn(struct pool *p)
{
    int64_t now = clock_now();
    int64_t takes =
        (int64_t)((p->seen - p->seen_then) * p->kept_bytes / POOL_UNTOUCHED); /* ns, to touch it */

    if (now - p->then >= takes)
        p->turn = POOL_TURN;
    else if (p->most_out > p->used / 2) /* in a round trip nothing is out for long, and few will do */
        p->turn = POOL_TURN_MOST;
    while (p->used > p->turn && p->used > p->most_out + 1 && pool_keeps_any(p))
        free_slot(p, p->kept[p->kept_first++ % SHM_RETURNS]);
    p->then = now;
    p->seen_then = p->seen;
    p->looks = p->most_out = 0;
}

static void note_look(struct pool *p)
{
    if (p->sent > p->most_out)
        p->most_out = p->sent;
    if (++p->looks == POOL_LOOKS)
        judge_turn(p);
}

bool pool_take_again(struct pool *p, uint64_t length, unsigned *ret_slot)
{
    if (!pool_keeps_any(p)) {
        if (is_turn_short(p) || pool_collect(p) != RING_OK)
            return false;
        note_look(p);
    }
    return pool_take_kept(p, length, ret_slot);
}

void pool_cancel(struct pool *p, unsigned slot)
{
    keep_or_free(p, slot);
}

/* --- the receiver --- */

int pool_reach(struct pool_reader *r, const struct shm_chunk *chunk)
{
    uint64_t offset = shm_chunk_offset(*chunk), from = offset;
    uint64_t end = offset + pool_whole_pages(chunk->length);
    int error;

    if (end <= r->reached)
        return 0;
    if (from <= r->reached)
        from = r->reached;
    error = sealed_populate(r->memory, from, end, false);
    if (error == 0 && offset <= r->reached)
        r->reached = end; /* all below has been asked for */
    return error;
}
