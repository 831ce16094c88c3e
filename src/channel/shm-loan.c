/* SPDX-License-Identifier: MIT */
/*
 * Messages written and read where they lie in shared memory.
 *
 * A loan is the place of the next record in the ring, so no other message can be sent before it is committed
 * or cancelled. A view is a record that is held (shm/held.h): views are released in any order, and meanwhile
 * receiving goes on as long as the ring has room. There is a fixed number of them, so that releasing cannot
 * fail. The memory stays mapped until the last view is released, also after the channel is closed: the sender
 * writes nothing more there once it knows of that, and before, nothing beyond what was taken.
 */
#include <errno.h>

#include "base/error.h"
#include "channel/shm.h"

/* --- loans --- */

int shm_loan(struct naru_channel *ch, size_t length, bool block, struct naru_loan *ret_loan)
{
    struct shm *shm = ch->state;
    uint8_t *payload;
    int r = shm_find_room(ch, length, block, &payload);

    if (r < 0)
        return r;
    shm->lent = true;
    ret_loan->data = payload;
    ret_loan->capacity = length;
    return 0;
}

int shm_commit(struct naru_channel *ch, size_t length, bool block)
{
    struct shm *shm = ch->state;
    int r = shm_check_receiver(ch);

    (void)block; /* its room is there */
    if (r < 0)
        return r;
    shm->lent = false;
    ring_commit(&shm->link.tx, RECORD_DATA, (uint32_t)length);
    waker_published(&shm->link.their_receiver);
    return 0;
}

void shm_cancel(struct naru_channel *ch)
{
    struct shm *shm = ch->state;

    shm->lent = false;
}

/* --- views --- */

static void view_release(struct channel_view *held)
{
    struct shm_view *view = (struct shm_view *)(void *)held;
    struct shm *shm = view->shm;
    bool moved = false;

    /* The copy in a forked child says nothing: the record is its parent's. */
    if (!shm->closed && shm->generation == fork_generation())
        moved = held_remove(&shm->held, &view->record);
    if (moved)
        waker_published(&shm->link.their_sender);
    view->next_free = shm->free_views;
    shm->free_views = view;
    shm->views_out--;
    if (shm->closed && shm->views_out == 0)
        shm_free(shm);
}

/* There is one. */
static struct shm_view *take_view(struct shm *shm)
{
    struct shm_view *view = shm->free_views;

    if (view)
        shm->free_views = view->next_free;
    else
        view = &shm->views[shm->views_made++];
    view->view.release = view_release;
    view->shm = shm;
    shm->views_out++;
    return view;
}

int shm_borrow(struct naru_channel *ch, bool block, struct naru_view *ret_view)
{
    struct shm *shm = ch->state;
    struct ring_record record;
    struct shm_view *view;
    int r;

    if (shm->views_out == SHM_VIEWS)
        return error_set(EBUSY, "%s: %d views are out already; release one first, or receive a copy", ch->url,
                         SHM_VIEWS);
    r = shm_find_record(ch, block, &record);
    if (r < 0)
        return r;
    if (record.length > shm->receive_max)
        return channel_no_room(ch, record.length, shm->receive_max);
    view = take_view(shm);
    shm->generation = fork_generation();
    held_add(&shm->held, &view->record);
    ring_release(&shm->link.rx, record.length);
    ret_view->data = record.data;
    ret_view->length = record.length;
    ret_view->type = 0;
    ret_view->priority = 0;
    ret_view->sender = ch->peer;
    ret_view->internal = &view->view;
    return 0;
}
