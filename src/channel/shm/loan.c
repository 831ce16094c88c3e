/* SPDX-License-Identifier: MIT */
/*
 * Messages written and read where they lie in shared memory.
 *
 * A loan is the place of the next record in the ring, so no other message can be sent before it is committed
 * or cancelled; or, if it is too large for that, a chunk of the pool. A view is a record that is held
 * (shm/held.h), or such a chunk: views are released in any order, and meanwhile receiving goes on as long as
 * the ring (the pool) has room. There is a fixed number of them, so that releasing cannot
 * fail. The memory stays mapped until the last view is released, also after the channel is closed: the sender
 * writes nothing more there once it knows of that, and before, nothing beyond what was taken.
 */
#include <errno.h>

#include "base/error.h"
#include "channel/shm/shm.h"

/* --- loans --- */

int shm_loan(struct naru_channel *ch, size_t length, bool block, struct naru_loan *ret_loan)
{
    struct shm *shm = ch->state;
    uint8_t *payload;
    unsigned slot;
    int r;

    shm->lane = 0;
    shm->passing = 0;
    r = shm_find_room(ch, length, block, &payload);

    if (r < 0)
        return r;
    if (length > shm->inline_max) {
        r = shm_take_chunk(ch, length, &slot);
        if (r < 0)
            return r;
        shm->lent_chunk = slot;
        ret_loan->data = pool_data(&shm->pool, slot);
        ret_loan->capacity = length;
        return 0;
    }
    shm->lent = true;
    ret_loan->data = payload;
    ret_loan->capacity = length;
    return 0;
}

/* Attempts. */
static int commit_chunk(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct shm *shm = ch->state;
    uint64_t word = record_word_with_fds(RECORD_CHUNK, m->fd_count, sizeof(struct shm_chunk));
    uint8_t *payload;
    int r = shm_find_room(ch, sizeof(struct shm_chunk), block, &payload);

    if (r == 0 && m->fd_count)
        r = shm_pass_fds(ch, m, word);
    if (r < 0)
        return r;
    shm_send_chunk(shm, shm->lent_chunk, m->iov->iov_len, m->fd_count, payload);
    return 0;
}

/* In the ring its room is there: nothing to wait for but that of its descriptors. */
static int commit_record(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct shm *shm = ch->state;
    uint64_t word = record_word_with_fds(RECORD_DATA, m->fd_count, (uint32_t)m->iov->iov_len);
    uint8_t *payload;
    int r = shm_check_receiver(ch);

    if (r == 0 && m->fd_count) {
        shm->lent = false;
        r = shm_find_room(ch, 0, block, &payload);
        shm->lent = true;
    }
    if (r == 0 && m->fd_count)
        r = shm_pass_fds(ch, m, word);
    if (r < 0)
        return r;
    shm->lent = false;
    ring_commit_word(&shm->link.tx, word);
    waker_published(&shm->link.their_receiver);
    return 0;
}

/* One that was lent in lane 0 and is to go by another: it is copied there. */
static int commit_elsewhere(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct shm *shm = ch->state;
    size_t length = m->iov->iov_len;
    uint8_t *payload;
    int r = shm_find_room(ch, length, block, &payload);

    if (r < 0)
        return r;
    (void)message_gather(m, payload, length);
    ring_commit(shm_link_tx(&shm->link, shm->lane), RECORD_DATA, (uint32_t)length);
    waker_published(&shm->link.their_receiver);
    shm->lent = false;
    return 0;
}

int shm_commit(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct shm *shm = ch->state;
    int r = shm_check_priority(ch, m);

    if (r < 0)
        return r;
    shm->lane = m->priority;
    shm->passing = m->fd_count;
    do
        r = !shm->lent      ? commit_chunk(ch, m, block)
            : shm->lane > 0 ? commit_elsewhere(ch, m, block)
                            : commit_record(ch, m, block);
    while (r == -EAGAIN && block); /* as shm_send() */
    return r;
}

