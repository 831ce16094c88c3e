/* SPDX-License-Identifier: MIT */
/*
 * What lies where in shared memory.
 *
 * Each side of a channel makes one piece of sealed memory (segment/sealed.h), which only it can write: a page
 * (struct shm_page) and the ring in which it sends. So every byte has one writer, and a reader that is
 * hostile or mad can harm nobody's data but its own. Everything read from the other side's memory is input:
 * fetched once, checked, never trusted again.
 *
 * What one side stores and the other polls lies on a cache line of its own, so that looking at one thing does
 * not take another one's line away.
 */
#ifndef NARU_SHM_LAYOUT_H
#define NARU_SHM_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Raised with every change of what is in this file. */
enum { SHM_LAYOUT = 3 };

enum { SHM_LINE = 64, SHM_PAGE = 4096 };

enum { SHM_LANES = 8 }; /* rings a side may have */

enum { SHM_RETURNS = 256 }; /* chunks of a pool that may be out at once */

/* The largest pool, in bytes: lengths and places in it are 32 bits. */
#define SHM_POOL_MOST (UINT64_C(4) << 30)

/* "narushm" and a zero byte, as a little-endian machine reads them: also says the byte order. */
#define SHM_MAGIC UINT64_C(0x006d68737572616e)

/* How a side's sending stands. */
enum shm_end {
    SHM_GOES_ON = 0,
    SHM_FINISHED = 1, /* sends no more, but receives */
    SHM_CLOSED = 2    /* gone, and said so: who has gone without saying was killed */
};

/* How far this side has come in one of the other's rings; free-running. */
struct shm_lane {
    /* It is done with all before. */
    _Alignas(SHM_LINE) _Atomic uint64_t taken;

    /* While it holds records, up to where it has received behind them; otherwise what that was once: the
     * further of the two counts. Written only then, and on a line that is its owner's by then. */
    _Atomic uint64_t received;
};

static_assert(sizeof(struct shm_lane) == SHM_LINE, "layout");
static_assert(offsetof(struct shm_lane, received) == 8, "layout");

/* The first page of a side's memory. */
struct shm_page {
    /* Set before the memory is passed, and never again. */
    _Alignas(SHM_LINE) uint64_t magic;
    uint32_t layout;
    uint32_t line;  /* SHM_LINE */
    uint64_t ring;  /* bytes */
    uint64_t pool;  /* bytes behind the rings; may be 0 */
    uint32_t lanes; /* rings, one a priority, all of that size */

    /* Not 0 while this side's sender (receiver) fences whenever it has published: see wakeup.h. */
    _Alignas(SHM_LINE) _Atomic uint32_t sender_fences;
    _Atomic uint32_t receiver_fences;

    /* Tickets: not 0 while this side's receiver (sender) is asleep or about to be, and another number each
     * time: see wakeup.h. */
    _Alignas(SHM_LINE) _Atomic uint32_t receiver_asleep;
    _Alignas(SHM_LINE) _Atomic uint32_t sender_asleep;

    _Alignas(SHM_LINE) _Atomic uint32_t end; /* enum shm_end; only ever raised */

    /* What this side has given back of the other's pool, the last of it: number n, counted from 0, is in word
     * n % SHM_RETURNS, and its token has n / SHM_RETURNS + 1 above it (shm_return()): see pool.h. */
    _Alignas(SHM_LINE) _Atomic uint32_t returns[SHM_RETURNS];

    struct shm_lane lane[SHM_LANES];

    _Alignas(SHM_LINE) uint8_t reserved[SHM_PAGE - (5 + SHM_LANES) * SHM_LINE - 4 * SHM_RETURNS];
};

