/* SPDX-License-Identifier: MIT */
/* Chunks: where they lie, and how they come back. */
#include "shm/pool.h"

#include <errno.h>

enum { SLOT_BITS = 8, SLOT_MASK = (1 << SLOT_BITS) - 1 };

static_assert(SHM_RETURNS == 1 << SLOT_BITS, "a token holds a slot's number");

void pool_init(struct pool *p, const struct sealed *memory, const struct shm_page *their_page)
{
    *p = (struct pool){
        .memory = memory, .base = sealed_pool(memory), .size = memory->pool, .their_page = their_page};
    for (uint32_t i = 0; i < SHM_RETURNS; i++)
        p->slots[i].token = i;
}

void pool_reader_init(struct pool_reader *r, const struct sealed *memory, struct shm_page *page)
{
    *r = (struct pool_reader){
        .memory = memory, .base = sealed_pool(memory), .size = memory->pool, .page = page};
}

static uint64_t whole_pages(uint64_t length)
{
    return (length + SHM_PAGE - 1) & ~(uint64_t)(SHM_PAGE - 1);
}

/* --- the sender --- */

static void free_slot(struct pool *p, unsigned slot)
{
    unsigned at = 0;

    while (p->by_offset[at] != slot)
        at++;
    p->used--;
    memmove(&p->by_offset[at], &p->by_offset[at + 1], (p->used - at) * sizeof *p->by_offset);
    p->slots[slot].used = p->slots[slot].sent = false;
    p->slots[slot].token += 1U << SLOT_BITS; /* an old token is not this slot's next one */
}

/* One token came back. */
static bool take_back(struct pool *p, uint32_t token)
{
    struct pool_slot *slot = &p->slots[token & SLOT_MASK];

    if (!slot->sent || slot->token != token)
        return false;
    p->sent--;
    free_slot(p, token & SLOT_MASK);
    return true;
}

enum ring_state pool_collect(struct pool *p)
{
    uint64_t returned = atomic_load_explicit(&p->their_page->returned, memory_order_acquire); /* [C3] */

    if (returned - p->seen > p->sent)
        return RING_BROKEN;
    while (p->seen != returned) {
        /* relaxed: C3 orders it */
        uint32_t token =
            atomic_load_explicit(&p->their_page->returns[p->seen % SHM_RETURNS], memory_order_relaxed);

        if (!take_back(p, token))
            return RING_BROKEN;
        p->seen++;
    }
    return RING_OK;
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
    uint64_t offset;
    unsigned at;

    if (state != RING_OK)
        return state;
    return p->used < SHM_RETURNS && find_gap(p, whole_pages(length), &at, &offset) ? RING_OK : RING_FULL;
}

static unsigned free_slot_number(const struct pool *p)
{
    unsigned slot = 0;

    while (p->slots[slot].used)
        slot++;
    return slot;
}

int pool_take(struct pool *p, uint64_t length, unsigned *ret_slot)
{
    uint64_t bytes = whole_pages(length), offset;
    unsigned at, slot = free_slot_number(p);

    if (!find_gap(p, bytes, &at, &offset))
        return -EINVAL; /* not asked before */
    if (offset + bytes > p->reached) {
        int r = sealed_populate(p->memory, p->reached, offset + bytes, true);

        if (r < 0)
            return r;
        p->reached = offset + bytes;
    }
    memmove(&p->by_offset[at + 1], &p->by_offset[at], (p->used - at) * sizeof *p->by_offset);
    p->by_offset[at] = (uint16_t)slot;
    p->used++;
    p->slots[slot].offset = offset;
    p->slots[slot].bytes = bytes;
    p->slots[slot].used = true;
    *ret_slot = slot;
    return 0;
}

struct shm_chunk pool_send(struct pool *p, unsigned slot, uint32_t length)
{
    p->slots[slot].sent = true;
    p->sent++;
    return (struct shm_chunk){
        .offset = p->slots[slot].offset, .length = length, .token = p->slots[slot].token};
}

void pool_cancel(struct pool *p, unsigned slot)
{
    free_slot(p, slot);
}

/* --- the receiver --- */

enum ring_state pool_read(const struct pool_reader *r, const uint8_t *found, struct shm_chunk *ret_chunk)
{
    struct shm_chunk chunk;

    memcpy(&chunk, found, sizeof chunk);
    /* The compiler must not go back to the sender's memory for what is checked here. */
    __asm__("" : "+m"(chunk));
    if (chunk.offset % SHM_PAGE != 0 || chunk.offset > r->size || chunk.length > r->size - chunk.offset)
        return RING_BROKEN;
    *ret_chunk = chunk;
    return RING_OK;
}

int pool_reach(struct pool_reader *r, const struct shm_chunk *chunk)
{
    uint64_t end = chunk->offset + whole_pages(chunk->length), from = chunk->offset;
    int error;

    if (end <= r->reached)
        return 0;
    if (from <= r->reached)
        from = r->reached;
    error = sealed_populate(r->memory, from, end, false);
    if (error == 0 && chunk->offset <= r->reached)
        r->reached = end; /* all below has been asked for */
    return error;
}

void pool_return(struct pool_reader *r, uint32_t token)
{
    /* relaxed: our own; and P3 orders the token */
    uint64_t count = atomic_load_explicit(&r->page->returned, memory_order_relaxed);

    atomic_store_explicit(&r->page->returns[count % SHM_RETURNS], token, memory_order_relaxed);
    atomic_store_explicit(&r->page->returned, count + 1, memory_order_release); /* [P3] */
}
