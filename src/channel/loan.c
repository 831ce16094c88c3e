/* SPDX-License-Identifier: MIT */
/*
 * Loan and borrow: in place where the mechanism can (channel_ops.loan), and over a buffer where the kernel
 * copies anyway: a program that writes and reads in place does not change when its URL does.
 *
 * A block is memory for one message. One block is lent for writing at a time; any number may be borrowed, and
 * each lives until it is released, also after the channel is closed (it is then an orphan: owner is NULL).
 * The last block released is kept as `spare`, so that a loop of borrow and release allocates nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/sized.h"
#include "channel/channel.h"
#include "channel/meeting.h"
#include "channel/reopen.h"

enum { BLOCK_MIN = 64 * 1024 }; /* bytes; one read of a raw stream, and larger than most messages */

struct channel_block {
    struct channel_view view;
    struct list node;           /* among the channel's views */
    struct naru_channel *owner; /* NULL: the channel is closed */
    size_t capacity;
    int64_t timeout_ns; /* of a loan: what its commit may wait */
    uint8_t data[];
};

static void block_release(struct channel_view *view);

static struct channel_block *block_new(struct naru_channel *ch, size_t capacity)
{
    struct channel_block *block = malloc(sizeof *block + capacity);

    if (!block) {
        (void)error_set(ENOMEM, "%s: out of memory for a message of %zu bytes", ch->url, capacity);
        return NULL;
    }
    block->view.release = block_release;
    list_init(&block->node);
    block->owner = ch;
    block->capacity = capacity;
    return block;
}

/* The spare if it is large enough, or a new one. */
static struct channel_block *block_get(struct naru_channel *ch, size_t capacity)
{
    struct channel_block *block = ch->spare;

    if (!block || block->capacity < capacity)
        return block_new(ch, capacity > BLOCK_MIN ? capacity : BLOCK_MIN);
    ch->spare = NULL;
    return block;
}

static void block_put(struct naru_channel *ch, struct channel_block *block)
{
    if (ch->spare && ch->spare->capacity >= block->capacity) {
        free(block);
        return;
    }
    free(ch->spare);
    ch->spare = block;
}

void channel_free_blocks(struct naru_channel *ch)
{
    while (!list_is_empty(&ch->views)) {
        struct channel_block *block = list_entry(ch->views.next, struct channel_block, node);

        list_remove(&block->node);
        block->owner = NULL;
    }
    free(ch->loan);
    free(ch->loan_spare);
    free(ch->spare);
}

static int lend_block(struct naru_channel *ch, size_t len, int64_t timeout_ns, struct naru_loan *ret_loan)
{
    struct channel_block *block = ch->loan_spare;

    if (!block || block->capacity < len) {
        block = block_new(ch, len > BLOCK_MIN ? len : BLOCK_MIN);
        if (!block)
            return -ENOMEM;
        free(ch->loan_spare);
    }
    ch->loan_spare = NULL;
    ch->loan = block;
    block->timeout_ns = timeout_ns;
    ret_loan->data = block->data;
    ret_loan->capacity = block->capacity;
    ret_loan->internal = block;
    return 0;
}

/* An attempt in place. */
struct lending {
    size_t length;
    struct naru_loan *loan;
};

static int lend_attempt(struct naru_channel *ch, void *data, bool block)
{
    struct lending *lending = data;

    return ch->ops->loan(ch, lending->length, block, lending->loan);
}

static int lend_in_place(struct naru_channel *ch, size_t len, int64_t timeout_ns, struct naru_loan *ret_loan)
{
    struct lending lending = {len, ret_loan};
    int r = channel_repeat(ch, NARU_OUT, timeout_ns, lend_attempt, &lending);

    ch->refused = r == -EAGAIN || r == -ETIMEDOUT;
    if (r == 0) {
        ch->lent = ret_loan->internal = ret_loan->data;
        ch->lent_timeout_ns = timeout_ns;
    }
    channel_update_ready(ch, CHANNEL_SENDING);
    return channel_ended(ch, CHANNEL_SENDING, channel_say_unwatched(ch, r));
}

/* Sizes of structs are asked for where the first call of a channel comes by, and not in the short way: who
 * forgets NARU_INIT() is told, unless it has sent something before, and nobody pays for it. */
