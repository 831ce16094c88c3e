/* SPDX-License-Identifier: MIT */
/*
 * Channels over a segment that has a name, for where a socket to meet at is not wanted or cannot be: the
 * processes share /dev/shm or an IPC namespace and nothing else, or the other program attaches by key. Rings,
 * attempts and waiting are those of shm:; here is who meets whom, in which segment, and whether they live.
 *
 * A connection, step by step; a process may be killed between any two of them:
 *
 *     listener                                connector
 *     L1 a new segment, seat 0 taken
 *     L2 it gets the name                     C1 maps what the name leads to
 *                                             C2 seat 0 is taken, nobody has joined: takes seat 1
 *                                             C3 looks again: the name still leads there, nobody has joined
 *     L3 sees joined: L1 and L2 for the next  C4 joined from 0 to 1: connected
 *     L4 the channel is accepted
 *
 *     E1 joined from 0 to 2: nobody joins any more, C4 fails. Or it was 1 already: L4 without L3
 *     E2 the name is taken away
 *
 * Up to C4 the connector has changed nothing but a seat, which the kernel frees: the next takes it. From C4
 * on the segment is this connection's alone, accepted even if the connector has gone since, as on a socket.
 * Up to L2 nobody joins a new segment: in POSIX shared memory it stands beside the name, at NAME.next, and in
 * System V's has the key, but a semaphore says that it is being made. Wherever a listener is killed, what it
 * leaves has a free seat 0, by which the next one knows that it may take it away. Connecting does not wait
 * for L4: what is sent waits in the ring.
 */
#include "channel/shm/named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "shm/bell.h"
#include "sync/futex.h"

static_assert(sizeof(struct handshake_message) == SHARED_WORD, "layout");

/* --- seats --- */

static struct named_seat *seat_new(const struct named_kind *kind, int side, int *fd)
{
    struct named_seat *seat = calloc(1, sizeof *seat);

    if (!seat)
        return NULL;
    seat->kind = kind;
    seat->side = side;
    seat->fd = fd;
    seat->id = seat->set = -1;
    return seat;
}

static struct named_seat *seat_free(struct named_seat *seat)
{
    shared_deinit(&seat->memory);
    free(seat);
    return NULL;
}

int shm_named_map(const char *what, void *segment, uint64_t ring, struct named_seat *seat)
{
    return shared_split(what, segment, ring, &seat->memory);
}

static bool has_joined(const struct shm_shared *header)
{
    /* acquire: pairs with C4, so that what the connector found is found here */
    return atomic_load_explicit(&header->joined, memory_order_acquire) != SHARED_FREE;
}

