/* SPDX-License-Identifier: MIT */
/* A ring in memory that is mapped once: its page, and going over its end. */
#include "shm/flat.h"

void flat_init(struct flat_page *page, uint64_t capacity)
{
    /* Killed from here on, it is no ring; relaxed: nobody uses the memory. */
    atomic_store_explicit(&page->magic, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&page->layout, FLAT_LAYOUT, memory_order_relaxed);
    atomic_store_explicit(&page->capacity, capacity, memory_order_relaxed);
    atomic_store_explicit(&page->taken, 0, memory_order_relaxed);
    atomic_store_explicit(&page->written, 0, memory_order_relaxed);
    atomic_store_explicit(&page->reader_asleep, 0, memory_order_relaxed);
    atomic_store_explicit(&page->writer_asleep, 0, memory_order_relaxed);
    atomic_store_explicit(ring_header(flat_ring(page), capacity - 1, 0), 0, memory_order_relaxed);
    /* release: pairs with flat_check(), which then sees all of it */
    atomic_store_explicit(&page->magic, FLAT_MAGIC, memory_order_release);
}

uint64_t flat_check(const struct flat_page *page, size_t bytes)
{
    uint64_t capacity;

    if (bytes < sizeof *page ||
        atomic_load_explicit(&page->magic, memory_order_acquire) != FLAT_MAGIC || /* pairs with flat_init() */
        atomic_load_explicit(&page->layout, memory_order_relaxed) != FLAT_LAYOUT)
        return 0;
    capacity = atomic_load_explicit(&page->capacity, memory_order_relaxed);
    if (capacity < FLAT_CAPACITY_LEAST || capacity > FLAT_CAPACITY_MOST || (capacity & (capacity - 1)) != 0 ||
        capacity > bytes - sizeof *page)
        return 0;
    return capacity;
}

static uint64_t left_before_end(uint64_t position, uint64_t mask)
{
    return mask + 1 - (position & mask);
}

static uint64_t padding_word(uint64_t bytes)
{
    return record_word((enum record_kind)RECORD_PADDING, (uint32_t)(bytes - RECORD_HEADER));
}

enum ring_state flat_wrap(struct ring_writer *w, uint64_t length)
{
    uint64_t padding = left_before_end(w->position, w->mask), next = w->position + padding,
             bytes = padding + record_bytes(length) + RECORD_HEADER;

    /* Room for both, or the record could wait for ever behind its own padding, and the caller who gives up
     * would have changed something. */
    if (w->position + bytes - w->taken > w->mask + 1) {
        enum ring_state state = ring_find_room(w, bytes);

        if (state != RING_OK)
            return state;
    }
    /* relaxed: P1 orders it */
    atomic_store_explicit(ring_header(w->data, w->mask, next), 0, memory_order_relaxed);
    atomic_store_explicit(ring_header(w->data, w->mask, w->position), padding_word(padding),
                          memory_order_release); /* [P1] */
    w->position = next;
    return RING_OK;
}

enum ring_state flat_skip(struct ring_reader *r, struct ring_record *record)
{
    uint64_t left = left_before_end(r->position, r->mask);
    enum ring_state state;

    if (left > r->mask || record->word != padding_word(left)) /* I5: never twice in a row */
        return RING_BROKEN;
    r->position += left;
    atomic_store_explicit(r->taken, r->position, memory_order_release); /* [P2] */
    state = ring_peek(r, record);
    return state == RING_OK || state == RING_EMPTY ? state : RING_BROKEN; /* from here, none is too long */
}

enum ring_state flat_find_end(struct flat_page *page, uint64_t capacity, uint64_t *ret_taken,
                              uint64_t *ret_end)
{
    uint64_t taken = atomic_load_explicit(&page->taken, memory_order_acquire); /* [C2] */
    _Atomic uint64_t aside = taken;                                            /* a reader that nobody sees */
    struct ring_reader r;
    struct ring_record record;
    enum ring_state state = taken % RECORD_HEADER ? RING_BROKEN : RING_OK;

    ring_reader_init(&r, flat_ring(page), capacity, &aside);
    r.position = taken;
    while (state == RING_OK) {
        state = flat_peek(&r, &record);
        if (r.position - taken > capacity - RECORD_HEADER) /* I1 */
            return RING_BROKEN;
        if (state == RING_OK)
            ring_release(&r, record.length);
    }
    if (state != RING_EMPTY)
        return state;
    *ret_taken = taken;
    *ret_end = r.position;
    return RING_OK;
}
