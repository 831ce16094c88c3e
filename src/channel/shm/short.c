/* SPDX-License-Identifier: MIT */
/*
 * The short way of shm: what naru_send() and naru_recv() come to while both sides are busy. A message between
 * two processors takes some 70 ns, so a hundred instructions around it are to be seen.
 *
 * Everything that may stand against it is in one word for each direction, in the channel (short_way) and in
 * the link (send_while, receive_up_to); whoever finds something to be done passes the call on to the long
 * way, as the last thing done. So no register has to be saved, and what is out of line costs nothing.
 */
#include "channel/shm/short.h"
#include "shm/copy.h"

IN_LINE int sent(struct naru_channel *ch, struct shm *shm, size_t length)
{
    channel_count(ch, CHANNEL_SENDING, length);
    if (__builtin_expect(waker_is_called(&shm->link.their_receiver), 0))
        return (int)shm_wake(&shm->link.their_receiver, 0);
    return 0;
}

/* Also with no room as far as is known, or with something against it. */
OUT_OF_LINE int send_somehow(struct naru_channel *ch, const void *data, size_t length)
{
    struct shm *shm = ch->state;
    struct ring_writer *tx = &shm->link.tx;

    if (!shm_link_may_send(&shm->link) ||
        (ring_put(tx, RECORD_DATA, data, (uint32_t)length) != RING_OK &&
         (ring_find_room(tx, record_bytes(length) + RECORD_HEADER) != RING_OK ||
          ring_put(tx, RECORD_DATA, data, (uint32_t)length) != RING_OK)))
        return channel_send_slowly(ch, data, length, NARU_FOREVER, 0);
    return sent(ch, shm, length);
}

int shm_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    struct shm *shm = ch->state;

    if (__builtin_expect(length > COPY_SHORT, 0) || __builtin_expect(!shm_link_may_send(&shm->link), 0) ||
        __builtin_expect(ring_put(&shm->link.tx, RECORD_DATA, data, (uint32_t)length) != RING_OK, 0))
        return send_somehow(ch, data, length);
    return sent(ch, shm, length);
}

IN_LINE ssize_t received(struct naru_channel *ch, struct shm *shm, uint32_t length)
{
    ring_release(&shm->link.rx, length);
    channel_count(ch, CHANNEL_RECEIVING, length);
    if (__builtin_expect(waker_is_called(&shm->link.their_sender), 0))
        return shm_wake(&shm->link.their_sender, (ssize_t)length);
    return (ssize_t)length;
}

OUT_OF_LINE ssize_t recv_longer(struct naru_channel *ch, void *buf, uint32_t length)
{
    struct shm *shm = ch->state;

    memcpy(buf, ring_next(&shm->link.rx) + RECORD_HEADER, length);
    return received(ch, shm, length);
}

ssize_t shm_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    struct shm *shm = ch->state;
    const uint8_t *record;
    uint64_t most, word, length;

    if (__builtin_expect(!shm_link_may_receive(&shm->link), 0))
        return channel_recv_slowly(ch, buf, capacity, timeout_ns, 0);
    record = ring_next(&shm->link.rx);
    most = record_max(shm->link.rx.mask + 1);
    if (most > capacity)
        most = capacity;
    word = shm_look_for_a_while(ch, shm, record, shm->spins / SHM_PAUSE);
    length = word - record_word(RECORD_DATA, 0); /* of another kind, or of none: more than any */
    if (__builtin_expect(length > most, 0))
        return channel_recv_slowly(ch, buf, capacity, timeout_ns, 0);
    if (length > COPY_SHORT)
        return recv_longer(ch, buf, (uint32_t)length);
    copy_short(buf, record + RECORD_HEADER, length);
    return received(ch, shm, (uint32_t)length);
}
