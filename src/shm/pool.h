/* SPDX-License-Identifier: MIT */
/*
 * The pool: where a sender writes messages that are too large for its ring, and where they are read.
 *
 * It lies behind the ring in the sender's sealed memory, `size` bytes that are mapped from the beginning, but
 * take no memory until they are first used. A message takes whole pages of it, a chunk, the first gap that is
 * large enough; its description (struct shm_chunk) goes by the ring. The receiver reads the chunk where it
 * lies and gives back its token, in a ring of words in its own page. So
 *
 * - what is out, where, and under which token is in the sender's private memory: nothing that the receiver
 *   writes can make two messages overlap. A token that is not out (given back twice, forged, of a loan that
 *   was never sent) is seen and ends the connection;
 * - the receiver cannot be out of room to give back: no more chunks are out than the ring of returns has
 * words;
 * - whoever is killed where, there is nothing to repair: chunks belong to the connection and go with it.
 *
 * I1  A byte of the pool belongs to at most one slot that is not free.
 * I2  returned (the receiver's count) - seen <= the number of chunks sent and not seen to be back <=
 * SHM_RETURNS.
 *
 * [P3] pool_return(), release: the receiver's loads of the chunk, and its token, are done before the count.
 * [C3] pool_collect(), acquire: pairs with P3; licenses reading the token and writing the chunk again.
 * The description is ordered by the ring (P1, C1), the chunk's bytes with it.
 *
 * Memory is reserved when it is first reached (madvise(2), MADV_POPULATE_WRITE), so a lack of it is an error
 * of the send, and no SIGBUS. A receiver likewise asks for what it is about to read: a hostile sender may
 * describe pages that it never reserved.
 */
#ifndef NARU_SHM_POOL_H
#define NARU_SHM_POOL_H

#include "segment/sealed.h"
#include "shm/ring.h"

struct pool_slot {
    uint64_t offset, bytes; /* whole pages */
    uint32_t token;         /* the slot's number, and above it how often it was used */
    bool sent;              /* the receiver has it; else it is free or lent */
    bool used;
};

/* The sender's side; its sending thread's. */
struct pool {
    const struct sealed *memory;
    uint8_t *base;
    uint64_t size, reached; /* below `reached` memory is reserved */
    const struct shm_page *their_page;
    uint64_t seen; /* returns looked at */
    unsigned used, sent;
    uint16_t by_offset[SHM_RETURNS]; /* the slots in use */
    struct pool_slot slots[SHM_RETURNS];
};

/* The receiver's side; its receiving thread's. */
struct pool_reader {
    const struct sealed *memory;
    const uint8_t *base;
    uint64_t size, reached;
    struct shm_page *page; /* our own */
};

/* memory, with a pool of its own, and the pages stay where they are. */
void pool_init(struct pool *p, const struct sealed *memory, const struct shm_page *their_page);
void pool_reader_init(struct pool_reader *r, const struct sealed *memory, struct shm_page *page);

/* Takes note of what came back; p->sent chunks are out then. RING_OK or RING_BROKEN. */
enum ring_state pool_collect(struct pool *p);

/* Whether there is a gap for length bytes, after taking note of what came back: RING_OK, RING_FULL (wait for
 * the receiver), RING_BROKEN (it gave back what it had not). length is at most the pool's size. */
enum ring_state pool_find(struct pool *p, uint64_t length);

/* Takes the gap. 0 with *ret_slot, or -ENOMEM, without a sentence: the machine has no memory for it. Only
 * after pool_find() said RING_OK for the same length. */
int pool_take(struct pool *p, uint64_t length, unsigned *ret_slot);

static inline uint8_t *pool_data(const struct pool *p, unsigned slot)
{
    return p->base + p->slots[slot].offset;
}

/* The chunk is about to be sent: what its description says. length: what is used of it. */
struct shm_chunk pool_send(struct pool *p, unsigned slot, uint32_t length);

/* Gives up a chunk that was not sent. */
void pool_cancel(struct pool *p, unsigned slot);

/* Checks a description: RING_OK or RING_BROKEN. `found`: the sender's memory, fetched once. */
enum ring_state pool_read(const struct pool_reader *r, const uint8_t *found, struct shm_chunk *ret_chunk);

/* Before the chunk is read. 0 or -ENOMEM, without a sentence. */
int pool_reach(struct pool_reader *r, const struct shm_chunk *chunk);

/* Gives the chunk back. */
void pool_return(struct pool_reader *r, uint32_t token);

#endif
