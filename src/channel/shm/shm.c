/* SPDX-License-Identifier: MIT */
/*
 * shm: messages in memory that both processes map. A message is copied once into it and once out of it; no
 * system call is made while both sides are busy. src/shm/ has the rings and their proof; here they become a
 * channel: attempts and the end; waiting is in wait.c. How one comes to be is in open.c.
 *
 * A channel's descriptors are the sockets that wake: rfd where this side's receiver sleeps, wfd where its
 * sender does. So a thread that sends and one that receives never take each other's wake-ups. The two sides'
 * rfd are one pair of sockets, and their wfd are (shm/wakeup.h); of two users each sleeps in a socket of its
 * own, and rings the other's by their_rfd and their_wfd (handshake.h). loop_bell is where this side's
 * receiver is rung while it is in an event loop.
 */
#include "channel/shm/shm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "channel/table.h"

/* --- the end --- */

void shm_close(struct naru_channel *ch, bool owner)
{
    struct shm *shm = ch->state;

    if (!shm)
        return;
    /* The copy of an end that another process took says nothing: it is closed here, and lives there. So may
     * one that children keep: the sockets tell when the last of them has closed it. */
    if (owner && fork_guard_generation(&ch->guard) != 0 && !ch->keep_on_fork) {
        shm_link_end(&shm->link, SHM_CLOSED);
        fork_hold();
        if (ch->side_fd >= 0) /* descriptors may be on their way */
            ch->side_fd = handshake_hang_up(ch->side_fd);
        ch->their_rfd = handshake_close_bell(ch->their_rfd);
        ch->their_wfd = handshake_close_bell(ch->their_wfd);
        fork_release();
    }
    sealed_deinit(&shm->link.own);
    shm->generation = SHM_NOBODY;
    shm_settle_views(shm);
    shm->closed = true;
    if (shm->views_out == 0)
        shm_free(shm);
}

void shm_free(struct shm *shm)
{
    shm_link_deinit(&shm->link);
    free(shm);
}

int shm_claim(struct naru_channel *ch, bool adopted)
{
    struct shm *shm = ch->state;

    shm_link_claim(&shm->link);
    if (adopted) {
        shm->generation = fork_guard_generation(&ch->guard);
        shm_settle_views(shm);
    }
    return 0;
}

int shm_finish(struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    shm_link_end(&shm->link, SHM_FINISHED);
    return 0;
}

/* --- the other side --- */

int shm_say_broken(struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    shm_link_break(&shm->link);
    return error_set(EPROTO, "%s: the peer's memory holds what naru cannot have written; close the channel",
                     ch->url);
}

/* Who has finished and is gone has sent all it wanted to; but what was sent to it, it may not have received.
 */
static int peer_gone(struct naru_channel *ch, bool sending)
{
    struct shm *shm = ch->state;
    enum shm_end end = shm_link_their_end(&shm->link);

    if (shm->link.broken)
        return shm_say_broken(ch);
    if (shm->pair || (end != SHM_GOES_ON && (!sending || end == SHM_CLOSED)))
        return error_set(EPIPE, "%s: the peer has closed", ch->url);
    if (ch->peer.pid > 0)
        return error_set(EOWNERDEAD, "%s: process %lld at the other end was killed, or ended without closing",
                         ch->url, (long long)ch->peer.pid);
    return error_set(EOWNERDEAD, "%s: the peer was killed, or ended without closing", ch->url);
}

/* --- attempts --- */

/* Whether the receiver is known to be gone. */
static bool receiver_left(struct shm *shm)
{
    return shm->link.gone || shm_link_their_end(&shm->link) == SHM_CLOSED;
}

int shm_check_receiver(struct naru_channel *ch)
{
    return receiver_left(ch->state) ? peer_gone(ch, true) : 0;
}

int shm_find_room(struct naru_channel *ch, size_t length, bool block, uint8_t **ret_payload)
{
    struct shm *shm = ch->state;
    int r = 0;

    if (shm->lent && shm->lane == 0)
        return error_set(EBUSY, "%s: a loan is out, and the next message is in it; commit or cancel it first",
                         ch->url);
    shm->wanted = length; /* also for who finds it, and no room for descriptors: shm_pass_fds() */
    while (r == 0) {
        enum ring_state state;

        if (shm->link.broken)
            return shm_say_broken(ch);
        if (receiver_left(shm))
            return peer_gone(ch, true);
        state = shm_look_for_room(shm, length, ret_payload);
        if (state == RING_OK)
            return 0;
        if (state == RING_BROKEN)
            return shm_say_broken(ch);
        r = shm_await(ch, true, block);
    }
    return r;
}

int shm_take_chunk(struct naru_channel *ch, size_t length, unsigned *ret_slot)
{
    struct shm *shm = ch->state;

    return pool_take(&shm->pool, length, ret_slot) == 0
               ? 0
               : error_set(ENOMEM, "%s: the machine has no memory for a message of %zu bytes", ch->url,
                           length);
}

