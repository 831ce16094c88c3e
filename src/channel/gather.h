/* SPDX-License-Identifier: MIT */
/*
 * What gather.c (the calls, and whose turn it is) and gather-peers.c (who there is, and what the kernel tells
 * of them) share.
 *
 * Invariants
 * G1  Every peer is in `peers`, in the order of numbers. It is in `active` or idle.
 * G2  An idle peer's last attempt found nothing, and after it the peer was armed (shm: a ticket was drawn,
 *     and a look behind it found nothing). So whatever comes later makes its descriptor report an edge to the
 *     epoll. That is rfd, even if the peer's own naru_channel_fd() was asked for, which also hears another
 *     bell: ch->gathered.
 * G3  An edge is taken from the epoll only to make the peer active: none is lost between two calls.
 */
#ifndef NARU_CHANNEL_GATHER_H
#define NARU_CHANNEL_GATHER_H

#include "base/list.h"
#include "channel/channel.h"
#include "naru/gather.h"

enum { GATHER_TICKS = 64 }; /* looks of all peers between two at the clock, which takes as long as some */

enum gather_kind { GATHER_PEER, GATHER_LISTENER, GATHER_INTERRUPT, GATHER_READY, GATHER_TIMER };

struct gather_peer {
    enum gather_kind kind; /* the first member: what epoll_event.data.ptr points to */
    struct naru_channel *ch;
    uint64_t number;
    struct list node, turn; /* in `peers`; in `active` */
    int fd;                 /* in the epoll */
    bool active;
    bool tries; /* an attempt is due although a look may find nothing: an end is seen by the kernel alone */
    int looks;  /* in a row that found nothing */
};

struct gather_listener {
    enum gather_kind kind; /* likewise */
    struct naru_listener *l;
    struct list node;
    bool paused;      /* not polled: there is no room for a peer, or it failed ... */
    int64_t retry_at; /* ... and is tried again then; 0: not before somebody has gone */
    bool told;        /* that it fails */
};

struct naru_gather {
    struct list peers, active, listeners;
    size_t count, active_count, limit;
    uint64_t last_number;
    struct gather_peer *cursor;  /* naru_gather_next()'s; NULL: none */
    struct gather_peer *leaving; /* its end was told: closed by the next call; in no list */
    int fd, interrupt_fd, ready_fd;
    int timer_fd;     /* wakes an event loop for the listener that is tried again first; -1: not asked for */
    int64_t timer_at; /* what it is set to; NARU_FOREVER: nothing */
    enum gather_kind interrupt_kind, ready_kind, timer_kind;
    bool asked, ready; /* naru_gather_fd(): it was asked for; ready_fd is set */
    unsigned ticks;
    int64_t ask_at, look_at_names_at;
    struct fork_guard guard;
};

/* Watches ch, which is g's from here on, and gives it its first turn. 0 or an explained -errno. */
int gather_peer_add(struct naru_gather *g, struct naru_channel *ch, uint64_t *ret_number);

/* Takes it out of everything but memory: it is to be closed. */
void gather_peer_remove(struct naru_gather *g, struct gather_peer *p);
void gather_peer_free(struct gather_peer *p);

void gather_peer_activate(struct naru_gather *g, struct gather_peer *p);
void gather_peer_rest(struct naru_gather *g, struct gather_peer *p);

/* Listeners that were paused for want of room are polled again. */
void gather_resume(struct naru_gather *g);

/* Has an event loop woken when a listener is to be tried again. */
void gather_set_timer(struct naru_gather *g);

void gather_listener_close(struct naru_gather *g, struct gather_listener *l);

/* Likewise, and those who have connected to it are peers. 0, or what some of them were lost for, explained.
 */
int gather_listener_finish(struct naru_gather *g, struct gather_listener *l);

/* Asks the kernel who has something or wants to come, waiting for it until the deadline. 0; -ETIMEDOUT; what
 * an accept failed with, explained; -ECANCELED. Peers that have something are active then, in each case. */
int gather_ask(struct naru_gather *g, int64_t deadline);

/* What ready_fd, in the epoll, is to show. */
void gather_set_ready(struct naru_gather *g, bool ready);

/* Where nothing is waited for: asks if the last time is a while ago. */
int gather_ask_sometimes(struct naru_gather *g);

#endif
