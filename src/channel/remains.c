/* SPDX-License-Identifier: MIT */
/* What a lost connection leaves behind it: see remains.h. */
#include "channel/remains.h"

#include <errno.h>
#include <stdlib.h>

enum { DROP_ROOM = 64 * 1024 }; /* bytes: more than most messages */

#define SWAP(member)                                                                                         \
    do {                                                                                                     \
        __typeof__(a->member) swapped = a->member;                                                           \
        a->member = b->member;                                                                               \
        b->member = swapped;                                                                                 \
    } while (0)

/* No child in between: each descriptor is in one guard or the other. */
void guts_swap(struct naru_channel *a, struct naru_channel *b)
{
    fork_hold();
    SWAP(rfd);
    SWAP(wfd);
    SWAP(poll_fd);
    SWAP(peer_pidfd);
    SWAP(side_fd);
    SWAP(loop_bell);
    SWAP(their_loop_bell);
    SWAP(their_rfd);
    SWAP(their_wfd);
    SWAP(room_event);
    SWAP(in_event);
    SWAP(io[CHANNEL_SENDING]);
    SWAP(io[CHANNEL_RECEIVING]);
    SWAP(max_message);
    SWAP(short_max);
    SWAP(limit_mend);
    SWAP(peer);
    SWAP(state);
    SWAP(stream);
    SWAP(kept);
    SWAP(needed);
    SWAP(looks);
    SWAP(direction);
    fork_release();
    for (int i = 0; i < 2; i++) {
        struct naru_channel *ch = i ? b : a;

        ch->refused = false;
        channel_end_short_way(ch); /* until a call has found that there is one */
        ch->short_way[CHANNEL_RECEIVING] = 0;
        atomic_store_explicit(&ch->ended, false, memory_order_relaxed);
        atomic_store_explicit(&ch->unread_lost, false, memory_order_relaxed);
        if (ch->state && ch->ops->moved)
            ch->ops->moved(ch);
    }
}

void remains_hold_only(struct remains *m, unsigned holds)
{
    m->holds &= holds;
    if (m->old && !m->holds)
        m->old = naru_channel_close(m->old);
}

void remains_take_drops(struct naru_channel *ch, struct naru_channel *old)
{
    /* relaxed: figures for people */
    channel_count_dropped(
        ch, CHANNEL_RECEIVING,
        atomic_exchange_explicit(&old->counters[CHANNEL_RECEIVING].dropped, 0, memory_order_relaxed));
}

/* Receives what fits, and sees to it that the next one does. As channel_receive(); the message is lost. */
static int receive_any(struct naru_channel *old, struct iovec *room)
{
    struct naru_message m = {.size = sizeof m, .iov = room, .iov_count = 1};
    int r = channel_receive(old, &m, NARU_NOWAIT);

    if (r != -EMSGSIZE)
        return r;
    free(room->iov_base);
    room->iov_len = old->needed;
    room->iov_base = malloc(room->iov_len);
    return room->iov_base ? r : -ENOMEM;
}

/* What nobody received before a second connection was lost is counted, of whatever size. Without memory for
 * one, that one is the last that is. */
static void drop_undrained(struct naru_channel *ch, struct naru_channel *old)
{
    struct iovec room = {malloc(DROP_ROOM), DROP_ROOM};
    int r = room.iov_base ? 0 : -ENOMEM;

    while (r == 0 || r == -EMSGSIZE || r == -EBADMSG) {
        r = receive_any(old, &room);
        if (r == 0 || r == -ENOMEM)
            channel_count_dropped(ch, CHANNEL_RECEIVING, 1);
    }
    remains_take_drops(ch, old);
    free(room.iov_base);
}

/* There is place for one: if an older one keeps it, because its loan is out, this one has none, and what it
 * brought is counted. */
void remains_keep(struct remains *m, struct naru_channel *ch, struct naru_channel *husk, unsigned holds)
{
    if (m->holds & HOLDS_MESSAGES)
        drop_undrained(ch, m->old);
    remains_hold_only(m, HOLDS_LOAN);
    if (m->old && (holds & HOLDS_MESSAGES))
        drop_undrained(ch, husk);
    if (m->old || !holds) {
        (void)naru_channel_close(husk);
        return;
    }
    m->old = husk;
    m->holds = holds;
}
