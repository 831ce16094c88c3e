/* SPDX-License-Identifier: MIT */
/* What shm.c (attempts), short.c and short-loan.c (the short ways), batch.c (many at once),
 * fds.c (descriptors), flush.c (how far the receiver is), wait.c (waiting), loan.c (messages
 * where they lie), open.c (options, pairs), listen.c, arrival.c and connect.c share. */
#ifndef NARU_CHANNEL_SHM_SHM_H
#define NARU_CHANNEL_SHM_SHM_H

#include "channel/channel.h"
#include "channel/shm/allow.h"
#include "channel/shm/handshake.h"
#include "shm/held.h"
#include "shm/link.h"
#include "shm/pool.h"

enum {
    SHM_RING_DEFAULT = 256 * 1024, /* bytes; fits the second-level cache of two processors */
    SHM_BACKLOG_DEFAULT = 64, /* connections answered and not accepted; each of six to eight descriptors */
    SHM_POOL_DEFAULT = 64 * 1024 * 1024, /* bytes of address space; the largest message by default */
    /* Looks of the adaptive wait before it sleeps, twice: on the short way and on the long one; some 50 us
     * together, about as long as to sleep and be woken takes. 4000 let the receiver of a stream of 64 KiB,
     * which take 30 us each, sleep before every other message: 1.5 times the time of ?wait=spin. */
    SHM_SPINS = 10000
};

struct named_seat;

enum wait_how { WAIT_ADAPTIVE, WAIT_SPIN, WAIT_SLEEP };

/* Of a URL. */
struct shm_options {
    size_t ring, lanes, pool, backlog;
    size_t pool_max; /* of the other side's pool that is mapped */
    int how;         /* enum wait_how */
    uint32_t cpu;    /* shm_sole_cpu() of the thread that asked for the channel */
    bool prefault, huge;
    struct shm_allowed allowed;
    struct handshake_type type;
};

enum { SHM_FDS_OUT = 64 }; /* messages with descriptors that may be on their way at once */

enum { SHM_VIEWS = SHM_RETURNS }; /* how many may be out at once */

/* Whose the views of a closed channel are: of no process, and not 0, as *fork_word is in a new child. */
#define SHM_NOBODY UINT64_MAX

/* A view that is out, or was and is free again. */
struct shm_view {
    struct channel_view
        view;       /* the first member: it is found by that. Its release says which of these it is: */
    uint32_t token; /* a chunk's */
    unsigned lane;  /* a record's */
    bool owed;      /* it was released where that says nothing: see shm_settle_views() */
    struct held_record record;
    struct shm *shm;
};

/* ch->state */
struct shm {
    struct shm_link link;
    enum wait_how how;
    int spins; /* looks before a sleep */

    /* Of the last time that the short way waited for a message: how many looks it had left when one came, and
     * how many messages had been sent and received when it began. */
    int looks_left;
    uint64_t sent_then, received_then;

    struct named_seat *seat; /* of a segment with a name (named.h); NULL elsewhere */
    bool pair;               /* nobody knows who took the other end */
    size_t receive_max; /* ?max-message=: what is longer is not borrowed; the peer's ring may be larger */
    unsigned lane;      /* in which it goes: likewise */
    size_t passing;     /* how many descriptors the message has that is or was to be sent: likewise */
    size_t wanted;      /* the length of the message that found no room: the sending thread's */
    enum naru_stage awaited; /* likewise: what it waits for in the place of room; 0: room */
    size_t inline_max;       /* bytes of the largest message that goes by the ring */
    bool lent;               /* a loan in the ring is out: the sending thread's */
    unsigned lent_chunk;     /* the slot of one in the pool, if that is not; likewise */

    /* Messages with descriptors that the receiver is not known to have: where each ends in the ring, in
     * order. The sending thread's. */
    unsigned fds_first, fds_out, fds_most; /* most: that the socket has been found to hold */
    uint64_t fds_ends[SHM_FDS_OUT];

    struct pool pool;              /* of what is sent */
    struct pool_reader their_pool; /* of what is received */

    /* The receiving thread's, see is_endless(): how many times 4 GiB were received when it last asked whether
     * the peer is alive; the position at which it was found to be gone, or to have ended, if it was. */
    uint32_t asked;
    bool found_gone;
    uint64_t gone_at;
    bool heard;      /* in this call: what rang in an event loop has been taken */
    unsigned unread; /* how many times a bell was heard and its byte left where it is: see hear() */

    /* Likewise. Views outlive the channel: the last one that is released frees all this. */
    struct held held[SHM_LANES];
    bool closed;
    uint64_t generation; /* fork_generation() of the process whose the views are; or SHM_NOBODY */
    unsigned views_out, views_made;
    struct shm_view *free_views[SHM_VIEWS]; /* from views_out on; NULL: one that is still to be made */
    struct shm_view views[SHM_VIEWS];
};