/* C4 and E1. Whether it was still to be decided. */
static bool decide(struct shm_shared *header, enum shared_joined value)
{
    uint32_t undecided = SHARED_FREE;

    /* release: pairs with has_joined(); acquire: who finds it joined has what the connector stored before */
    return atomic_compare_exchange_strong_explicit(&header->joined, &undecided, value, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static bool is_peer_gone(void *peer)
{
    const struct named_seat *seat = peer;

    return !seat->kind->is_taken(seat, !seat->side);
}

static int parse(struct url *url, const struct naru_options *opt, const struct named_kind *kind,
                 struct named_place *ret_place, struct shm_options *ret_options)
{
    int r;

    *ret_place = (struct named_place){.kind = kind, .what = url->text, .set = -1};
    r = kind->parse(url, ret_place);
    if (r == 0)
        r = shm_parse_options(url, opt, false, ret_options);
    if (r == 0)
        r = url_check_unused(url); /* before anything is made, and before a long wait */
    ret_options->pool = 0;
    return r;
}

/* Whether both sides may run on one CPU only, the same. */
static bool is_one_cpu(const struct shm_shared *header)
{
    uint32_t cpu = header->listener_cpu;

    return cpu != 0 && cpu == header->connector_cpu;
}

/* What may fail of open_channel(): while it can be left as it was. */
static int prepare(const char *what, const struct shm_options *options, struct named_seat *seat,
                   struct shm **ret_shm)
{
    struct shared_memory *memory = &seat->memory;

    return shm_prepare(what, options, &memory->side[seat->side], &memory->side[!seat->side], ret_shm);
}

/* Takes the seat, whose memory the channel takes. shm: of prepare(). */
static void open_channel(struct naru_channel *ch, const struct shm_options *options, struct named_seat *seat,
                         struct shm *shm)
{
    struct shared_memory *memory = &seat->memory;

    shm_open_channel(ch, options, SHM_POOL_MOST, &memory->side[seat->side], &memory->side[!seat->side], shm);
    shm->seat = seat;
    shared_hang_bells(&shm->link, memory->header, seat->side, is_peer_gone, seat);
    shm_set_patience(ch, is_one_cpu(memory->header));
    if (ch->max_message == shm->inline_max)
        ch->limit_mend = "it may fill half of the ring; the listener makes that larger with ?ring=";
    shm_link_claim(&shm->link);
}

void shm_named_close(struct naru_channel *ch, bool owner)
{
    struct shm *shm = ch->state;
    struct named_seat *seat = shm ? shm->seat : NULL;

    if (!seat)
        return;
    shm_close(ch, owner); /* says so first: who is out of its seat and has not said why was killed */
    if (owner && !seat->left)
        seat->kind->leave(seat);
    (void)seat_free(seat);
}

void shm_named_moved(struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    if (shm->seat->fd)
        shm->seat->fd = &ch->rfd;
}

/* A seat in which nobody was for a moment is as good as left: the other side has asked then, or asks later
 * who is in it now. If that has closed, nobody asks any more, and the seat may be another connection's. */
int shm_named_claim(struct naru_channel *ch, bool adopted)
{
    struct shm *shm = ch->state;
    struct named_seat *seat = shm->seat;
    bool watched = shm_link_their_end(&shm->link) != SHM_CLOSED;

    (void)shm_claim(ch, adopted);
    if (!seat->kind->adopt)
        return 0;
    seat->left = !watched || !seat->kind->adopt(seat);
    if (!seat->left || !watched)
        return 0;
    shm_link_lose(&shm->link);
    return error_set(
        EOWNERDEAD,
        "%s: the process that had this end has closed it, or ended, before it was adopted, and the "
        "peer takes it for dead; adopt it first, or use shm: or shm+posix:",
        ch->url);
}

/* --- listening --- */

struct named_listener {
    struct named_place place;
    struct shm_options options;
    struct named_seat *waiting; /* whose descriptor is l->lock_fd; NULL: stopped, and the last was accepted */
    bool stopped;               /* nobody joins the waiting seat but who has */
    bool shut;                  /* and nobody has */
    int64_t step;               /* of the looks whether who has joined can be accepted by now */
};

/* Whether the waiting seat is a connection. What a peer that is mad stores there makes it one. */
static bool is_joined(const struct named_listener *n)
{
    return n->waiting && !n->shut && has_joined(n->waiting->memory.header);
}

/* E1 and E2. */
static void stop(struct named_listener *n)
{
    if (n->stopped)
        return;
    n->stopped = true;
    n->shut = decide(n->waiting->memory.header, SHARED_SHUT);
    n->place.kind->unlisten(&n->place, n->waiting);
}

static int make_segment(struct naru_listener *l, const struct named_seat *old, int *fd,
                        struct named_seat **ret_seat)
{
    struct named_listener *n = l->state;
    const struct handshake_message word = shm_say(HANDSHAKE_HELLO, &n->options);
    const struct named_order order = {
        .mode = l->options.mode, .ring = n->options.ring, .word = &word, .old = old};
    struct named_seat *seat = seat_new(n->place.kind, SEAT_LISTENER, fd);
    int r;

    if (!seat)
        return error_set(ENOMEM, "%s: out of memory for a listener", l->url);
    r = n->place.kind->make(&n->place, &order, seat);
    if (r != 0) {
        (void)seat_free(seat);
        return r;
    }
    seat->memory.header->listener_cpu = shm_sole_cpu(); /* a connector that is faster takes it for several */
    *ret_seat = seat;
    return 0;
}

int shm_named_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt,
                     const struct named_kind *kind)
{
    struct named_listener *n = calloc(1, sizeof *n);
    int r;

    if (!n)
        return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
    r = parse(url, opt, kind, &n->place, &n->options);
    n->place.what = l->url; /* which lives as long as the listener */
    l->state = n;
    if (r == 0)
        r = make_segment(l, NULL, &l->lock_fd, &n->waiting);
    if (r < 0) {
        l->lock_fd = fd_close(l->lock_fd);
        l->state = NULL;
        free(n);
    }
    return r;
}

/* L1 and L2 for the next. Without room for it the one that has joined stays where it is. 0, NAMED_TAKEN or
 * explained. */
static int replace_waiting(struct naru_listener *l, struct naru_channel *ch)
{
    struct named_listener *n = l->state;
    struct named_seat *next;
    int fd = -1, r;

    r = make_segment(l, n->waiting, &fd, &next);
    if (r != 0)
        return r;
    ch->rfd = fd_steal(&l->lock_fd);
    l->lock_fd = fd;
    next->fd = &l->lock_fd;
    n->waiting = next;
    n->step = 0;
    return 0;
}

static int name_removed(const struct naru_listener *l)
{
    return error_set(ENOENT,
                     "%s: the segment was removed or replaced, so that nobody can connect here any more; "
                     "listen again",
                     l->url);
}

int shm_named_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct named_listener *n = l->state;
    struct named_seat *seat = n->waiting;
    struct shm *shm;
    int r;

    if (!is_joined(n)) {
        if (!n->stopped && n->place.kind->is_named(&n->place, seat))
            return -EAGAIN;
        stop(n); /* or one who found the name before it was removed joins behind our back */
        if (!is_joined(n))
            return name_removed(l);
    }
    r = prepare(l->url, &n->options, seat, &shm);
    if (r < 0)
        return r;
    r = n->stopped ? NAMED_TAKEN : replace_waiting(l, ch);
    if (r < 0) {
        free(shm);
        return r;
    }
    if (r == NAMED_TAKEN) { /* this one is the last */
        stop(n);
        ch->rfd = fd_steal(&l->lock_fd);
        n->waiting = NULL;
    }
    seat->fd = &ch->rfd;
    open_channel(ch, &n->options, seat, shm);
    return 0;
}

