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
 *   was never sent) is seen and ends the connection. One from 16 uses ago is as good as the one that is out:
 *   who gives that back has the chunk;
 * - the receiver cannot be out of room to give back: no more chunks are out than the ring of returns has
 *   words;
 * - whoever is killed where, there is nothing to repair: chunks belong to the connection and go with it.
 *
 * There is no count beside the ring of returns: each word says by itself of which time around it is. So what
 * is given back takes one store, and one line goes from CPU to CPU for 16 of them.
 *
 * Messages are often of one size. So a chunk that comes back is kept where it lies for the next one of as
 * many pages, first come, first used: that takes no search for a gap, and no look at the receiver's page,
 * whose lines would have to come from the other CPU, for each message. The page is looked at when nothing is
 * kept, and some chunks are in turn (pool_take()), so one look finds several. As soon as another size is
 * wanted all that is kept is free, and neighbours are one gap.
 *
 * I1  A byte of the pool belongs to at most one slot that is not free.
 * I2  What the receiver has given back and the sender has not seen are tokens of chunks that are out, each
 *     once; so they are at most SHM_RETURNS, and no word is stored again before it was seen.
 * I3  What is kept is in use, was not sent since it came back, and has kept_bytes.
 *
 * [P3] pool_return(), release: the receiver's loads of the chunk are done before its token is there.
 * [C3] pool_token_at(), acquire: pairs with P3; licenses writing the chunk again.
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
    uint16_t token; /* under which it is sent: the slot's number, and above it how often it came back */
    uint16_t out;   /* the token that the receiver has; POOL_NOT_OUT: it is free, kept or lent */
    bool used;
};

#define POOL_NOT_OUT UINT16_MAX /* no token */

enum {
    /* So many chunks of one size are in turn, before one is used again that has come back; */
    POOL_TURN = 8,
    POOL_TURN_BYTES = 4 * 1024 * 1024, /* but no more than this: what is in turn should be in the caches. */
    /* So many of messages that come faster than anybody reads or writes them, and are in no cache. */
    POOL_TURN_MOST = 48,
    POOL_UNTOUCHED = 256, /* bytes a nanosecond: more than any second-level cache gives */
    POOL_LOOKS = 16       /* at what came back, after which that is judged again */
};

/* The sender's side; its sending thread's. */
struct pool {
    const struct sealed *memory;
    uint8_t *base;
    uint64_t size, reached; /* below `reached` memory is reserved */
    const struct shm_page *their_page;
    uint64_t seen; /* returns looked at */
    unsigned used, sent;
    unsigned turn;                 /* so many are in turn */
    unsigned looks, most_out;      /* since that was last judged: how many, and what they left out at most */
    uint64_t seen_then;            /* when it was, */
    int64_t then;                  /* on clock_now() */
    uint64_t kept_bytes;           /* of each chunk that is kept, or will be */
    uint32_t kept_first, kept_end; /* which of kept[], running on */
    uint8_t kept[SHM_RETURNS];     /* slots, in the order in which they came back */
    uint16_t by_offset[SHM_RETURNS]; /* the slots in use */
    struct pool_slot slots[SHM_RETURNS];
};

/* The receiver's side; its receiving thread's. */
struct pool_reader {
    const struct sealed *memory;
    const uint8_t *base;
    uint64_t size, reached; /* reached: whole pages of it */
    struct shm_page *page;  /* our own */
    uint64_t returned;      /* how many were given back */
};

/* memory, with a pool of its own, and the pages stay where they are. */
void pool_init(struct pool *p, const struct sealed *memory, const struct shm_page *their_page);
void pool_reader_init(struct pool_reader *r, const struct sealed *memory, struct shm_page *page);

/* Takes note of what came back; p->sent chunks are out then. RING_OK or RING_BROKEN. */
enum ring_state pool_collect(struct pool *p);

/* pool_take_kept(), and if nothing is kept after taking note of what came back; but not while few chunks are
 * in turn, or with something wrong: pool_find() says what. */
bool pool_take_again(struct pool *p, uint64_t length, unsigned *ret_slot);

/* Whether there is a chunk or a gap for length bytes, after taking note of what came back: RING_OK, RING_FULL
 * (wait for the receiver), RING_BROKEN (it gave back what it had not). length is at most the pool's size. */
enum ring_state pool_find(struct pool *p, uint64_t length);

/* Takes one, a gap rather than what is kept while few chunks are in turn. 0 with *ret_slot, or -ENOMEM,
 * without a sentence: the machine has no memory for it. Only after pool_find() said RING_OK for the same
 * length. */