static_assert(sizeof(struct shm_page) == SHM_PAGE, "layout");
static_assert(offsetof(struct shm_page, magic) == 0, "layout");
static_assert(offsetof(struct shm_page, layout) == 8, "layout");
static_assert(offsetof(struct shm_page, line) == 12, "layout");
static_assert(offsetof(struct shm_page, ring) == 16, "layout");
static_assert(offsetof(struct shm_page, pool) == 24, "layout");
static_assert(offsetof(struct shm_page, lanes) == 32, "layout");
static_assert(offsetof(struct shm_page, sender_fences) == 64, "layout");
static_assert(offsetof(struct shm_page, receiver_fences) == 68, "layout");
static_assert(offsetof(struct shm_page, receiver_asleep) == 128, "layout");
static_assert(offsetof(struct shm_page, sender_asleep) == 192, "layout");
static_assert(offsetof(struct shm_page, end) == 256, "layout");
static_assert(offsetof(struct shm_page, returns) == 320, "layout");
static_assert(offsetof(struct shm_page, lane) == 1344, "layout");
static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "lock-free words");

/*
 * A record of the ring: a header word, then the payload, then unused bytes up to the next record, which
 * begins at a multiple of 8 and, while records are no longer than a cache line, does not straddle two if all
 * are alike.
 *
 *     bit 63..56  kind, never 0: a header of 0 says that there is no record yet
 *     bit 55..32  how many descriptors go with it (by a socket), at most RECORD_FDS_MAX
 *     bit 31..0   length of the payload in bytes
 */
enum { RECORD_HEADER = 8, RECORD_FDS_MAX = 253 /* SCM_MAX_FD of include/net/scm.h */ };

enum record_kind {
    RECORD_DATA = 1, /* the payload is the message */
    RECORD_CHUNK = 2 /* the payload is a struct shm_chunk, the message in the pool */
};

/* Where a message lies in the sender's pool. Four records of these are in a cache line. */
struct shm_chunk {
    uint32_t length; /* bytes */
    uint32_t place;  /* from the pool's beginning, a multiple of SHM_PAGE; and, below that, its token: the
                        receiver gives it back, and it means nothing to it */
};

static_assert(sizeof(struct shm_chunk) == 8, "layout");
static_assert(SHM_POOL_MOST - 1 <= UINT32_MAX, "a chunk's place has room for any offset in a pool");

enum { SHM_TOKEN = SHM_PAGE - 1 }; /* a token's bits, of a chunk's place and of what is given back */

static inline uint64_t shm_chunk_offset(struct shm_chunk chunk)
{
    return chunk.place & ~(uint32_t)SHM_TOKEN;
}

static inline uint32_t shm_chunk_token(struct shm_chunk chunk)
{
    return chunk.place & SHM_TOKEN;
}

/* The word that gives a token back as number n. */
static inline uint32_t shm_return(uint64_t n, uint32_t token)
{
    return (uint32_t)(n / SHM_RETURNS + 1) * SHM_PAGE | token;
}

static inline uint64_t record_word(enum record_kind kind, uint32_t length)
{
    return (uint64_t)kind << 56 | length;
}

static inline uint32_t record_length(uint64_t word)
{
    return (uint32_t)word;
}

static inline uint64_t record_word_with_fds(enum record_kind kind, size_t fds, uint32_t length)
{
    return record_word(kind, length) | (uint64_t)fds << 32;
}

static inline uint32_t record_fds(uint64_t word)
{
    return (uint32_t)(word >> 32) & 0xffffff;
}

/* Kind and descriptors together: with a kind alone compared, a record with descriptors is of another. */
static inline uint32_t record_kind_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

#define RECORD_KIND(kind) ((uint32_t)(kind) << 24)

/* Bytes of the ring that a record takes. */
static inline uint64_t record_bytes(uint64_t length)
{
    uint64_t bytes = RECORD_HEADER + length;

    if (bytes <= 16)
        return 16;
    if (bytes <= 32)
        return 32;
    if (bytes <= 64)
        return 64;
    return (bytes + 7) & ~UINT64_C(7);
}

/* The longest payload: half the ring, so that a sender never waits for one that is read to leave all of it.
 */
static inline uint64_t record_max(uint64_t ring)
{
    return ring / 2 - 2 * RECORD_HEADER;
}

#endif