void shm_send_chunk(struct shm *shm, unsigned slot, size_t length, size_t fds, uint8_t *payload)
{
    struct shm_chunk chunk = pool_send(&shm->pool, slot, (uint32_t)length);

    memcpy(payload, &chunk, sizeof chunk);
    ring_commit_word(shm_link_tx(&shm->link, shm->lane),
                     record_word_with_fds(RECORD_CHUNK, fds, sizeof chunk));
    waker_published(&shm->link.their_receiver);
}

static int send_large(struct naru_channel *ch, const struct naru_message *m, size_t length, uint8_t *payload)
{
    struct shm *shm = ch->state;
    unsigned slot;
    int r = shm_take_chunk(ch, length, &slot);

    if (r == 0 && m->fd_count) {
        r = shm_pass_fds(ch, m, record_word_with_fds(RECORD_CHUNK, m->fd_count, sizeof(struct shm_chunk)));
        if (r < 0)
            pool_cancel(&shm->pool, slot);
    }
    if (r < 0)
        return r;
    (void)message_gather(m, pool_data(&shm->pool, slot), length);
    shm_send_chunk(shm, slot, length, m->fd_count, payload);
    return 0;
}

static int send_small(struct naru_channel *ch, const struct naru_message *m, size_t length, uint8_t *payload)
{
    struct shm *shm = ch->state;
    uint64_t word = record_word_with_fds(RECORD_DATA, m->fd_count, (uint32_t)length);
    int r = m->fd_count ? shm_pass_fds(ch, m, word) : 0;

    if (r < 0)
        return r;
    (void)message_gather(m, payload, length);
    ring_commit_word(shm_link_tx(&shm->link, shm->lane), word);
    waker_published(&shm->link.their_receiver);
    return 0;
}

int shm_check_priority(const struct naru_channel *ch, const struct naru_message *m)
{
    const struct shm *shm = ch->state;

    if (m->priority >= shm->link.lanes_out)
        return error_set(
            EINVAL, "%s: priority %u, where they go from 0 to %u; open this end with more ?lanes= (up to %d)",
            ch->url, m->priority, shm->link.lanes_out - 1, SHM_LANES);
    if (m->priority && m->fd_count)
        return error_set(EINVAL, "%s: descriptors go with messages of priority 0, and not of %u", ch->url,
                         m->priority);
    return 0;
}

int shm_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct shm *shm = ch->state;
    size_t length = message_length(m);
    uint8_t *payload;
    int r = m->priority ? shm_check_priority(ch, m) : 0;

    if (r < 0)
        return r;
    shm->lane = m->priority;
    shm->passing = m->fd_count;
    do {
        r = shm_find_room(ch, length, block, &payload);
        if (r == 0)
            r = length > shm->inline_max ? send_large(ch, m, length, payload)
                                         : send_small(ch, m, length, payload);
    } while (r == -EAGAIN && block); /* the socket of descriptors is full; there will be room in it */
    return r;
}

int shm_reach(struct naru_channel *ch, const struct shm_found *found)
{
    struct shm *shm = ch->state;

    if (!found->in_pool || pool_reach(&shm->their_pool, &found->chunk) == 0)
        return 0;
    return error_set(ENOMEM, "%s: the machine has no memory for a message of %" PRIu32 " bytes", ch->url,
                     found->length);
}

static int deliver(struct naru_channel *ch, struct naru_message *m, const struct shm_found *found)
{
    struct shm *shm = ch->state;
    size_t room = message_length(m);
    int r;

    if (found->length > room)
        return channel_no_room(ch, found->length, room);
    r = shm_reach(ch, found);
    if (r == 0 && found->fds)
        r = shm_take_fds(ch, found, m);
    if (r < 0)
        return r;
    (void)message_scatter(m, 0, found->data, found->length);
    m->length = found->length;
    m->type = 0;
    m->priority = found->lane;
    m->sender = ch->peer;
    if (found->in_pool)
        pool_return(&shm->their_pool, shm_chunk_token(found->chunk));
    ring_release(shm_link_rx(&shm->link, found->lane), found->record);
    waker_published(&shm->link.their_sender);
    return 0;
}

/* What the record says of its message: RING_OK or RING_BROKEN. */
static enum ring_state open_record(struct shm *shm, const struct ring_record *record, unsigned lane,
                                   bool in_pool, struct shm_found *ret_found)
{
    *ret_found = (struct shm_found){.data = record->data,
                                    .length = record->length,
                                    .record = record->length,
                                    .fds = record_fds(record->word),
                                    .lane = lane,
                                    .in_pool = in_pool};
    if (!in_pool)
        return RING_OK;
    if (pool_read(&shm->their_pool, record->data, &ret_found->chunk) != RING_OK)
        return RING_BROKEN;
    ret_found->data = shm->their_pool.base + shm_chunk_offset(ret_found->chunk);
    ret_found->length = ret_found->chunk.length;
    return RING_OK;
}