int shm_named_stop(struct naru_listener *l)
{
    stop(l->state);
    return 0;
}

/* Nobody tells that the name was removed, nor, once somebody has joined, that there can be a next segment. */
void shm_named_await(struct naru_listener *l, int64_t deadline)
{
    struct named_listener *n = l->state;
    int64_t until = clock_now() + 100 * bell_slice_ns; /* a second */

    if (has_joined(n->waiting->memory.header)) {
        (void)backoff_sleep(&n->step, deadline);
        return;
    }
    (void)futex_wait(&n->waiting->memory.header->joined, 0, until < deadline ? until : deadline);
}

int shm_named_say_nobody(struct naru_listener *l)
{
    const struct named_listener *n = l->state;

    return n->place.kind->say_held_up && is_joined(n) ? n->place.kind->say_held_up(&n->place)
                                                      : error_expected(ETIMEDOUT);
}

void shm_named_unlisten(struct naru_listener *l, bool owner)
{
    struct named_listener *n = l->state;
    struct named_seat *seat = n->waiting;

    if (owner && seat) {
        stop(n);
        shm_link_forsake(&seat->memory.side[SEAT_LISTENER]); /* who has joined meanwhile is told */
        seat->kind->leave(seat);
    }
    if (seat)
        (void)seat_free(seat);
    free(n);
}

/* --- connecting --- */

enum {
    /* Why it is to be tried again. */
    NOBODY = NAMED_NOBODY,
    BUSY = 3 /* somebody else has just connected */
};

/* Whether what was found is a segment of ours, and one whose words we talk: 0 with the rings' size, or
 * explained. The header may change under us. */
