/* SPDX-License-Identifier: MIT */
/*
 * What shm+posix: and shm+sysv: share (named.c), and what each supplies: how a segment is made, found and
 * taken away by its name, and two seats in it that the kernel frees when a process ends.
 *
 * Under the name stands at most one segment: that of the listener, who is in its seat 0. Who connects takes
 * seat 1. The listener then takes the name away from it, for a new one that waits for the next, so every
 * connection has memory of its own, which goes with the last who maps it.
 */
#ifndef NARU_CHANNEL_SHM_NAMED_H
#define NARU_CHANNEL_SHM_NAMED_H

#include <limits.h>
#include <sys/types.h>

#include "channel/shm/shm.h"
#include "shm/shared.h"

enum { SEAT_LISTENER = 0, SEAT_CONNECTOR = 1 };

struct named_kind;

/* A URL's name. */
struct named_place {
    const struct named_kind *kind;
    const char *what;                         /* the URL, for explanations */
    char path[sizeof "/dev/shm/" + NAME_MAX]; /* POSIX */
    key_t key;                                /* System V */
    int set;                                  /* its semaphores; -1: none yet */
    bool listening;                           /* its listener's semaphore is ours */
};

/* One side's hold on a segment. */
struct named_seat {
    const struct named_kind *kind;
    struct shared_memory memory; /* a channel has taken its sides */
    int side;
    bool left;      /* somebody else did that for us, or nobody looks at it any more */
    int *fd;        /* POSIX: where the descriptor is that holds the lock, for children to close */
    int id, set;    /* System V: of the segment and of the semaphores */
    unsigned place; /* which two of them */
};

/* A segment that somebody else made, as found. */
struct named_found {
    void *data; /* mapped */
    size_t bytes;
};

/* What makes a new one. */
struct named_order {
    unsigned mode;
    uint64_t ring;
    const struct handshake_message *word;
    const struct named_seat *old; /* which it replaces; NULL: nobody listens here yet */
};

enum {
    NAMED_NOBODY = 1, /* no segment, or not a whole one yet */
    NAMED_TAKEN = 2   /* under the name is what somebody else has put there */
};

struct named_kind {
    /* 0 or -EINVAL. */
    int (*parse)(struct url *url, struct named_place *ret_place);

    /* Makes a segment with us in seat 0 and puts it under the name. Without an old one: reclaims what a dead
     * listener left. seat->kind and ->fd are set. 0; -EADDRINUSE: somebody listens there; NAMED_TAKEN: and
     * the old one has the name no more; -EAGAIN: to be tried again; or explained. */
    int (*make)(struct named_place *place, const struct named_order *order, struct named_seat *seat);

    /* Finds and maps what stands under the name; no seat is taken. 0, NAMED_NOBODY or explained. */
    int (*find)(struct named_place *place, struct named_seat *seat, struct named_found *ret_found);

    /* Takes seat->side. Whether it was free. */
    bool (*sit)(struct named_seat *seat);

    /* Whether somebody lives who is in that seat. Asks the kernel. */
    bool (*is_taken)(const struct named_seat *seat, int side);

    /* Leaves seat->side, or gives up what find() left; the descriptor is closed by whoever has it. */
    void (*leave)(struct named_seat *seat);

    /* This process, a child of one that is in the seat, is in it as well. false: nobody is in it any more.
     * NULL: it is, by what it has inherited. */
    bool (*adopt)(struct named_seat *seat);

    /* Whether the name still leads to it. */
    bool (*is_named)(const struct named_place *place, const struct named_seat *seat);

    /* Takes the name away, if it leads to it; nobody listens there any more. */
    void (*unlisten)(struct named_place *place, const struct named_seat *seat);

    /* Of somebody who has joined and cannot be accepted: -ETIMEDOUT, explained, or error_expected(). NULL:
     * that cannot be for long. */
    int (*say_held_up)(const struct named_place *place);

    /* Removes what a dead listener left. 0, -ENOENT, -EBUSY: a live one holds it; or explained. */
    int (*remove)(struct named_place *place);
};

extern const struct named_kind shm_named_posix, shm_named_sysv;

/* Those of channel_ops. */
int shm_named_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt,
                     const struct named_kind *kind);
int shm_named_accept(struct naru_listener *l, struct naru_channel *ch);
int shm_named_stop(struct naru_listener *l);
void shm_named_await(struct naru_listener *l, int64_t deadline);
int shm_named_say_nobody(struct naru_listener *l);
void shm_named_unlisten(struct naru_listener *l, bool owner);
int shm_named_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                      int64_t deadline, const struct named_kind *kind);
void shm_named_close(struct naru_channel *ch, bool owner);
void shm_named_moved(struct naru_channel *ch);
int shm_named_claim(struct naru_channel *ch, bool adopted);
int shm_named_remove(struct url *url, const struct named_kind *kind);

/* Makes the seat's memory of a mapping of the whole segment, which is gone then, also after an error. */
int shm_named_map(const char *what, void *segment, uint64_t ring, struct named_seat *seat);

#define NAMED_CAPABILITIES                                                                                   \
    (NARU_CAN_DUPLEX | NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_ACCEPT_MANY | NARU_CAN_KNOW_DEATH |     \
     NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_CLOSE | NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE |           \
     NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN | NARU_CAN_TELL_DONE)

/* In a row: all but what has to be told the kind. */
#define NAMED_OPERATIONS                                                                                     \
    SHM_MESSAGES, .accept = shm_named_accept, .stop = shm_named_stop, .await = shm_named_await,              \
                  .say_nobody = shm_named_say_nobody, .unlisten = shm_named_unlisten,                        \
                  .claim = shm_named_claim, .moved = shm_named_moved, .close = shm_named_close

#endif
