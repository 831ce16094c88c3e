/* SPDX-License-Identifier: MIT */
/*
 * One side of a connection over shared memory: its own memory and the other side's, a ring each way, and who
 * wakes whom. Nothing here waits or knows of channels.
 */
#ifndef NARU_SHM_LINK_H
#define NARU_SHM_LINK_H

#include "segment/sealed.h"
#include "shm/ring.h"
#include "shm/wakeup.h"

struct shm_link {
    struct sealed own, theirs;
    struct shm_page *page;
    const struct shm_page *their_page;
    struct ring_writer tx; /* lane 0 */
    struct ring_reader rx;
    struct waker their_receiver, their_sender;
    struct sleeper receiver, sender;
    /* Found out by a thread that sends or by one that receives, and told to both; what a side stored before
     * it went is seen by whoever sees `gone`. */
    _Atomic bool gone;     /* the other side's sockets hung up: shm_link_lose() */
    _Atomic bool broken;   /* its memory held nonsense: shm_link_break() */
    _Atomic uint32_t said; /* enum shm_end: the most that it has said of its end */
    /* All of that in one word for each direction, for who has no time: while their `end` is that, there is
     * nothing against sending; up to that position, nothing against receiving. SHM_NO_END and 0: the long way
     * is to judge, for good. */
    _Atomic uint64_t send_while;
    _Atomic uint64_t receive_up_to;
    /* Lanes are rings of their own, one a priority: from 1 on they are here. With more than one, receiving
     * goes the long way. */
    unsigned lanes_out, lanes_in;
    struct ring_writer more_tx[SHM_LANES - 1];
    struct ring_reader more_rx[SHM_LANES - 1];
};

static inline struct ring_writer *shm_link_tx(struct shm_link *l, unsigned lane)
{
    return lane ? &l->more_tx[lane - 1] : &l->tx;
}

static inline struct ring_reader *shm_link_rx(struct shm_link *l, unsigned lane)
{
    return lane ? &l->more_rx[lane - 1] : &l->rx;
}

#define SHM_NO_END (UINT64_C(1) << 32) /* no `end` is that, whatever the other side writes there */

/* How far is received without asking whether there is anybody: see is_endless() in channel/shm/shm.c. */
#define SHM_FAR (UINT64_C(1) << 32)

/* Fills in the first page of a side's memory, which is all zero. */
void shm_link_fill(struct shm_page *page, uint64_t ring, uint64_t pool);

/* Makes a side's memory, with its first page filled in: a ring, and a pool of so many bytes, or none (0).
 * *ret_fd is what the other side attaches. 0 or an explained -errno. what: the URL. */
int shm_link_make(const char *what, uint64_t ring, uint64_t pool, struct sealed *ret_own, int *ret_fd);

/* Likewise with so many lanes. */
int shm_link_make_lanes(const char *what, uint64_t ring, unsigned lanes, uint64_t pool,
                        struct sealed *ret_own, int *ret_fd);

/* Gives up memory that the other side may have attached: it is told that this side has closed. May be called
 * on zeroed memory. */
void shm_link_forsake(struct sealed *own);

/* Attaches the other side's memory. ring: as it announced; what follows is its pool, of which pool_max bytes
 * (whole pages) are mapped at most: reading pages that a hostile side never reserved makes them, at our
 * expense. -EPROTO (explained): it is not what was announced. */
int shm_link_attach(const char *what, int fd, uint64_t ring, uint64_t pool_max, struct sealed *ret_theirs);

/* Likewise with so many lanes. */
int shm_link_attach_lanes(const char *what, int fd, uint64_t ring, unsigned lanes, uint64_t pool_max,
                          struct sealed *ret_theirs);

/* Takes both memories. rfd, wfd: this side's ends of the receivers' bell and of the senders'; the caller's.
 */
void shm_link_init(struct shm_link *l, struct sealed *own, struct sealed *theirs, int rfd, int wfd);

/* This process is the one that uses the link from now on. */
void shm_link_claim(struct shm_link *l);

/* Says that nothing more is sent, after all that was: SHM_FINISHED by the thread that sends, SHM_CLOSED when
 * no other thread uses the link any more. */
void shm_link_end(struct shm_link *l, enum shm_end end);

/* What the other side has said that was not known. Who unsays it, or says what is no end, is broken. */
enum shm_end shm_link_note_end(struct shm_link *l);

/* What the other side has said; acquire: all that it sent before is to be seen now. */
static inline enum shm_end shm_link_their_end(struct shm_link *l)
{
    uint32_t end = atomic_load_explicit(&l->their_page->end, memory_order_acquire); /* [C3] */

    /* relaxed: our own, to be compared */
    if (__builtin_expect(end != atomic_load_explicit(&l->said, memory_order_relaxed), 0))
        return shm_link_note_end(l);
    return (enum shm_end)end;
}

/* The other side is gone; it is broken. For good. */
void shm_link_lose(struct shm_link *l);
void shm_link_break(struct shm_link *l);

/* By the thread that receives: there is somebody, so SHM_FAR further. */
void shm_link_go_on(struct shm_link *l);

static inline bool shm_link_may_send(const struct shm_link *l)
{
    /* relaxed: `end` licenses reading nothing here, and what is set by another thread is seen soon */
    return atomic_load_explicit(&l->their_page->end, memory_order_relaxed) ==
           atomic_load_explicit(&l->send_while, memory_order_relaxed);
}

static inline bool shm_link_may_receive(const struct shm_link *l)
{
    return l->rx.position < atomic_load_explicit(&l->receive_up_to, memory_order_relaxed); /* likewise */
}

void shm_link_deinit(struct shm_link *l);

#endif
