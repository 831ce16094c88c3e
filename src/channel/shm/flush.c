/* SPDX-License-Identifier: MIT */
/*
 * How far the receiver of what was sent over shared memory is. It has received up to `taken`, or, while it
 * holds views, up to `received` behind that (shm/held.h); and is done with all when `taken` is at the end and
 * every chunk of the pool has come back.
 */
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
