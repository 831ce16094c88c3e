/* SPDX-License-Identifier: MIT */
/*
 * A segment that both sides of a channel find by a name and map for writing: what lies where in it.
 *
 *     0                   struct shm_shared
 *     SHM_PAGE            side 0, who listened: its struct shm_page, then the ring in which it sends
 *     2 SHM_PAGE + ring   side 1, who connected: likewise
 *
 * A side's part is what layout.h says of its sealed memory, without a pool, and every word has the one writer
 * that it has there. But here the kernel holds nobody to that: the sides share fate. What is read is checked
 * as there, so a side that is mad harms the other's data and its course, and not what else is in its memory.
 *
 * The header's words: `magic` is stored last by who makes the segment; `joined` is changed once, from 0, by
 * side 1, which has its seat then, or by side 0, which lets nobody join any more: whoever is first decides
 * whether there is a connection. The bells are stored to by the side that rings. The rest is never changed.
 */
#ifndef NARU_SHM_SHARED_H
#define NARU_SHM_SHARED_H

#include "segment/sealed.h"
#include "shm/layout.h"
#include "shm/link.h"

/* "narunam" and a zero byte, as a little-endian machine reads them. */
#define SHARED_MAGIC UINT64_C(0x006d616e7572616e)

enum { SHARED_WORD = 128 };

enum shared_joined {
    SHARED_FREE = 0,
    SHARED_JOINED = 1, /* somebody has been in seat 1 */
    SHARED_SHUT = 2    /* and nobody will be */
};

/* Words that a side rings (shm/bell.h): for the other's receiver and for its sender. */
struct shm_bells {
    _Alignas(SHM_LINE) _Atomic uint32_t receiver;
    _Alignas(SHM_LINE) _Atomic uint32_t sender;
};

struct shm_shared {
    _Alignas(SHM_LINE) _Atomic uint64_t magic;
    uint64_t size;                                /* bytes of the segment */
    uint32_t place;                               /* System V: which two semaphores are the seats */
    uint32_t listener_cpu;                        /* the only one it may run on, counted from 1; 0: several */
    _Alignas(SHM_LINE) uint8_t word[SHARED_WORD]; /* what the listener says of itself: its HELLO */
    _Alignas(SHM_LINE) _Atomic uint32_t joined;   /* enum shared_joined */
    uint32_t connector_cpu;                       /* as listener_cpu; before `joined` */
    struct shm_bells bells[2];                    /* by the side that rings them */
    _Alignas(SHM_LINE) uint8_t reserved[SHM_PAGE - 8 * SHM_LINE];
};

static_assert(sizeof(struct shm_shared) == SHM_PAGE, "layout");
static_assert(offsetof(struct shm_shared, size) == 8, "layout");
static_assert(offsetof(struct shm_shared, place) == 16, "layout");
static_assert(offsetof(struct shm_shared, listener_cpu) == 20, "layout");
static_assert(offsetof(struct shm_shared, connector_cpu) == 196, "layout");
static_assert(offsetof(struct shm_shared, word) == 64, "layout");
static_assert(offsetof(struct shm_shared, joined) == 192, "layout");
static_assert(offsetof(struct shm_shared, bells) == 256, "layout");
static_assert(sizeof(struct shm_bells) == 128, "layout");

/* Mapped by a side. Zeroed: not mapped. */
struct shared_memory {
    struct shm_shared *header;
    struct sealed side[2];
};

/* Bytes of a segment with rings of that size. */
size_t shared_size(uint64_t ring);

/* Fills in a new one, all zero and of shared_size() bytes: from now on it is one. word: SHARED_WORD bytes. */
void shared_fill(void *segment, uint64_t ring, uint32_t place, const void *word);

/* Whether the first page of some segment says that it is one. It may be written meanwhile. */
bool shared_is_one(const void *page);

/* Makes of a mapping of all of it, which becomes the header's alone, the parts that channels use. 0 or an
 * explained -errno; the mapping is gone then. what: the URL. */
int shared_split(const char *what, void *segment, uint64_t ring, struct shared_memory *ret_memory);

/* Unmaps what is left of it. */
void shared_deinit(struct shared_memory *memory);

/* A link's bells are those of the header, and whether the other side is gone is_gone(peer) says. */
void shared_hang_bells(struct shm_link *link, struct shm_shared *header, int side,
                       bool (*is_gone)(void *peer), void *peer);

#endif
