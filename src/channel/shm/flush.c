/* SPDX-License-Identifier: MIT */
/*
 * How far the receiver of what was sent over shared memory is. It has received up to `taken`, or, while it
 * holds views, up to `received` behind that (shm/held.h); and is done with all when `taken` is at the end and
 * every chunk of the pool has come back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "channel/shm/shm.h"

enum ring_state shm_look_for_taken(struct shm *shm, unsigned lane, uint64_t *ret_left)
{
    const struct shm_lane *theirs = &shm->link.their_page->lane[lane];
    struct ring_writer *tx = shm_link_tx(&shm->link, lane);
    enum ring_state state = ring_find_room(tx, 0);
    /* acquire: whoever is told that it was received sees what the receiver did before, too */
    uint64_t received = atomic_load_explicit(&theirs->received, memory_order_acquire);
    uint64_t left = tx->position - tx->taken, ahead = received - tx->taken;

    if (state == RING_BROKEN || (ahead > left && ahead <= INT64_MAX))
        return RING_BROKEN;
    *ret_left = ahead <= left ? left - ahead : left; /* further back: it is from an earlier time */
    return RING_OK;
}

enum ring_state shm_look_for_stage(struct shm *shm, enum naru_stage stage, uint64_t *ret_left)
{
    uint64_t all = 0;

    for (unsigned lane = 0; lane < shm->link.lanes_out; lane++) {
        const struct ring_writer *tx = shm_link_tx(&shm->link, lane);
        uint64_t left;

        if (shm_look_for_taken(shm, lane, &left) == RING_BROKEN)
            return RING_BROKEN;
        all += stage == NARU_DONE ? tx->position - tx->taken : left;
    }
    if (stage == NARU_DONE) {
        if (pool_collect(&shm->pool) == RING_BROKEN)
            return RING_BROKEN;
        all += shm->pool.sent;
    }
    *ret_left = all;
    return RING_OK;
}

static int64_t unreached(struct naru_channel *ch, enum naru_stage stage)
{
    struct shm *shm = ch->state;

    for (;;) {
        /* Before the look: how far it came before it left is there to be seen. */
        int gone = shm_check_receiver(ch);
        uint64_t left = 0;

        if (shm->link.broken || shm_look_for_stage(shm, stage, &left) == RING_BROKEN)
            return shm_say_broken(ch);
        if (left == 0 || gone < 0)
            return left == 0 ? 0 : gone;
        if (!shm_is_alone(shm, &shm->link.sender) && shm_check_receiver(ch) == 0)
            return (int64_t)left;
    }
}

int64_t shm_untaken(struct naru_channel *ch)
{
    return unreached(ch, NARU_TAKEN);
}

int64_t shm_undone(struct naru_channel *ch)
{
    return unreached(ch, NARU_DONE);
}

/* --- why it takes so long --- */

/* "1200 bytes of the ring and 5 messages of the pool", or nothing. */
static void name_held(uint64_t bytes, unsigned messages, char *text, size_t capacity)
{
    char ring[48] = "", pool[48] = "";

    if (bytes > 0)
        (void)snprintf(ring, sizeof ring, "%" PRIu64 " bytes of the ring", bytes);
    if (messages > 0)
        (void)snprintf(pool, sizeof pool, "%u message%s of the pool", messages, messages == 1 ? "" : "s");
    (void)snprintf(text, capacity, "%s%s%s", ring, bytes > 0 && messages > 0 ? " and " : "", pool);
}

/* Of a receive. Who holds views may keep its sender from sending what it waits for; only the sender knows,
 * and its ticket says that it waits. */
static int say_nothing_came(const struct shm *shm, const char *url)
{
    uint64_t kept = 0;

    if (shm->views_out == 0)
        return error_expected(ETIMEDOUT);
    for (unsigned lane = 0; lane < shm->link.lanes_in; lane++) /* relaxed: our own */
        kept += shm_link_rx((struct shm_link *)(uintptr_t)&shm->link, lane)->position -
                atomic_load_explicit(&shm->link.page->lane[lane].taken, memory_order_relaxed);
    return error_set(ETIMEDOUT,
                     "%s: the time was up, and no message had come; %u that were borrowed are not released "
                     "(naru_release()), and keep %" PRIu64 " of %zu bytes of the sender's ring%s",
                     url, shm->views_out, kept, shm->link.theirs.ring,
                     atomic_load_explicit(&shm->link.their_page->sender_asleep, memory_order_relaxed)
                         ? ": it waits, for room or for their release"
                         : "");
}

/* "; ..." if the receiver lets less of the pool be used than there is, else nothing. */
static const char *name_lesser_pool(const struct shm *shm, char *text, size_t capacity)
{
    *text = '\0';
    if (shm->pool.sent > 0 && shm->pool.size < shm->link.own.pool)
        (void)snprintf(text, capacity,
                       "; of this end's ?pool= the receiver maps %" PRIu64
                       " bytes, as its own ?pool= and ?max-message= say",
                       (uint64_t)shm->pool.size);
    return text;
}

/* What is held was received and not released; of the pool, what was not received yet counts, too. */
int shm_say_late(struct naru_channel *ch, enum channel_late late)
{
    const char *when =
        late == CHANNEL_LATE_ROOM ? "the time was up before there was room" : "the time was up";
    struct shm *shm = ch->state;
    uint64_t untaken, undone, held;
    char what[128], pool[128];

    if (late == CHANNEL_LATE_MESSAGE)
        return say_nothing_came(shm, ch->url);
    if (shm->link.broken || shm_look_for_stage(shm, NARU_TAKEN, &untaken) == RING_BROKEN ||
        shm_look_for_stage(shm, NARU_DONE, &undone) == RING_BROKEN) /* the next call says so */
        return error_expected(ETIMEDOUT);
    held = undone - shm->pool.sent;
    held = held > untaken ? held - untaken : 0; /* the receiver may have gone on between the looks */
    name_held(held, shm->pool.sent, what, sizeof what);
    if (untaken == 0 && !*what) /* all came back just now */
        return error_expected(ETIMEDOUT);
    if (untaken == 0)
        return error_set(ETIMEDOUT,
                         "%s: %s: the receiver has received everything, and holds %s that it has "
                         "not released (naru_release())%s",
                         ch->url, when, what, name_lesser_pool(shm, pool, sizeof pool));
    return error_set(ETIMEDOUT,
                     "%s: %s: %" PRIu64 " bytes of the ring wait to be received%s%s%s: the receiver "
                     "is too slow, or stopped%s%s",
                     ch->url, when, untaken, *what ? ", and " : "", what, *what ? " to be released" : "",
                     *what ? ", or holds what it has borrowed" : "",
                     name_lesser_pool(shm, pool, sizeof pool));
}
