/* SPDX-License-Identifier: MIT */
/*
 * What lending can do at most where nobody touches what is lent: a descriptor of 8 bytes goes there and 4
 * bytes come back, and that is all. No memory is mapped for the chunks, nothing that is found is checked;
 * nobody sleeps, ends, counts, or sends anything else.
 *
 *  - The sender has as many chunks as naru's pool has room for of 1 MiB. It takes one that is free, and
 *    stores a descriptor (length, chunk) into a ring of words. A bit of the word says which time around the
 *    ring it is of, so nothing has to be zeroed; and as the ring has a word for every chunk, nobody has to
 *    say how far he has read.
 *  - The receiver takes the word, and gives the chunk back by one store into a ring of its own, likewise. The
 *    sender looks there when it has none, and takes all that have come back.
 *
 * Each in two ways: compiled into one loop ("bare"); and as four calls for a message, as a library has them
 * ("calls"). Tried and not faster, in two processes on two CPUs that share a cache: 48 or 256 chunks, rings
 * of 256 and 16,384 words, lines claimed ahead as in floor-spin.c, a receiver that waits half a microsecond
 * where it finds nothing, a sender that does.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engine.h"
#include "bench/floor.h"

enum {
    LINE = 64,
    CHUNKS = 64,
    PATIENCE = 1 << 14, /* looks, as in floor-spin.c */
    SHORTER_STOP =
        512, /* as in carrier-naru.c: how much shorter than its loan a message is tells its number */
    SHORTER_MASK = SHORTER_STOP - 1
};

/* What one side writes. */
struct area {
    _Alignas(LINE) _Atomic uint64_t sent[CHUNKS];
    _Alignas(LINE) _Atomic uint32_t returned[CHUNKS];
};

struct link {
    struct area *both, *tx, *rx;
    uint64_t sent, seen; /* words of ours, and of what came back to us */
    unsigned free_count;
    uint8_t free[CHUNKS];
    uint64_t received; /* words of the other side's; as many were given back */
    uint32_t expected;
};

static void close_link(struct link *link)
{
    duo_unshare(link->both, 2 * sizeof *link->both);
    free(link);
}

static int open_link(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link || !(link->both = duo_share(2 * sizeof *link->both))) {
        free(link);
        return duo_fail(-ENOMEM, "out of memory");
    }
    if (load->size < carrier->min_message) {
        close_link(link);
        return duo_fail(-EINVAL, "its length tells a message's number: that takes %zu bytes at least",
                        carrier->min_message);
    }
    while (link->free_count < CHUNKS) {
        link->free[link->free_count] = (uint8_t)link->free_count;
        link->free_count++;
    }
    *ret_link = link;
    return 0;
}

static int attach(struct link *link, enum duo_side side)
{
    link->tx = &link->both[side == DUO_NEAR ? 0 : 1];
    link->rx = &link->both[side == DUO_NEAR ? 1 : 0];
    return 0;
}

/* Of word n, counted from 0: 1 the first time around, then 0, 1, ... What is all zero has none yet. */
static inline unsigned turn_of(uint64_t n)
{
    return ~(unsigned)(n / CHUNKS) & 1;
}

static void wait_a_look(unsigned *looks)
{
    if (++*looks % PATIENCE == 0)
        (void)sched_yield();
}

/* --- the sender --- */

static bool has_returned(const struct link *link, uint32_t *ret_word)
{
    *ret_word = atomic_load_explicit(&link->rx->returned[link->seen % CHUNKS], memory_order_acquire);
    return (*ret_word & 1) == turn_of(link->seen);
}

static void collect(struct link *link)
{
    unsigned looks = 0;
    uint32_t word;

    while (!has_returned(link, &word))
        wait_a_look(&looks);
    do {
        link->free[link->free_count++] = (uint8_t)(word >> 1);
        link->seen++;
    } while (has_returned(link, &word));
}

static inline unsigned lend(struct link *link)
{
    if (link->free_count == 0)
        collect(link);
    return link->free[--link->free_count];
}

static inline void commit(struct link *link, unsigned chunk, size_t length)
{
    uint64_t n = link->sent++;

    atomic_store_explicit(&link->tx->sent[n % CHUNKS],
                          (uint64_t)length << 32 | (uint64_t)chunk << 1 | turn_of(n), memory_order_release);
}

/* --- the receiver --- */

static inline uint64_t borrow(struct link *link)
{
    const _Atomic uint64_t *word = &link->rx->sent[link->received % CHUNKS];
    unsigned looks = 0;
    uint64_t found;

    while (((found = atomic_load_explicit(word, memory_order_acquire)) & 1) != turn_of(link->received))
        wait_a_look(&looks);
    return found;
}

static inline void release(struct link *link, unsigned chunk)
{
    uint64_t n = link->received++;

    atomic_store_explicit(&link->tx->returned[n % CHUNKS], chunk << 1 | turn_of(n), memory_order_release);
}

/* --- messages --- */

static size_t length_for(const void *data, size_t length)
{
    uint32_t number;

    memcpy(&number, data, sizeof number);
    return length - (number == ENGINE_STOP ? SHORTER_STOP : number & SHORTER_MASK);
}

static ssize_t tell(struct link *link, uint64_t word, void *buffer, size_t capacity, const void **ret_data)
{
    uint32_t shorter = (uint32_t)capacity - (uint32_t)(word >> 32), next = link->expected++;
    uint32_t number = shorter == SHORTER_STOP ? ENGINE_STOP : (next & ~(uint32_t)SHORTER_MASK) | shorter;

    memcpy(buffer, &number, sizeof number);
    *ret_data = buffer;
    return (ssize_t)capacity;
}

static unsigned chunk_of(uint64_t word)
{
    return (uint32_t)word >> 1;
}

static int send_bare(struct link *link, const void *data, size_t length)
{
    unsigned chunk = lend(link);

    commit(link, chunk, length_for(data, length));
    return 0;
}

static ssize_t recv_bare(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    uint64_t word = borrow(link);

    release(link, chunk_of(word));
    return tell(link, word, buffer, capacity, ret_data);
}

/* The same, called. */

static __attribute__((noinline)) unsigned call_lend(struct link *link)
{
    return lend(link);
}

static __attribute__((noinline)) void call_commit(struct link *link, unsigned chunk, size_t length)
{
    commit(link, chunk, length);
}

static __attribute__((noinline)) uint64_t call_borrow(struct link *link)
{
    return borrow(link);
}

static __attribute__((noinline)) void call_release(struct link *link, unsigned chunk)
{
    release(link, chunk);
}

static int send_called(struct link *link, const void *data, size_t length)
{
    unsigned chunk = call_lend(link);

    call_commit(link, chunk, length_for(data, length));
    return 0;
}

static ssize_t recv_called(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    uint64_t word = call_borrow(link);

    call_release(link, chunk_of(word));
    return tell(link, word, buffer, capacity, ret_data);
}

const struct carrier floor_shm_lend = {.mechanism = "shm-lend",
                                       .min_message = 2 * SHORTER_STOP + 1,
                                       .lending = LENDING_UNTOUCHED,
                                       .open = open_link,
                                       .attach = attach,
                                       .close = close_link,
                                       .send = send_bare,
                                       .recv = recv_bare};
const struct carrier floor_shm_lend_calls = {.mechanism = "shm-lend-calls",
                                             .min_message = 2 * SHORTER_STOP + 1,
                                             .lending = LENDING_UNTOUCHED,
                                             .open = open_link,
                                             .attach = attach,
                                             .close = close_link,
                                             .send = send_called,
                                             .recv = recv_called};
