/* SPDX-License-Identifier: MIT */
/*
 * A ring of records with one writer and one reader, in sealed memory of the writer's.
 *
 * The commit is in band: the writer zeroes the next header, writes the payload, and stores this record's
 * header last. The reader polls the one word that it will read anyway, and which shares a cache line with a
 * small payload: one line moves per message, which is the least there is. Before the header is stored there
 * is no record, afterwards it is whole; there is nothing in between to repair, whoever is killed where.
 *
 * What is said of ring_commit() holds for ring_put(), which does the same with a payload in one piece, and
 * for a batch: its records are written with their headers, one behind the other, but for the header of the
 * first, which ring_batch_publish() stores last. Nobody comes to the others before that one: so all of them
 * begin to exist at once.
 *
 * Invariants
 * I1  taken <= reader.position <= writer.position <= taken + capacity - 8, as 64-bit positions that run on.
 * I2  The header at writer.position is 0 whenever the writer is not inside ring_commit() (ring_put(),
 *     ring_batch_publish()): a reader that has caught up sees nothing.
 * I3  The writer stores only in [writer.position, taken + capacity), the reader reads only in
 *     [taken, writer.position] (the header there included): they never meet but in that header.
 * I4  Headers are accessed in the ring's first copy alone; payloads run on into the second.
 *
 * Crash between any two stores of ring_commit(): the payload without header is no record, and its bytes are
 * written again by nobody. The zeroed next header without this one: I2 holds already for the old position.
 * Records of a batch without the first one's header, and lines claimed ahead: likewise. So nobody has
 * anything to repair. Crash of the reader between reading and storing `taken`: the record counts as not
 * taken, which is true as far as anybody can tell.
 *
 * Order
 * [P1] ring_commit(), release: the payload and the zeroed next header are visible before the header; of a
 *      batch all payloads and the other headers, too.
 * [C1] ring_look(), acquire: pairs with P1; licenses reading the payload and the next header.
 * [P2] ring_release(), release: the reader's loads of the payload are done before `taken` is.
 * [C2] ring_find_room(), acquire: pairs with P2; licenses overwriting what was taken.
 * [P3] shm_link_end(), release: every commit is visible before the end is.
 * [C3] shm_link_their_end(), acquire: pairs with P3; an empty ring, looked at after it, stays empty.
 *
 * An old payload lies where a header will be, and may look like one. No reader sees it: it reads a header
 * there only after C1 of the record before, so it sees the zero or what came later. P2 and C2 put the
 * writer's stores behind the reader's loads: no load sees what it happens before.
 *
 * spec/ring.pml has every interleaving of this, either side killed anywhere; spec/relacy/ compiles this file,
 * and finds each of these six orders to be needed. `./dev models` runs both.
 */
#ifndef NARU_SHM_RING_H
#define NARU_SHM_RING_H

#include <stdbool.h>
#include <string.h>

#include "shm/copy.h"
#include "shm/layout.h"

/* What the direct caller must handle; never passed on. */
enum ring_state {
    RING_OK = 0,
    RING_FULL = 1,
    RING_EMPTY = 2,
    RING_CHUNK = 4, /* a record that describes a message in the pool */
    RING_FDS = 5,   /* a record whose message comes with descriptors; those of the pool may, too */
    RING_BROKEN = 3 /* the other side's memory holds what its code cannot have written */
};

enum {
    RING_CLAIM = 4 * SHM_LINE /* how much it makes its own at once: ring_claim() */
};

struct ring_writer {
    uint8_t *data; /* the ring, twice */
    uint64_t mask; /* capacity - 1 */
    uint64_t position;
    uint64_t taken; /* the reader's, as last seen */
    const _Atomic uint64_t *their_taken;
};

struct ring_reader {
    const uint8_t *data;
    uint64_t mask;
    uint64_t position; /* of the record that ring_peek() looks at */
    _Atomic uint64_t *taken;
};

/* A record as found: its payload is the writer's memory, which may change under a reader if the writer is
 * hostile. */
struct ring_record {
    const uint8_t *data;
    uint64_t word; /* the header, for who has another opinion of it (flat.h): not to be fetched again */
    uint32_t length;
};

/* Over a ring that is all zero. their_taken: in the reader's memory. */
void ring_writer_init(struct ring_writer *w, uint8_t *data, uint64_t capacity,
                      const _Atomic uint64_t *their_taken);

/* taken: in our own memory. */
void ring_reader_init(struct ring_reader *r, const uint8_t *data, uint64_t capacity, _Atomic uint64_t *taken);

static inline _Atomic uint64_t *ring_header(uint8_t *data, uint64_t mask, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)(data + (position & mask));
}

/* Looks up how far the reader is: RING_OK, RING_FULL, RING_BROKEN. */
enum ring_state ring_find_room(struct ring_writer *w, uint64_t bytes);