/* The explained -EPROTO, for good. */
int shm_say_broken(struct naru_channel *ch);

/* Whether the other side is gone: asks the kernel, and takes what rang. */
bool shm_is_alone(struct shm *shm, struct sleeper *sleeper);

/* Whether there is room for a message of that length; *ret_payload as of shm_find_room(). */
enum ring_state shm_look_for_room(struct shm *shm, size_t length, uint8_t **ret_payload);

/* How much of what was sent has not reached the stage: RING_OK with *ret_left, or RING_BROKEN. */
enum ring_state shm_look_for_stage(struct shm *shm, enum naru_stage stage, uint64_t *ret_left);

/* How many bytes of a lane were not received: likewise. */
enum ring_state shm_look_for_taken(struct shm *shm, unsigned lane, uint64_t *ret_left);

/* The next record, of the highest lane that has one: as ring_peek(). */
enum ring_state shm_look_for_record(struct shm *shm, unsigned *ret_lane, struct ring_record *ret_record);

/* 0 or the explained -EINVAL: there is no such priority here, or descriptors are to go with it. */
int shm_check_priority(const struct naru_channel *ch, const struct naru_message *m);

/* One step of an attempt that found no room (nothing to receive). 0: look again; -EAGAIN or -EINTR. */
int shm_await(struct naru_channel *ch, bool sending, bool block);

/* Waits for room for a message, as attempts do: *ret_payload is where it goes in the ring, or where its
 * description does, if it is one for the pool, which has room then. */
int shm_find_room(struct naru_channel *ch, size_t length, bool block, uint8_t **ret_payload);

/* A message that is there: in the ring, or in the pool. */
struct shm_found {
    const uint8_t *data;
    uint32_t length, record; /* bytes of the message, and of the ring's record */
    uint32_t fds;            /* descriptors that come with it */
    unsigned lane;
    bool in_pool;
    struct shm_chunk chunk;
};

/* Waits for one, likewise. */
int shm_find_message(struct naru_channel *ch, bool block, struct shm_found *ret_found);

/* Before its bytes are read. 0 or the explained -ENOMEM. */
int shm_reach(struct naru_channel *ch, const struct shm_found *found);

/* A chunk of the pool for which room was found. 0 or the explained -ENOMEM. */
int shm_take_chunk(struct naru_channel *ch, size_t length, unsigned *ret_slot);

/* Sends what stands in a chunk. payload: where its description goes. */
void shm_send_chunk(struct shm *shm, unsigned slot, size_t length, size_t fds, uint8_t *payload);

/* Whether one more message may have descriptors: RING_OK, RING_FULL (wait for the receiver), RING_BROKEN. */
enum ring_state shm_look_for_fds(struct shm *shm);

/* Sends the descriptors of the message that goes next into the ring, and has room there: nothing but its
 * commit may follow. word: its header. 0; -EAGAIN: shm_find_room() waits until it is worth another try; or an
 * explained -errno. */
int shm_pass_fds(struct naru_channel *ch, const struct naru_message *m, uint64_t word);

/* Receives those of a message that was found, and puts them into m, or closes and counts them (NULL). What
 * remains to be done must not fail. 0 or explained: -EPROTO; -EMFILE, and the message stays: there is no room
 * for them in m, and too many wait to be closed (base/discard.h). */
int shm_take_fds(struct naru_channel *ch, const struct shm_found *found, struct naru_message *m);

/* -EPIPE or -EOWNERDEAD if the receiver is known to be gone, else 0. */
int shm_check_receiver(struct naru_channel *ch);

/* Unmaps and frees everything, once the channel is closed and no view is out. */
void shm_free(struct shm *shm);

ssize_t shm_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block);
int shm_loan(struct naru_channel *ch, size_t length, bool block, struct naru_loan *ret_loan);
int shm_commit(struct naru_channel *ch, const struct naru_message *m, bool block);
void shm_cancel(struct naru_channel *ch);
int shm_borrow(struct naru_channel *ch, bool block, struct naru_view *ret_view);
int shm_short_loan(struct naru_channel *ch, size_t length, int64_t timeout_ns, struct naru_loan *ret_loan);
int shm_short_commit(struct naru_loan *loan, size_t length);
int shm_short_borrow(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view);

/* One more; there are not SHM_VIEWS yet. */
struct shm_view *shm_make_view(struct shm *shm);

/* One that is not out; there is one. */
static inline struct shm_view *shm_take_view(struct shm *shm)
{
    unsigned out = shm->views_out++;

    if (__builtin_expect(shm->free_views[out] == NULL, 0))
        shm->free_views[out] = shm_make_view(shm);
    return shm->free_views[out];
}

/* Whose it is from now on: releasing the copy in a forked child says nothing. */
static inline void shm_note_borrower(struct naru_channel *ch, struct shm *shm)
{
    uint64_t generation = fork_guard_generation(&ch->guard);

    if (__builtin_expect(shm->generation != generation, 0))
        shm->generation = generation;
}

