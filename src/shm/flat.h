/* SPDX-License-Identifier: MIT */
/*
 * A ring in memory that is mapped once, as any memory is: an array that a process shares with its child, a
 * mapped file, a device's memory. It is the ring of ring.h, with one difference: a record that would run over
 * the end goes to the beginning, and a record of a kind of its own fills what is left before the end.
 *
 *     | page: what it is, `taken`, ... | ring |
 *
 * One writer and one reader in any processes; both may write all of the memory, so they share fate. Still
 * everything that is read there is input: what an overwritten page or ring makes of it is FLAT_BROKEN, never
 * an access outside of the memory and never a loop.
 *
 * I5  No record runs over the ring's end, and padding always runs up to it: it begins behind the ring's
 *     beginning, and the next record is at the ring's beginning.
 *
 * Killed between any two stores of flat_wrap(): as of ring_commit(), whose order of stores it has; padding
 * without a record behind it is there for the next one. The writer's position is nowhere but in its
 * own memory and, one record late at worst, in page.written, which nobody relies upon: the next writer
 * walks from `taken` to the first header that is 0 (flat_find_end()), which is that position by I2 of ring.h.
 */
#ifndef NARU_SHM_FLAT_H
#define NARU_SHM_FLAT_H

#include <stddef.h>

#include "shm/ring.h"

/* "naruring", as a little-endian machine reads it. */
#define FLAT_MAGIC UINT64_C(0x676e69727572616e)

enum { FLAT_LAYOUT = 1, FLAT_CAPACITY_LEAST = 256 };

#define FLAT_CAPACITY_MOST (UINT64_C(1) << 31)

/* enum record_kind goes on here. Its length is what is left up to the end, without the header. */
enum { RECORD_PADDING = 0x7f };

struct flat_page {
    /* Set once; the magic last. */
    _Alignas(SHM_LINE) _Atomic uint64_t magic;
    _Atomic uint64_t layout;
    _Atomic uint64_t capacity; /* of the ring, bytes */

    _Alignas(SHM_LINE) _Atomic uint64_t taken;         /* the reader's; free-running, as in struct shm_page */
    _Alignas(SHM_LINE) _Atomic uint64_t written;       /* the writer's: to tell how full it is */
    _Alignas(SHM_LINE) _Atomic uint32_t reader_asleep; /* see doze.h */
    _Alignas(SHM_LINE) _Atomic uint32_t writer_asleep;
};

static_assert(sizeof(struct flat_page) == 5 * SHM_LINE, "layout");
static_assert(offsetof(struct flat_page, layout) == 8 && offsetof(struct flat_page, capacity) == 16,
              "layout");
static_assert(offsetof(struct flat_page, taken) == 64, "layout");
static_assert(offsetof(struct flat_page, written) == 128, "layout");
static_assert(offsetof(struct flat_page, reader_asleep) == 192, "layout");
static_assert(offsetof(struct flat_page, writer_asleep) == 256, "layout");

static inline uint8_t *flat_ring(struct flat_page *page)
{
    return (uint8_t *)(page + 1);
}

/* Makes an empty ring in memory that nobody uses yet; its alignment and size were checked. */
void flat_init(struct flat_page *page, uint64_t capacity);

/* Whether there is a ring in so many bytes: its capacity, a power of two; 0: there is none. The alignment was
 * checked. */
uint64_t flat_check(const struct flat_page *page, size_t bytes);

/* Where the next record goes: by the records that are there, from `taken` on. RING_OK, or RING_BROKEN: they
 * are none. */
enum ring_state flat_find_end(struct flat_page *page, uint64_t capacity, uint64_t *ret_taken,
                              uint64_t *ret_end);

/* Fills up the ring's end, if there is room for that and for a record of that payload: RING_OK, RING_FULL,
 * RING_BROKEN. */
enum ring_state flat_wrap(struct ring_writer *w, uint64_t length);

/* Whether a record would run over the end. */
static inline bool flat_wraps(const struct ring_writer *w, uint64_t length)
{
    return (w->position & w->mask) + record_bytes(length) > w->mask + 1;
}

/* As ring_reserve(). */
static inline enum ring_state flat_reserve(struct ring_writer *w, uint64_t length, uint8_t **ret_payload)
{
    enum ring_state state = __builtin_expect(flat_wraps(w, length), 0) ? flat_wrap(w, length) : RING_OK;

    return state == RING_OK ? ring_reserve(w, length, ret_payload) : state;
}

/* As ring_put(). */
static inline enum ring_state flat_put(struct ring_writer *w, const void *payload, uint32_t length)
{
    enum ring_state state = __builtin_expect(flat_wraps(w, length), 0) ? flat_wrap(w, length) : RING_OK;

    if (state != RING_OK || __builtin_expect(ring_put(w, RECORD_DATA, payload, length) == RING_OK, 1))
        return state;
    state = ring_find_room(w, record_bytes(length) + RECORD_HEADER);
    return state == RING_OK ? ring_put(w, RECORD_DATA, payload, length) : state;
}

/* Of a record that ring_peek() knows not: goes past padding, and looks at what is behind it. RING_OK,
 * RING_EMPTY, RING_BROKEN. */
enum ring_state flat_skip(struct ring_reader *r, struct ring_record *record);

/* Whether a record of that length ends in the ring. */
static inline bool flat_ends_inside(uint64_t position, uint64_t mask, uint64_t length)
{
    return (position & mask) + record_bytes(length) <= mask + 1;
}

/* As ring_peek(). */
static inline enum ring_state flat_peek(struct ring_reader *r, struct ring_record *ret_record)
{
    enum ring_state state = ring_peek(r, ret_record);

    if (__builtin_expect(state == RING_OK, 1))
        return flat_ends_inside(r->position, r->mask, ret_record->length) ? RING_OK : RING_BROKEN;
    return state == RING_EMPTY ? RING_EMPTY : flat_skip(r, ret_record);
}

#endif