int channel_loan_slowly(struct naru_channel *ch, size_t len, int64_t timeout_ns, struct naru_loan *ret_loan)
{
    int r = SIZED_CHECK(ch->url, "loan", naru_loan, ret_loan);

    if (r < 0)
        return r;
    r = channel_begin_sending(ch, &timeout_ns);
    if (r < 0)
        return meeting_refuses(ch, r);
    if (ch->loan || ch->lent)
        return error_set(EBUSY, "%s: a loan is out already; commit or cancel it first", ch->url);
    if (len > ch->max_message)
        return channel_over_limit(ch, len);
    r = ch->ops->loan ? lend_in_place(ch, len, timeout_ns, ret_loan)
                      : lend_block(ch, len, timeout_ns, ret_loan);
    if (r == 0)
        ret_loan->channel = ch;
    return r;
}

int naru_loan(struct naru_channel *ch, size_t len, int64_t timeout_ns, struct naru_loan *ret_loan)
{
    if (__builtin_expect(ch->short_way_then && !ch->lent && ch->ops->short_loan &&
                             fork_guard_is_still_owner(&ch->guard),
                         1))
        return ch->ops->short_loan(ch, len, timeout_ns, ret_loan);
    return channel_loan_slowly(ch, len, timeout_ns, ret_loan);
}

static int check_loan(const struct naru_loan *loan)
{
    const struct naru_channel *ch = loan->channel;

    if (!ch || !loan->internal || (loan->internal != ch->loan && loan->internal != ch->lent))
        return error_set(EINVAL, "this loan is not out: it was committed or cancelled before");
    return 0;
}

static void end_loan(struct naru_loan *loan)
{
    struct naru_channel *ch = loan->channel;

    if (ch->lent) {
        ch->lent = NULL;
        (void)reopen_end_loan(ch); /* its commit may have been what found the end */
        channel_update_ready(ch, CHANNEL_SENDING);
    } else {
        ch->loan_spare = ch->loan;
        ch->loan = NULL;
    }
    loan->data = loan->internal = NULL;
    loan->capacity = 0;
}

/* After a commit that said r: whether it may be called again. */
static bool stays_out(int r)
{
    return r == -EAGAIN || r == -ETIMEDOUT || r == -EINVAL;
}

static int commit_attempt(struct naru_channel *ch, void *data, bool block)
{
    return ch->ops->commit(ch, data, block);
}

static int commit_in_place(struct naru_channel *ch, const struct naru_message *m)
{
    size_t length = m->iov->iov_len;
    int r;

    if (reopen_end_loan(ch))
        return error_set(EPIPE, "%s: the connection that this loan was of is lost; it is not sent", ch->url);
    r = channel_begin_sending(ch, &ch->lent_timeout_ns);

    if (r == 0)
        r = channel_check_sendable(ch, m);
    if (r == 0)
        r = channel_repeat(ch, NARU_OUT, ch->lent_timeout_ns, commit_attempt, (void *)(uintptr_t)m);
    ch->refused = r == -EAGAIN || r == -ETIMEDOUT;
    if (r == 0)
        channel_count(ch, CHANNEL_SENDING, length);
    else if (!stays_out(r))
        ch->ops->cancel(ch);
    channel_update_ready(ch, CHANNEL_SENDING);
    return channel_ended(ch, CHANNEL_SENDING, r);
}

static int commit(struct naru_loan *loan, size_t len, const struct naru_message *meta)
{
    struct iovec piece = {loan->data, len};
    struct naru_message m = {.size = sizeof m};
    int r = check_loan(loan);

    if (r < 0)
        return r;
    if (len > loan->capacity)
        return error_set(EINVAL, "%s: commit of %zu bytes from a loan of %zu", loan->channel->url, len,
                         loan->capacity);
    r = meta ? SIZED_CHECK(loan->channel->url, "message", naru_message, meta) : 0;
    if (r < 0)
        return r;
    if (meta)
        m = *meta;
    m.iov = &piece;
    m.iov_count = 1;
    r = loan->channel->lent ? commit_in_place(loan->channel, &m)
                            : channel_send(loan->channel, &m, loan->channel->loan->timeout_ns);
    if (!stays_out(r))
        end_loan(loan);
    return r;
}