/* Whether it would go on for ever. An honest writer leaves a header of 0 behind its last record. A hostile
 * one may leave its ring full of headers, which lead its reader around and around long after it was killed:
 * who always finds a message never asks whether there is still anybody. So it asks every 4 GiB, and takes no
 * more than one ring from who has gone; nor from who lives and has said that it sends no more (`ended`, known
 * before the record was looked for): what it had sent by then is in the ring. */
static bool is_endless(struct shm *shm, bool ended)
{
    uint64_t position = 0; /* of all lanes together */

    for (unsigned i = 0; i < shm->link.lanes_in; i++)
        position += shm_link_rx(&shm->link, i)->position;
    if (shm->asked != (uint32_t)(position >> 32)) {
        shm->asked = (uint32_t)(position >> 32);
        if (!shm_is_alone(shm, &shm->link.receiver) && !ended)
            shm_link_go_on(&shm->link);
    }
    if (!shm->link.gone && !ended)
        return false;
    if (!shm->found_gone)
        shm->gone_at = position;
    shm->found_gone = true;
    return position - shm->gone_at > shm->link.theirs.ring * shm->link.lanes_in - 1;
}

int shm_find_message(struct naru_channel *ch, bool block, struct shm_found *ret_found)
{
    struct shm *shm = ch->state;
    int r = 0;

    while (r == 0) {
        struct ring_record record;
        unsigned lane = 0;
        /* Before the look: what was sent before the end was said is there to be seen. */
        bool ended = shm->link.gone || shm_link_their_end(&shm->link) != SHM_GOES_ON;
        enum ring_state state = shm->link.broken ? RING_BROKEN : shm_look_for_record(shm, &lane, &record);

        if (ring_is_record(state) && is_endless(shm, ended))
            return shm_say_broken(ch);
        if (ring_is_record(state))
            return open_record(shm, &record, lane, state == RING_CHUNK, ret_found) == RING_OK
                       ? 0
                       : shm_say_broken(ch);
        if (state == RING_BROKEN)
            return shm_say_broken(ch);
        if (ended)
            return peer_gone(ch, false);
        r = shm_await(ch, false, block);
    }
    return r;
}

int shm_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    struct shm_found found;
    int r = shm_find_message(ch, block, &found);

    return r < 0 ? r : deliver(ch, m, &found);
}

const struct channel_ops shm_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "shm",
            .scheme = "shm",
            .example = "shm://name",
            .also = "shm:///path/of/socket, shm:@name (abstract: no file)",
            .title = "shared memory ring",
            .use_when = "two processes exchange much, or must not wait for the kernel",
            .medium = "a ring in memory that both map; each side writes only its own",
            .direction = "both ways",
            .unit = "message",
            .scope = "one machine",
            .persistence = "until the last end is closed; the name goes with its listener",
            .limit = "a message fills at most the pool, 64 MiB; ?pool= and ?max-message=",
            .wait = "looks at memory for a while, then sleeps in a socket; poll",
            .options =
                "ring=SIZE\tbytes in which messages wait, a power of two (256k)\n"
                "lanes=N\tpriorities that overtake, each a ring of its own; up to 8 (1)\n"
                "pool=SIZE\tbytes for messages larger than half of that, and all that are out (64M); of the "
                "peer's as many are mapped, or ?max-message=\n"
                "wait=adaptive|spin|sleep\tspin: never sleeps; sleep: at once (adaptive)\n"
                "prefault=yes\tall memory is there when it opens, so nothing faults later (no)\n"
                "huge=yes\thuge pages where they can be had (no)\n"
                "allow-uid=N,...\tusers who may be at the other end, by number (those whom ?mode= lets)\n"
                "allow-gid=N,...\tgroups likewise\n"
                "backlog=N\tconnections answered ahead of accepting them (64)\n"
                "service=keeper|manual\twho answers: a thread, or the program (keeper)\n" CHANNEL_OPTION_MODE,
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_PAIR | NARU_CAN_CONNECT | NARU_CAN_LISTEN |
                            NARU_CAN_ACCEPT_MANY | NARU_CAN_CREDENTIALS | NARU_CAN_KNOW_DEATH |
                            NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_CLOSE | NARU_CAN_SEE_RECEIVER |
                            NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK |
                            NARU_CAN_TELL_TAKEN | NARU_CAN_TELL_DONE | NARU_CAN_FDS | NARU_CAN_PRIORITY},
    .pair = shm_pair,
    .connect = shm_connect,
    .meets = true,
    .meet = shm_meet,
    .part = shm_part,
    .listen = shm_listen,
    .accept = shm_accept,
    .dispatch = shm_dispatch,
    .stop = shm_stop,
    .unlisten = shm_unlisten,
    .remove = shm_remove,
    SHM_MESSAGES,
    .claim = shm_claim,
    .holds = shm_holds,
    .look = shm_look,
    .has_room = shm_has_room,
    .close = shm_close,
};