int pool_take(struct pool *p, uint64_t length, unsigned *ret_slot);

static inline uint64_t pool_whole_pages(uint64_t length)
{
    return (length + SHM_PAGE - 1) & ~(uint64_t)(SHM_PAGE - 1);
}

static inline bool pool_keeps_any(const struct pool *p)
{
    return p->kept_first != p->kept_end;
}

/* Whether the receiver has it, as far as is known. */
static inline bool pool_is_out(const struct pool *p, unsigned slot)
{
    return p->slots[slot].out != POOL_NOT_OUT;
}

/* What was given back as number n: RING_OK and its token; RING_EMPTY: nothing yet; or RING_BROKEN. */
static inline enum ring_state pool_token_at(const struct pool *p, uint64_t n, uint32_t *ret_token)
{
    uint32_t word =
        atomic_load_explicit(&p->their_page->returns[n % SHM_RETURNS], memory_order_acquire); /* C3 */

    *ret_token = word & SHM_TOKEN;
    if ((word ^ shm_return(n, 0)) <= SHM_TOKEN)
        return RING_OK;
    return (word ^ shm_return(n - SHM_RETURNS, 0)) <= SHM_TOKEN ? RING_EMPTY : RING_BROKEN;
}

/* A chunk that is kept, without any look at what else came back: whether there was one. */
static inline bool pool_take_kept(struct pool *p, uint64_t length, unsigned *ret_slot)
{
    if (!pool_keeps_any(p) || pool_whole_pages(length) != p->kept_bytes)
        return false;
    *ret_slot = p->kept[p->kept_first++ % SHM_RETURNS];
    return true;
}

static inline uint8_t *pool_data(const struct pool *p, unsigned slot)
{
    return p->base + p->slots[slot].offset;
}

/* Asks for the first line of the chunk that will be taken next: its reader may still have it. */
static inline void pool_prefetch(const struct pool *p)
{
    if (p->turn == POOL_TURN && pool_keeps_any(p))
        ring_prefetch(pool_data(p, p->kept[p->kept_first % SHM_RETURNS]));
}

/* What the description of a chunk says. length: what is used of it. */
static inline struct shm_chunk pool_describe(const struct pool *p, unsigned slot, uint32_t length)
{
    return (struct shm_chunk){.length = length,
                              .place = (uint32_t)p->slots[slot].offset | p->slots[slot].token};
}

/* The description is sent, or will be before anything else is done here. */
static inline void pool_sent(struct pool *p, unsigned slot)
{
    p->slots[slot].out = p->slots[slot].token;
    p->sent++;
}

/* Both. */
static inline struct shm_chunk pool_send(struct pool *p, unsigned slot, uint32_t length)
{
    pool_sent(p, slot);
    return pool_describe(p, slot, length);
}

/* Gives up a chunk that was not sent. */
void pool_cancel(struct pool *p, unsigned slot);

/* A description. `found`: the sender's memory, fetched once. */
static inline struct shm_chunk pool_fetch(const uint8_t *found)
{
    uint64_t word = *(const volatile uint64_t *)(const void *)found;
    struct shm_chunk chunk;

    memcpy(&chunk, &word, sizeof chunk);
    return chunk;
}

/* Likewise, checked: RING_OK or RING_BROKEN. */
static inline enum ring_state pool_read(const struct pool_reader *r, const uint8_t *found,
                                        struct shm_chunk *ret_chunk)
{
    struct shm_chunk chunk = pool_fetch(found);

    if (shm_chunk_offset(chunk) + chunk.length > r->size)
        return RING_BROKEN;
    *ret_chunk = chunk;
    return RING_OK;
}

/* Whether nothing has to be done before the chunk is read; a description is right then, too. */
static inline bool pool_is_reached(const struct pool_reader *r, const struct shm_chunk *chunk)
{
    return shm_chunk_offset(*chunk) + chunk->length <= r->reached;
}

/* Before the chunk is read. 0 or -ENOMEM, without a sentence. */
int pool_reach(struct pool_reader *r, const struct shm_chunk *chunk);

/* Gives the chunk back. */
static inline void pool_return(struct pool_reader *r, uint32_t token)
{
    uint64_t n = r->returned++;

    atomic_store_explicit(&r->page->returns[n % SHM_RETURNS], shm_return(n, token),
                          memory_order_release); /* [P3] */
}

#endif