int channel_commit_slowly(struct naru_loan *loan, size_t len)
{
    return commit(loan, len, NULL);
}

int naru_commit(struct naru_loan *loan, size_t len, const struct naru_message *meta)
{
    struct naru_channel *ch = loan->channel;

    if (__builtin_expect(ch && !meta && ch->short_way_then && ch->lent && loan->internal == ch->lent &&
                             len <= loan->capacity && fork_guard_is_still_owner(&ch->guard),
                         1))
        return ch->ops->short_commit(loan, len);
    return commit(loan, len, meta);
}

void naru_loan_cancel(struct naru_loan *loan)
{
    if (check_loan(loan) < 0)
        return;
    if (loan->channel->lent && !reopen_end_loan(loan->channel))
        loan->channel->ops->cancel(loan->channel);
    end_loan(loan);
}

static int borrow_attempt(struct naru_channel *ch, void *data, bool block)
{
    return ch->ops->borrow(ch, block, data);
}

/* As receive_undrained(). */
static int borrow_undrained(struct naru_channel *ch, struct naru_view *ret_view)
{
    int r = naru_borrow(reopen_undrained(ch), NARU_NOWAIT, ret_view);

    return reopen_received(ch, r, ret_view->length);
}

static int borrow_in_place(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view)
{
    int r = channel_begin_receiving(ch, &timeout_ns);

    if (r < 0)
        return r;
    if (reopen_undrained(ch)) {
        r = borrow_undrained(ch, ret_view);
        return r == -EAGAIN ? borrow_in_place(ch, timeout_ns, ret_view) : r;
    }
    r = channel_repeat(ch, NARU_IN, timeout_ns, borrow_attempt, ret_view);
    if (r == 0)
        channel_count(ch, CHANNEL_RECEIVING, ret_view->length);
    channel_update_ready(ch, CHANNEL_RECEIVING);
    return channel_ended(ch, CHANNEL_RECEIVING, r);
}

static void block_release(struct channel_view *view)
{
    struct channel_block *block = (struct channel_block *)(void *)view; /* its first member */

    if (!block->owner) {
        free(block);
        return;
    }
    list_remove(&block->node);
    block_put(block->owner, block);
}

static int borrow_block(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view)
{
    struct naru_message m = {.size = sizeof m, .sender = {-1, -1, -1}, .iov_count = 1};
    struct channel_block *block = block_get(ch, BLOCK_MIN);
    int r = -EMSGSIZE;

    while (block && r == -EMSGSIZE) {
        struct iovec piece = {block->data, block->capacity};

        m.iov = &piece;
        r = channel_receive(ch, &m, timeout_ns);
        if (r == -EMSGSIZE) { /* it is kept, and its size is known */
            block_put(ch, block);
            block = block_get(ch, ch->needed);
        }
    }
    if (!block)
        return -ENOMEM;
    if (r < 0) {
        block_put(ch, block);
        return r;
    }
    list_append(&ch->views, &block->node);
    ret_view->data = block->data;
    ret_view->length = m.length;
    ret_view->type = m.type;
    ret_view->priority = m.priority;
    ret_view->sender = m.sender;
    ret_view->internal = &block->view;
    return 0;
}

int channel_borrow_slowly(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view)
{
    int r = SIZED_CHECK(ch->url, "view", naru_view, ret_view);

    if (r < 0)
        return r;
    return ch->ops->borrow ? borrow_in_place(ch, timeout_ns, ret_view)
                           : borrow_block(ch, timeout_ns, ret_view);
}

int naru_borrow(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view)
{
    if (__builtin_expect(ch->short_way[CHANNEL_RECEIVING] && ch->ops->short_borrow &&
                             fork_guard_is_still_owner(&ch->guard),
                         1))
        return ch->ops->short_borrow(ch, timeout_ns, ret_view);
    return channel_borrow_slowly(ch, timeout_ns, ret_view);
}

void naru_release(struct naru_view *view)
{
    struct channel_view *held = view->internal;

    if (!held)
        return;
    view->internal = NULL;
    view->data = NULL;
    view->length = 0;
    held->release(held);
}