void shm_cancel(struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    if (!shm->lent)
        pool_cancel(&shm->pool, shm->lent_chunk);
    shm->lent = false;
}

/* --- views --- */

/* Whether the other side is to be told anything. The copy in a forked child says nothing: the message is its
 * parent's. */
static inline bool is_borrower(const struct shm *shm)
{
    return __builtin_expect(shm->generation == atomic_load_explicit(fork_word, memory_order_relaxed), 1);
}

static inline void put_back(struct shm *shm, struct shm_view *view)
{
    shm->free_views[--shm->views_out] = view;
}

/* By the copy in a forked child it is out as before, until somebody settles that. */
static __attribute__((noinline)) void release_elsewhere(struct shm *shm, struct shm_view *view)
{
    view->owed = !shm->closed;
    if (view->owed)
        return;
    put_back(shm, view);
    if (shm->views_out == 0)
        shm_free(shm);
}

void shm_settle_views(struct shm *shm)
{
    bool says = is_borrower(shm);

    for (unsigned i = 0; i < shm->views_made; i++) {
        struct shm_view *view = &shm->views[i];
        bool owed = view->owed;

        view->owed = false;
        if (owed && says)
            view->view.release(&view->view);
        else if (owed)
            put_back(shm, view);
    }
}

void shm_release_chunk(struct channel_view *held)
{
    struct shm_view *view = (struct shm_view *)(void *)held;
    struct shm *shm = view->shm;

    if (!is_borrower(shm)) {
        release_elsewhere(shm, view);
        return;
    }
    put_back(shm, view);
    pool_return(&shm->their_pool, view->token);
    waker_published(&shm->link.their_sender);
}

void shm_release_record(struct channel_view *held)
{
    struct shm_view *view = (struct shm_view *)(void *)held;
    struct shm *shm = view->shm;

    if (!is_borrower(shm)) {
        release_elsewhere(shm, view);
        return;
    }
    put_back(shm, view);
    if (held_remove(&shm->held[view->lane], &view->record))
        waker_published(&shm->link.their_sender); /* it has room now that it had not */
}

struct shm_view *shm_make_view(struct shm *shm)
{
    struct shm_view *view = &shm->views[shm->views_made++];

    view->shm = shm;
    return view;
}

/* Whose own limit it is. */
static int too_long_to_show(struct naru_channel *ch, size_t length)
{
    const struct shm *shm = ch->state;

    ch->needed = length;
    return error_set(EMSGSIZE,
                     "%s: the next message has %zu bytes, and ?max-message= lets %zu be borrowed here; it is "
                     "kept, receive it into a buffer that has room, or raise that",
                     ch->url, length, shm->receive_max);
}

int shm_borrow(struct naru_channel *ch, bool block, struct naru_view *ret_view)
{
    struct shm *shm = ch->state;
    struct shm_found found;
    struct shm_view *view;
    int r;

    if (shm->views_out == SHM_VIEWS)
        return error_set(
            EBUSY, "%s: %d views are out already; release one first (not borrow into it), or receive a copy",
            ch->url, SHM_VIEWS);
    r = shm_find_message(ch, block, &found);
    if (r == 0 && found.length > shm->receive_max)
        r = too_long_to_show(ch, found.length);
    if (r == 0)
        r = shm_reach(ch, &found);
    if (r == 0 && found.fds)
        r = shm_take_fds(ch, &found, NULL);
    if (r < 0)
        return r;
    view = shm_take_view(shm);
    shm_note_borrower(ch, shm);
    if (found.in_pool) {
        view->view.release = shm_release_chunk;
        view->token = shm_chunk_token(found.chunk);
    } else {
        view->view.release = shm_release_record;
        view->lane = found.lane;
        held_add(&shm->held[found.lane], &view->record);
    }
    ring_release(shm_link_rx(&shm->link, found.lane), found.record);
    waker_published(&shm->link.their_sender); /* room, if its record has gone; or a flush waits for this */
    shm_show(ch, view, found.data, found.length, found.lane, ret_view);
    return 0;
}