static int check(const char *what, const struct named_found *found, const struct shm_options *options,
                 uint64_t *ret_ring)
{
    const struct shm_shared *header = found->data;
    const struct handshake_message own = shm_say(HANDSHAKE_HELLO, options);
    struct handshake_message theirs;
    uint8_t word[SHARED_WORD];
    enum handshake_reason reason;

    if (found->bytes < SHM_PAGE || !shared_is_one(header))
        return error_set(EPROTO, "%s: there is shared memory of that name, but it is no channel of naru's",
                         what);
    memcpy(word, header->word, sizeof word);
    reason = handshake_read(word, sizeof word, &own, &theirs);
    if (reason == REASON_NONE &&
        (theirs.kind != HANDSHAKE_HELLO || header->size != shared_size(theirs.ring) ||
         shared_size(theirs.ring) != found->bytes)) /* all that is mapped is unmapped by the parts */
        reason = REASON_PROTOCOL;
    if (reason != REASON_NONE)
        return handshake_failed(what, reason, &own, &theirs);
    *ret_ring = theirs.ring;
    return 0;
}

/* C2 to C4. *ret_shm: of prepare(). 0, NOBODY, BUSY or explained. */
static int join(const struct named_place *place, const struct shm_options *options, struct named_seat *seat,
                struct shm **ret_shm)
{
    struct shm_shared *header = seat->memory.header;
    struct shm *shm;
    int r;

    if (!seat->kind->is_taken(seat, SEAT_LISTENER))
        return NOBODY;
    if (has_joined(header) || !seat->kind->sit(seat))
        return BUSY;
    if (has_joined(header) || !seat->kind->is_named(place, seat)) {
        seat->kind->leave(seat);
        return BUSY;
    }
    r = prepare(place->what, options, seat, &shm);
    if (r < 0) {
        seat->kind->leave(seat);
        return r;
    }
    header->connector_cpu = shm_sole_cpu();
    if (!decide(header, SHARED_JOINED)) { /* its listener ends */
        free(shm);
        seat->kind->leave(seat);
        return NOBODY;
    }
    (void)futex_wake(&header->joined, INT_MAX);
    *ret_shm = shm;
    return 0;
}

/* One attempt; forks are held off. 0, NOBODY, BUSY or explained. */
static int try_to_connect(struct naru_channel *ch, struct named_place *place,
                          const struct shm_options *options)
{
    struct named_seat *seat = seat_new(place->kind, SEAT_CONNECTOR, &ch->rfd);
    struct named_found found;
    struct shm *shm;
    uint64_t ring = 0;
    int r;

    if (!seat)
        return error_set(ENOMEM, "%s: out of memory for a channel", ch->url);
    r = place->kind->find(place, seat, &found);
    if (r == 0) {
        r = check(place->what, &found, options, &ring);
        if (r != 0)
            (void)munmap(found.data, found.bytes);
        else
            r = shm_named_map(place->what, found.data, ring, seat);
    }
    if (r == 0)
        r = join(place, options, seat, &shm);
    if (r == 0) {
        open_channel(ch, options, seat, shm);
        return 0;
    }
    (void)seat_free(seat);
    ch->rfd = fd_close(ch->rfd);
    return r;
}

int shm_named_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                      int64_t deadline, const struct named_kind *kind)
{
    struct shm_options options;
    struct named_place place;
    int64_t step = 0;
    int r = parse(url, opt, kind, &place, &options);

    if (r < 0)
        return r;
    for (;;) {
        fork_hold();
        r = try_to_connect(ch, &place, &options);
        fork_release();
        if (r <= 0)
            return r;
        if (!backoff_sleep(&step, deadline))
            return error_set(ETIMEDOUT, "%s: %s, or wait longer", url->text,
                             r == BUSY ? "its listener has not accepted the one before yet; let it"
                                       : "nobody listens there; start the listener first");
    }
}

int shm_named_remove(struct url *url, const struct named_kind *kind)
{
    struct named_place place = {.kind = kind, .what = url->text, .set = -1};
    int r = kind->parse(url, &place);

    return r < 0 ? r : kind->remove(&place);
}