/* What a forked child released while it was not the owner: the other side is told now, if it has become that;
 * and nobody, if the channel ends there. */
void shm_settle_views(struct shm *shm);

/* What release is of a view of a record, and of a chunk. */
void shm_release_record(struct channel_view *held);
void shm_release_chunk(struct channel_view *held);

/* Gives it to the caller of naru_borrow(). */
static inline void shm_show(const struct naru_channel *ch, struct shm_view *view, const uint8_t *data,
                            size_t length, unsigned lane, struct naru_view *ret_view)
{
    ret_view->data = data;
    ret_view->length = length;
    ret_view->type = 0;
    ret_view->priority = lane;
    ret_view->sender = ch->peer;
    ret_view->internal = &view->view;
}

/* The number of the only CPU that this thread may run on, counted from 1; 0: it has several. */
uint32_t shm_sole_cpu(void);

/* How long to look before sleeping. one_cpu: the two sides have one between them, and whoever looks keeps the
 * other from going on. shm_open_channel() takes a sole CPU for one that the other side has, too. */
void shm_set_patience(struct naru_channel *ch, bool one_cpu);

/* Likewise, for a peer of which that is known: shm_sole_cpu() there, or what it says of that. */
void shm_note_cpu(struct naru_channel *ch, uint32_t theirs);

/* What this side says of itself. */
struct handshake_message shm_say(enum handshake_kind kind, const struct shm_options *options);

/* 0 or -EINVAL with what was expected. named: one side of two that have a name to meet at. */
int shm_parse_options(struct url *url, const struct naru_options *opt, bool named,
                      struct shm_options *ret_options);

/* What may fail of making a channel of both memories: its state, and ?prefault and ?huge. 0 or the explained
 * -ENOMEM: the memories are the caller's as before, but for one that is not mapped any more (?huge). what:
 * the URL. *ret_shm: for shm_open_channel(); or free(3). */
int shm_prepare(const char *what, const struct shm_options *options, struct sealed *own,
                struct sealed *theirs, struct shm **ret_shm);

/* Makes ch, with its sockets in place, a channel. Takes both memories, and shm of shm_prepare(). pool_max:
 * how much of our pool the other side maps, as it said. */
void shm_open_channel(struct naru_channel *ch, const struct shm_options *options, uint64_t pool_max,
                      struct sealed *own, struct sealed *theirs, struct shm *shm);

/* A bell of both sides' receivers, or of both sides' senders: an end for each side. what: the URL. 0 or an
 * explained -errno. */
int shm_make_bell(const char *what, int *ret_end, int *ret_other_end);

/* A bell for an event loop. Whether there could be one: loops do without. */
bool shm_make_loop_bell(int *ret_fd);

/* Of shm_ops: see channel_ops. */
int shm_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt);
int shm_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt, int64_t deadline);
int shm_meet(struct naru_channel *ch);
void shm_part(struct naru_channel *ch, bool owner);
int shm_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt);
int shm_accept(struct naru_listener *l, struct naru_channel *ch);
int shm_dispatch(struct naru_listener *l);
int shm_stop(struct naru_listener *l);
void shm_unlisten(struct naru_listener *l, bool owner);
int shm_remove(struct url *url);
int shm_wait(struct naru_channel *ch, int event, int64_t deadline);
bool shm_holds(struct naru_channel *ch);
bool shm_look(struct naru_channel *ch);
bool shm_has_room(struct naru_channel *ch);

/* And what channels over shared memory have in common, whichever it is. */
void shm_close(struct naru_channel *ch, bool owner);
int shm_claim(struct naru_channel *ch, bool adopted);
int shm_finish(struct naru_channel *ch);
int shm_send(struct naru_channel *ch, const struct naru_message *m, bool block);
int shm_recv(struct naru_channel *ch, struct naru_message *m, bool block);
int shm_send_bytes(struct naru_channel *ch, const void *data, size_t length);
ssize_t shm_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns);
int64_t shm_untaken(struct naru_channel *ch);
int64_t shm_undone(struct naru_channel *ch);
int shm_wait_for_stage(struct naru_channel *ch, enum naru_stage stage, int64_t deadline);
int shm_say_late(struct naru_channel *ch, enum channel_late late);

#define SHM_MESSAGES                                                                                         \
    .send = shm_send, .send_batch = shm_send_batch, .recv = shm_recv, .send_bytes = shm_send_bytes,          \
    .recv_bytes = shm_recv_bytes, .loan = shm_loan, .commit = shm_commit, .cancel = shm_cancel,              \
    .borrow = shm_borrow, .short_loan = shm_short_loan, .short_commit = shm_short_commit,                    \
    .short_borrow = shm_short_borrow, .wait = shm_wait, .untaken = shm_untaken, .undone = shm_undone,        \
    .wait_for_stage = shm_wait_for_stage, .say_late = shm_say_late, .finish = shm_finish

#endif
