/* SPDX-License-Identifier: MIT */
/*
 * Many messages at once over shared memory: each is written behind the one before, and all are published by
 * one store (ring.h), with one look at whether the receiver sleeps. Those too large for the ring are written
 * to the pool, and their descriptions are records like the others.
 */
#include "channel/shm/shm.h"

#include <errno.h>

#include "shm/copy.h"

/* One that is too large for the ring. As add(). */
static enum ring_state add_large(struct naru_channel *ch, struct ring_batch *batch,
                                 const struct naru_message *m, size_t length, int *ret_failure)
{
    struct shm *shm = ch->state;
    enum ring_state state = pool_find(&shm->pool, length);
    struct shm_chunk chunk;
    uint8_t *payload;
    unsigned slot;
    int r;

    if (state != RING_OK)
        return state;
    r = shm_take_chunk(ch, length, &slot);
    if (r < 0) {
        *ret_failure = r;
        return RING_FULL;
    }
    state = ring_batch_add(shm_link_tx(&shm->link, shm->lane), batch, RECORD_CHUNK, sizeof chunk, &payload);
    if (state != RING_OK) {
        pool_cancel(&shm->pool, slot);
        return state;
    }
    (void)message_gather(m, pool_data(&shm->pool, slot), length);
    chunk = pool_send(&shm->pool, slot, (uint32_t)length);
    memcpy(payload, &chunk, sizeof chunk);
    return RING_OK;
}

/* One message behind those of the batch, without waiting: RING_OK, RING_FULL, RING_BROKEN. Where it is this
 * machine's memory that there is no room in, *ret_failure is -ENOMEM, explained. */
static enum ring_state add(struct naru_channel *ch, struct ring_batch *batch, const struct naru_message *m,
                           int *ret_failure)
{
    struct shm *shm = ch->state;
    size_t length = message_length(m);
    enum ring_state state;
    uint8_t *payload;

    if (length > shm->inline_max)
        return add_large(ch, batch, m, length, ret_failure);
    state =
        ring_batch_add(shm_link_tx(&shm->link, shm->lane), batch, RECORD_DATA, (uint32_t)length, &payload);
    if (state != RING_OK)
        return state;
    if (m->iov_count == 1 && length > 0)
        copy_fresh(payload, m->iov->iov_base, length);
    else
        (void)message_gather(m, payload, length);
    return RING_OK;
}

/* Whether it can be in one batch with the first. */
static bool goes_along(const struct naru_message *first, const struct naru_message *m)
{
    return m->fd_count == 0 && m->priority == first->priority;
}

/* What finds room together becomes visible together. A message with descriptors goes by itself: they are sent
 * before its record, and then nothing may come between. One of another priority begins another batch. */
ssize_t shm_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    struct shm *shm = ch->state;
    enum ring_state state = RING_OK;
    struct ring_batch batch;
    uint8_t *payload;
    size_t sent = 0;
    int r;

    if (m->fd_count) {
        r = shm_send(ch, m, block);
        return r < 0 ? r : 1;
    }
    r = shm_check_priority(ch, m);
    if (r < 0)
        return r;
    shm->lane = m->priority;
    shm->passing = 0;
    r = shm_find_room(ch, message_length(m), block, &payload); /* for the first, which it waits for */
    if (r < 0)
        return r;
    batch = ring_batch_begin(shm_link_tx(&shm->link, shm->lane));
    while (sent < n && goes_along(m, message_at(m, sent)) &&
           (state = add(ch, &batch, message_at(m, sent), &r)) == RING_OK)
        sent++;
    if (state == RING_BROKEN)
        r = shm_say_broken(ch);
    if (sent == 0) /* the first had room: it is this machine's memory that it lacks */
        return r < 0 ? r : -EAGAIN;
    ring_batch_publish(shm_link_tx(&shm->link, shm->lane), &batch);
    waker_published(&shm->link.their_receiver);
    return (ssize_t)sent;
}
