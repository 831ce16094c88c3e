/* SPDX-License-Identifier: MIT */
/*
 * The short way of loans and views, as short.c has it for copies: what naru_loan(), naru_commit() and
 * naru_borrow() come to while nothing stands against it and all is at hand: room in the ring, or a chunk of
 * the pool that came back; a message that is there, or soon.
 */
#include "channel/shm/short.h"

#define UNLIKELY(condition) __builtin_expect((condition), 0)

/* --- loans --- */

IN_LINE int lend_chunk(struct naru_channel *ch, struct shm *shm, unsigned slot, size_t length,
                       int64_t timeout_ns, struct naru_loan *ret_loan)
{
    shm->lent_chunk = slot;
    channel_lent(ch, pool_data(&shm->pool, slot), length, timeout_ns, ret_loan);
    return 0;
}

OUT_OF_LINE int lend_again(struct naru_channel *ch, size_t length, int64_t timeout_ns,
                           struct naru_loan *ret_loan)
{
    struct shm *shm = ch->state;
    unsigned slot;

    return pool_take_again(&shm->pool, length, &slot)
               ? lend_chunk(ch, shm, slot, length, timeout_ns, ret_loan)
               : channel_loan_slowly(ch, length, timeout_ns, ret_loan);
}

/* A place in the ring. No other message may be sent before it. */
OUT_OF_LINE int lend_record(struct naru_channel *ch, size_t length, int64_t timeout_ns,
                            struct naru_loan *ret_loan)
{
    struct shm *shm = ch->state;
    uint8_t *payload;

    if (UNLIKELY(ring_reserve(&shm->link.tx, length, &payload) != RING_OK))
        return channel_loan_slowly(ch, length, timeout_ns, ret_loan);
    shm->lent = true;
    ch->short_way[CHANNEL_SENDING] = 0;
    channel_lent(ch, payload, length, timeout_ns, ret_loan);
    return 0;
}

int shm_short_loan(struct naru_channel *ch, size_t length, int64_t timeout_ns, struct naru_loan *ret_loan)
{
    struct shm *shm = ch->state;
    unsigned slot;

    if (UNLIKELY(!shm_link_may_send(&shm->link)) || UNLIKELY(length > ch->max_message))
        return channel_loan_slowly(ch, length, timeout_ns, ret_loan);
    if (length <= shm->inline_max)
        return lend_record(ch, length, timeout_ns, ret_loan);
    if (UNLIKELY(!pool_take_kept(&shm->pool, length, &slot)))
        return lend_again(ch, length, timeout_ns, ret_loan);
    return lend_chunk(ch, shm, slot, length, timeout_ns, ret_loan);
}

IN_LINE int committed(struct naru_channel *ch, struct shm *shm, struct naru_loan *loan, size_t length)
{
    channel_committed(ch, loan, length);
    return UNLIKELY(waker_is_called(&shm->link.their_receiver)) ? (int)shm_wake(&shm->link.their_receiver, 0)
                                                                : 0;
}

OUT_OF_LINE int commit_record(struct naru_loan *loan, size_t length)
{
    struct naru_channel *ch = loan->channel;
    struct shm *shm = ch->state;

    shm->lent = false;
    ring_commit(&shm->link.tx, RECORD_DATA, (uint32_t)length);
    ch->short_way[CHANNEL_SENDING] = ch->short_way_then;
    return committed(ch, shm, loan, length);
}

int shm_short_commit(struct naru_loan *loan, size_t length)
{
    struct naru_channel *ch = loan->channel;
    struct shm *shm = ch->state;
    unsigned slot = shm->lent_chunk;
    struct shm_chunk chunk;
    uint64_t word;

    if (UNLIKELY(!shm_link_may_send(&shm->link)))
        return channel_commit_slowly(loan, length);
    if (shm->lent)
        return commit_record(loan, length);
    chunk = pool_describe(&shm->pool, slot, (uint32_t)length);
    memcpy(&word, &chunk, sizeof word);
    if (UNLIKELY(ring_put_word(&shm->link.tx, RECORD_CHUNK, word) != RING_OK))
        return channel_commit_slowly(loan, length);
    pool_sent(&shm->pool, slot);
    pool_prefetch(&shm->pool);
    return committed(ch, shm, loan, length);
}

/* --- views --- */

IN_LINE int show(struct naru_channel *ch, struct shm *shm, struct shm_view *view, const uint8_t *data,
                 size_t length, size_t record, struct naru_view *ret_view)
{
    shm_note_borrower(ch, shm);
    ring_release(&shm->link.rx, (uint32_t)record);
    shm_show(ch, view, data, length, 0, ret_view);
    channel_count(ch, CHANNEL_RECEIVING, length);
    return UNLIKELY(waker_is_called(&shm->link.their_sender)) ? (int)shm_wake(&shm->link.their_sender, 0) : 0;
}

/* One in the ring. */
OUT_OF_LINE int show_record(struct naru_channel *ch, const uint8_t *data, size_t length,
                            struct naru_view *ret_view)
{
    struct shm *shm = ch->state;
    struct shm_view *view = shm_take_view(shm);

    view->view.release = shm_release_record;
    view->lane = 0;
    held_add(&shm->held[0], &view->record);
    return show(ch, shm, view, data, length, length, ret_view);
}

/* Anything but a chunk that is at hand. */
OUT_OF_LINE int borrow_somehow(struct naru_channel *ch, const uint8_t *record, uint64_t word,
                               int64_t timeout_ns, struct naru_view *ret_view)
{
    struct shm *shm = ch->state;
    uint64_t length = word - record_word(RECORD_DATA, 0); /* as shm_recv_bytes() */

    return length <= record_max(shm->link.rx.mask + 1) && length <= shm->receive_max
               ? show_record(ch, record + RECORD_HEADER, length, ret_view)
               : channel_borrow_slowly(ch, timeout_ns, ret_view);
}

int shm_short_borrow(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view)
{
    struct shm *shm = ch->state;
    struct shm_chunk chunk;
    struct shm_view *view;
    const uint8_t *record;
    uint64_t word;

    if (UNLIKELY(!shm_link_may_receive(&shm->link)) || UNLIKELY(shm->views_out == SHM_VIEWS))
        return channel_borrow_slowly(ch, timeout_ns, ret_view);
    record = ring_next(&shm->link.rx);
    word = shm_look_for_a_while(ch, shm, record, timeout_ns == NARU_FOREVER ? shm->spins / SHM_PAUSE : 0);
    if (UNLIKELY(word != record_word(RECORD_CHUNK, sizeof chunk)))
        return borrow_somehow(ch, record, word, timeout_ns, ret_view);
    chunk = pool_fetch(record + RECORD_HEADER);
    if (UNLIKELY(!pool_is_reached(&shm->their_pool, &chunk)) || UNLIKELY(chunk.length > shm->receive_max) ||
        UNLIKELY(!shm->free_views[shm->views_out]))
        return channel_borrow_slowly(ch, timeout_ns, ret_view);
    view = shm->free_views[shm->views_out++];
    view->view.release = shm_release_chunk;
    view->token = shm_chunk_token(chunk);
    return show(ch, shm, view, shm->their_pool.base + shm_chunk_offset(chunk), chunk.length, sizeof chunk,
                ret_view);
}