/* Room for a payload of that many bytes, at most record_max(): RING_OK, and *ret_payload is where to write
 * it; it stands until ring_commit(), or the next ring_reserve() in its place. */
static inline enum ring_state ring_reserve(struct ring_writer *w, uint64_t length, uint8_t **ret_payload)
{
    uint64_t bytes = record_bytes(length) + RECORD_HEADER; /* with the next header, which is zeroed */

    if (__builtin_expect(w->position + bytes - w->taken > w->mask + 1, 0)) {
        enum ring_state state = ring_find_room(w, bytes);

        if (state != RING_OK)
            return state;
    }
    *ret_payload = w->data + (w->position & w->mask) + RECORD_HEADER;
    return RING_OK;
}

/* Asks for a line to be written. Without -mprfchw, which not all processors of this architecture have though
 * all take the instruction, compilers make a request to read of __builtin_prefetch(, 1): the line comes, and
 * the store waits as long as ever for the right to change it. */
static inline void ring_prefetch(const uint8_t *line)
{
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* After a record from position to next, a short one, that ends in another block of lines: writes into each
 * line of the block behind it, all of them the writer's to write (I3), nobody's to read. Lines that the
 * reader has looked at are its processor's by now: a store to one has to wait for it, and all stores behind
 * that one with it, in order. Of four such stores in a row the processor fetches the lines at the same time:
 * by itself that is a third of the time of a stream of 64 bytes. Asking for lines with ring_prefetch(), at
 * whatever distance, does nothing for it on the processors where it was tried. */
static inline void ring_claim(const struct ring_writer *w, uint64_t position, uint64_t next)
{
    uint64_t block = (next & ~(uint64_t)(RING_CLAIM - 1)) + RING_CLAIM;

    if (__builtin_expect((position ^ next) < RING_CLAIM || next - position > RING_CLAIM / 2 ||
                             block + RING_CLAIM - w->taken > w->mask + 1,
                         1))
        return;
    for (uint64_t line = 0; line < RING_CLAIM; line += SHM_LINE)
        atomic_store_explicit(ring_header(w->data, w->mask, block + line), 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* before what is written there by the ring's other address */
}

/* Publishes the first bytes of what was reserved, under a header that says how many. */
static inline void ring_commit_word(struct ring_writer *w, uint64_t word)
{
    /* Not reloaded after each store, which might be to *w for all that the compiler knows. */
    uint64_t position = w->position, mask = w->mask, next = position + record_bytes(record_length(word));
    uint8_t *data = w->data;

    /* What was reserved beyond `length`, and written, is where the next header and payload go, perhaps by the
     * ring's other address, which the compiler takes for another object: it must not swap these stores. The
     * processor goes by the physical address, and does not. */
    atomic_signal_fence(memory_order_seq_cst);
    /* relaxed: P1 orders it */
    atomic_store_explicit(ring_header(data, mask, next), 0, memory_order_relaxed);
    atomic_store_explicit(ring_header(data, mask, position), word, memory_order_release); /* [P1] */
    w->position = next;
    ring_claim(w, position, next);
}

/* Likewise of a kind, with no descriptors. */
static inline void ring_commit(struct ring_writer *w, enum record_kind kind, uint32_t length)
{
    ring_commit_word(w, record_word(kind, length));
}

/* The place of one record that is put in whole. */
struct ring_slot {
    uint8_t *data;
    uint64_t mask, position, next;
};

/* First half, for a payload of at most record_max() bytes: RING_OK; or RING_FULL as far as the writer knows,
 * and ring_find_room() may find more. The next header is zeroed before the payload is written, not after: if
 * the other processor has that line, payload and header then wait for it together, and no reader that polls
 * takes the line of this header away between the two. */
static inline __attribute__((always_inline)) enum ring_state ring_open(const struct ring_writer *w,
                                                                       uint32_t length,
                                                                       struct ring_slot *ret_slot)
{
    uint64_t position = w->position, mask = w->mask, next = position + record_bytes(length);
    uint8_t *data = w->data;

    if (__builtin_expect(next - w->taken > mask + 1 - RECORD_HEADER, 0))
        return RING_FULL;
    *ret_slot = (struct ring_slot){data, mask, position, next};
    atomic_signal_fence(memory_order_seq_cst); /* as in ring_commit() */
    /* relaxed: P1 orders it */
    atomic_store_explicit(ring_header(data, mask, next), 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* before the payload, as said */
    return RING_OK;
}

static inline void *ring_payload(const struct ring_slot *slot)
{
    return slot->data + (slot->position & slot->mask) + RECORD_HEADER;
}

/* Second half: the payload is there. */
static inline __attribute__((always_inline)) void ring_close(struct ring_writer *w,
                                                             const struct ring_slot *slot, uint64_t word)
{
    atomic_store_explicit(ring_header(slot->data, slot->mask, slot->position), word,
                          memory_order_release); /* [P1] */
    w->position = slot->next;
    ring_claim(w, slot->position, slot->next);
}

/* Both, for a payload in one piece. */
static inline __attribute__((always_inline)) enum ring_state ring_put(struct ring_writer *w,
                                                                      enum record_kind kind,
                                                                      const void *payload, uint32_t length)
{
    struct ring_slot slot;

    if (ring_open(w, length, &slot) != RING_OK)
        return RING_FULL;
    copy_fresh(ring_payload(&slot), payload, length);
    ring_close(w, &slot, record_word(kind, length));
    return RING_OK;
}

/* Both, for a payload of 8 bytes that is in a register. */
static inline enum ring_state ring_put_word(struct ring_writer *w, enum record_kind kind, uint64_t payload)
{
    struct ring_slot slot;

    if (ring_open(w, sizeof payload, &slot) != RING_OK)
        return RING_FULL;
    memcpy(ring_payload(&slot), &payload, sizeof payload);
    ring_close(w, &slot, record_word(kind, sizeof payload));
    return RING_OK;
}

/* --- batches --- */

/* Records behind the writer's position that nobody can see yet. */
struct ring_batch {
    uint64_t next;  /* where the next one goes */
    uint64_t first; /* the header that is held back; 0: there is none yet */
};

static inline struct ring_batch ring_batch_begin(const struct ring_writer *w)
{
    return (struct ring_batch){.next = w->position};
}

/* One more record, with its header, if there is room: RING_OK, and *ret_payload is where `length` bytes are
 * to be written before ring_batch_publish(). */
static inline enum ring_state ring_batch_add(struct ring_writer *w, struct ring_batch *b,
                                             enum record_kind kind, uint32_t length, uint8_t **ret_payload)
{
    uint64_t position = b->next, mask = w->mask, next = position + record_bytes(length);
    uint8_t *data = w->data;

    if (__builtin_expect(next + RECORD_HEADER - w->taken > mask + 1, 0)) {
        enum ring_state state = ring_find_room(w, next + RECORD_HEADER - w->position);

        if (state != RING_OK)
            return state;
    }
    ring_claim(w, position, next);
    /* relaxed: P1 of the first orders them */
    atomic_store_explicit(ring_header(data, mask, next), 0, memory_order_relaxed);
    if (b->first)
        atomic_store_explicit(ring_header(data, mask, position), record_word(kind, length),
                              memory_order_relaxed);
    else
        b->first = record_word(kind, length);
    b->next = next;
    *ret_payload = data + (position & mask) + RECORD_HEADER;
    return RING_OK;
}

/* There is one record at least. */
static inline void ring_batch_publish(struct ring_writer *w, const struct ring_batch *b)
{
    atomic_signal_fence(memory_order_seq_cst); /* as in ring_commit() */
    atomic_store_explicit(ring_header(w->data, w->mask, w->position), b->first,
                          memory_order_release); /* [P1] */
    w->position = b->next;
}

/* Of a header that is not just RECORD_DATA of a length that can be: RING_CHUNK, RING_FDS or RING_BROKEN. */
enum ring_state ring_judge(uint64_t word, uint64_t capacity);

/* Whether a look found one. */
static inline bool ring_is_record(enum ring_state state)
{
    return state == RING_OK || state == RING_CHUNK || state == RING_FDS;
}

/* Where the next record begins, or will. */
static inline const uint8_t *ring_next(const struct ring_reader *r)
{
    return r->data + (r->position & r->mask);
}

/* Its header; 0: there is none yet. */
static inline uint64_t ring_look(const uint8_t *record)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)record,
                                memory_order_acquire); /* [C1] */
}

/* Looks at the next record without taking it: RING_OK, RING_CHUNK, RING_FDS, RING_EMPTY,
 * RING_BROKEN. */
static inline enum ring_state ring_peek(const struct ring_reader *r, struct ring_record *ret_record)
{
    const uint8_t *record = ring_next(r);
    uint64_t word = ring_look(record);

    if (word == 0)
        return RING_EMPTY;
    ret_record->word = word;
    ret_record->length = record_length(word);
    ret_record->data = record + RECORD_HEADER;
    if (__builtin_expect(record_kind_of(word) != RECORD_KIND(RECORD_DATA) ||
                             ret_record->length > record_max(r->mask + 1),
                         0))
        return ring_judge(word, r->mask + 1);
    return RING_OK;
}

/* The record that was peeked at, `length` bytes long, is done with. */
static inline void ring_release(struct ring_reader *r, uint32_t length)
{
    uint64_t position = r->position + record_bytes(length);

    r->position = position;
    atomic_store_explicit(r->taken, position, memory_order_release); /* [P2] */
}

#endif
