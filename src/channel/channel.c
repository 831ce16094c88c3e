/* SPDX-License-Identifier: MIT */
/*
 * Sending and receiving: the public calls over a mechanism's attempts.
 *
 * Here are deadlines, EINTR, interruption and counters; nothing here knows a mechanism. Under NARU_FOREVER an
 * attempt may sleep in the kernel call itself, because a poll(2) before each read would cost 10 to 20 % of a
 * round trip over a pipe; every other timeout attempts first and polls only when there is nothing.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/probe.h"
#include "base/sized.h"
#include "channel/channel.h"
#include "channel/meeting.h"
#include "channel/reopen.h"
#include "channel/stream.h"

int channel_ended(struct naru_channel *ch, int direction, int r)
{
    bool end = r == -EPIPE || r == -EOWNERDEAD || r == -ECONNRESET || r == -EREMOTEIO || r == -EPROTO;

    /* relaxed: two directions may see the end at once, and one tells of it */
    if (end && !atomic_exchange_explicit(&ch->ended, true, memory_order_relaxed))
        PROBE3(disconnect, ch, ch->url, -r);
    return end && ch->reopen ? reopen_lost(ch, direction, r) : r;
}

/* How one call waits: it begins when the first attempt found nothing. */
struct patience {
    int64_t timeout, deadline;
    bool started;
};

static int say_late(struct naru_channel *ch, enum channel_late late)
{
    return ch->ops->say_late ? ch->ops->say_late(ch, late) : error_expected(ETIMEDOUT);
}

static int time_is_up(struct naru_channel *ch, int event)
{
    return say_late(ch, event == NARU_OUT ? CHANNEL_LATE_ROOM : CHANNEL_LATE_MESSAGE);
}

/* After an attempt said r: 0 to try again, or what the call returns. */
static int after_attempt(struct naru_channel *ch, int event, int r, struct patience *patience)
{
    int direction = event == NARU_OUT ? CHANNEL_SENDING : CHANNEL_RECEIVING;

    if (r == -EINTR)
        return 0;
    if (r != -EAGAIN)
        return r;
    if (patience->timeout <= 0)
        return error_expected(EAGAIN);
    if (!patience->started) {
        patience->deadline = deadline_after(patience->timeout);
        patience->started = true;
        ch->backoff[direction] = 0;
    } else if (deadline_left(patience->deadline) == 0) {
        return time_is_up(ch, event); /* also where the wait says "ready" each time, and others are faster */
    }
    r = channel_wait(ch, event, patience->deadline);
    return r == -ETIMEDOUT ? time_is_up(ch, event) : r;
}

int channel_repeat(struct naru_channel *ch, int event, int64_t timeout_ns, channel_attempt *attempt,
                   void *data)
{
    struct patience patience = {.timeout = timeout_ns};
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    int r = attempt(ch, data, block);

    while (r < 0 && (r = after_attempt(ch, event, r, &patience)) == 0)
        r = attempt(ch, data, block);
    return r;
}

static int cannot_direction(const struct naru_channel *ch, const char *what)
{
    return error_set(ENOTSUP, "%s: this end cannot %s", ch->url, what);
}

static int take_kept(struct naru_channel *ch, struct naru_message *m)
{
    size_t room = message_length(m);

    if (ch->kept.length > room)
        return channel_no_room(ch, ch->kept.length, room);
    (void)message_scatter(m, 0, ch->kept.data, ch->kept.length);
    m->length = ch->kept.length;
    m->type = ch->kept.meta.type;
    m->priority = ch->kept.meta.priority;
    m->sender = ch->kept.meta.sender;
    channel_give_address(m, &ch->kept.address);
    channel_give_fds(ch, m, ch->kept.fds, ch->kept.fd_count);
    ch->kept.fd_count = 0;
    ch->kept.full = false;
    return 0;
}

static int receive_attempt(struct naru_channel *ch, struct naru_message *m, bool block)
{
    return ch->kept.full ? take_kept(ch, m) : ch->ops->recv(ch, m, block);
}

/* For a call that finds ch->direction without its own. 0: it may be there now; or what the call returns. */
static int find_connection(struct naru_channel *ch, int direction, int64_t *timeout_ns)
{
    int r = ch->meeting ? meeting_go_on(ch, direction, timeout_ns) : 0;

    if (r < 0 || !ch->reopen)
        return r;
    return direction == CHANNEL_SENDING ? reopen_for_sending(ch, timeout_ns)
                                        : reopen_for_receiving(ch, timeout_ns);
}

int channel_begin_receiving(struct naru_channel *ch, int64_t *timeout_ns)
{
    int r = channel_enter(ch);

    if (r == 0 && !(ch->direction & NARU_DIRECTION_RECEIVE))
        r = find_connection(ch, CHANNEL_RECEIVING, timeout_ns);
    return r < 0 || reopen_undrained(ch) || ch->direction & NARU_DIRECTION_RECEIVE
               ? r
               : cannot_direction(ch, "receive");
}

/* What an older connection holds comes first. -EAGAIN: nothing more. */
static int receive_undrained(struct naru_channel *ch, struct naru_message *m)
{
    int r = channel_receive(reopen_undrained(ch), m, NARU_NOWAIT);

    return reopen_received(ch, r, m->length);
}

/* tried: what the short way said; 0: nothing, or that this one is to do it. */
static int receive(struct naru_channel *ch, struct naru_message *m, int64_t timeout_ns, int tried)
{
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    int r = channel_begin_receiving(ch, &timeout_ns);
    struct patience patience = {.timeout = timeout_ns};

    if (r < 0)
        return r;
    if (reopen_undrained(ch)) {
        r = receive_undrained(ch, m);
        return r == -EAGAIN ? receive(ch, m, timeout_ns, 0) : r;
    }
    m->fd_count = 0;
    r = tried ? tried : receive_attempt(ch, m, block);
    while (r < 0 && (r = after_attempt(ch, NARU_IN, r, &patience)) == 0)
        r = receive_attempt(ch, m, block);
    if (r == 0)
        channel_count(ch, CHANNEL_RECEIVING, m->length);
    else if (ch->stream)
        (void)stream_pause_recv(ch, m); /* if that fails, the next call says so */
    channel_update_ready(ch, CHANNEL_RECEIVING);
    return channel_ended(ch, CHANNEL_RECEIVING, r);
}

int channel_receive(struct naru_channel *ch, struct naru_message *m, int64_t timeout_ns)
{
    return receive(ch, m, timeout_ns, 0);
}

/* After a send, as r says. Room for bytes is shown to event loops; of room for descriptors they could not be
 * told, and a socket that has the other would wake them all the while. */
static void note_refusal(struct naru_channel *ch, int r)
{
    ch->refused = (r == -EAGAIN || r == -ETIMEDOUT) && !ch->congested;
    ch->congested = false;
}

/* The caller's time is up: what a stream has begun is kept here, and counts as sent. */
static int give_up_sending(struct naru_channel *ch, const struct naru_message *m, int r)
{
    int paused = 0;

    if (ch->stream && (r == -EAGAIN || r == -ETIMEDOUT || r == -ECANCELED))
        paused = stream_pause_send(ch, m);
    else if (ch->stream)
        stream_abandon_send(ch->stream,
                            r == -EPIPE || r == -EOWNERDEAD || r == -EREMOTEIO || r == -ECONNRESET);
    return paused < 0 ? paused : r;
}

int channel_check_sendable(const struct naru_channel *ch, const struct naru_message *m)
{
    uint32_t capabilities = ch->ops->row.capabilities;
    size_t length = message_length(m);

    if (length > ch->max_message)
        return channel_over_limit(ch, length);
    if (__builtin_expect(!(m->fd_count || m->priority || m->type), 1))
        return 0;
    if (m->fd_count && (!(capabilities & NARU_CAN_FDS) || m->fd_count > CHANNEL_FDS_MAX))
        return capabilities & NARU_CAN_FDS
                   ? error_set(EINVAL, "%s: %zu descriptors in one message; the kernel takes %d", ch->url,
                               m->fd_count, CHANNEL_FDS_MAX)
                   : error_set(ENOTSUP, "%s: %s cannot pass descriptors; use unix:", ch->url,
                               ch->ops->row.name);
    if (m->priority && !(capabilities & NARU_CAN_PRIORITY))
        return error_set(ENOTSUP, "%s: %s has no priorities; use posixmq:", ch->url, ch->ops->row.name);
    if (m->type && !(capabilities & NARU_CAN_TYPE))
        return error_set(ENOTSUP, "%s: %s has no message types; use sysvmq:", ch->url, ch->ops->row.name);
    return 0;
}

int channel_begin_sending(struct naru_channel *ch, int64_t *timeout_ns)
{
    int r = channel_enter(ch);

    if (r == 0 && ch->finished)
        return error_set(EPIPE, "%s: nothing can be sent after naru_channel_finish()", ch->url);
    if (r == 0 && !(ch->direction & NARU_DIRECTION_SEND))
        r = find_connection(ch, CHANNEL_SENDING, timeout_ns);
    if (r == 0 && !(ch->direction & NARU_DIRECTION_SEND))
        r = cannot_direction(ch, "send");
    return r;
}

/* tried: as for receive(). */
static int send_message(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns, int tried)
{
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    int r = channel_begin_sending(ch, &timeout_ns);
    struct patience patience = {.timeout = timeout_ns};

    if (r < 0)
        return meeting_refuses(ch, r);
    r = channel_check_sendable(ch, m);
    if (r < 0)
        return r;
    r = tried ? tried : ch->ops->send(ch, m, block);
    while (r < 0 && (r = after_attempt(ch, NARU_OUT, r, &patience)) == 0)
        r = ch->ops->send(ch, m, block);
    note_refusal(ch, r);
    if (r < 0)
        r = give_up_sending(ch, m, r);
    if (r == 0 || r == -EINPROGRESS)
        channel_count(ch, CHANNEL_SENDING, message_length(m));
    channel_update_ready(ch, CHANNEL_SENDING);
    return channel_ended(ch, CHANNEL_SENDING, channel_say_unwatched(ch, r));
}

int channel_send(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns)
{
    return send_message(ch, m, timeout_ns, 0);
}

int channel_send_slowly(struct naru_channel *ch, const void *data, size_t length, int64_t timeout_ns,
                        int tried)
{
    struct iovec piece = {(void *)(uintptr_t)data, length};
    struct naru_message m = {.size = sizeof m, .iov = &piece, .iov_count = 1};

    return send_message(ch, &m, timeout_ns, tried);
}

/* An empty message, whose pointer may be NULL, goes the long way: 0 - 1 is never less. */
int naru_send(struct naru_channel *ch, const void *data, size_t len, int64_t timeout_ns)
{
    if (__builtin_expect(timeout_ns == NARU_FOREVER && len - 1 < ch->short_way[CHANNEL_SENDING] &&
                             fork_guard_is_still_owner(&ch->guard),
                         1))
        return ch->ops->send_bytes(ch, data, len);
    return channel_send_slowly(ch, data, len, timeout_ns, 0);
}

ssize_t channel_recv_slowly(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns,
                            int tried)
{
    struct iovec piece = {buf, capacity};
    struct naru_message m = {.size = sizeof m, .iov = &piece, .iov_count = 1};
    int r = receive(ch, &m, timeout_ns, tried);

    return r < 0 ? r : (ssize_t)m.length;
}

ssize_t naru_recv(struct naru_channel *ch, void *buf, size_t cap, int64_t timeout_ns)
{
    if (__builtin_expect(timeout_ns == NARU_FOREVER && cap - 1 < ch->short_way[CHANNEL_RECEIVING] &&
                             fork_guard_is_still_owner(&ch->guard),
                         1))
        return ch->ops->recv_bytes(ch, buf, cap, timeout_ns);
    return channel_recv_slowly(ch, buf, cap, timeout_ns, 0);
}

static int check_message(const struct naru_channel *ch, const struct naru_message *m)
{
    return SIZED_CHECK(ch->url, "message", naru_message, m);
}

int naru_send_message(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns)
{
    int r = check_message(ch, m);

    return r < 0 ? r : channel_send(ch, m, timeout_ns);
}

int naru_recv_message(struct naru_channel *ch, struct naru_message *ret_m, int64_t timeout_ns)
{
    int r = check_message(ch, ret_m);

    if (r < 0)
        return r;
    ret_m->type = 0;
    ret_m->priority = 0;
    ret_m->sender = (struct naru_peer){-1, -1, -1};
    return channel_receive(ch, ret_m, timeout_ns);
}

/* One attempt at a batch, where the mechanism has none of its own. */
static ssize_t send_one_by_one(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    size_t sent = 0;
    int r = 0;

    while (sent < n && (r = ch->ops->send(ch, message_at(m, sent), block && sent == 0)) == 0)
        sent++;
    return sent ? (ssize_t)sent : r;
}

static size_t sum_lengths(const struct naru_message *m, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += message_length(message_at(m, i));
    return bytes;
}

ssize_t naru_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, int64_t timeout_ns)
{
    ssize_t (*attempt)(struct naru_channel *, const struct naru_message *, size_t, bool) =
        ch->ops->send_batch ? ch->ops->send_batch : send_one_by_one;
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    size_t valid = 0;
    ssize_t sent;
    int r = n ? channel_begin_sending(ch, &timeout_ns) : 0;
    struct patience patience = {.timeout = timeout_ns};

    if (r < 0 || n == 0)
        return meeting_refuses(ch, r);
    while (valid < n && (r = check_message(ch, message_at(m, valid))) == 0 &&
           (r = channel_check_sendable(ch, message_at(m, valid))) == 0)
        valid++;
    if (valid == 0)
        return r;
    do
        sent = attempt(ch, m, valid, block);
    while (sent < 0 && (sent = after_attempt(ch, NARU_OUT, (int)sent, &patience)) == 0);
    note_refusal(ch, sent < 0 ? (int)sent : 0);
    if (sent < 0)
        sent = give_up_sending(ch, m, (int)sent);
    if (sent == -EINPROGRESS)
        sent = 1; /* counted as sent, see naru_send_batch() */
    if (sent > 0) {
        size_t bytes = sum_lengths(m, (size_t)sent);

        channel_count_many(ch, CHANNEL_SENDING, (size_t)sent, bytes);
        PROBE4(send_batch, ch, ch->url, bytes, sent);
    }
    channel_update_ready(ch, CHANNEL_SENDING);
    return sent < 0 ? channel_ended(ch, CHANNEL_SENDING, channel_say_unwatched(ch, (int)sent)) : sent;
}

/* --- afterwards --- */

static int flush_attempt(struct naru_channel *ch, enum naru_stage stage, bool block)
{
    int64_t untaken;
    int r = ch->stream && stream_has_rest(ch->stream) ? stream_write_rest(ch, block) : 0;

    if (r < 0 || stage == NARU_SENT)
        return r;
    untaken = stage == NARU_DONE ? ch->ops->undone(ch) : ch->ops->untaken(ch);
    return untaken > 0 ? -EAGAIN : (int)untaken;
}

/* The kernel announces room, but not that the peer has read. */
static int wait_for_stage(struct naru_channel *ch, enum naru_stage stage, int64_t deadline)
{
    if (ch->stream && stream_has_rest(ch->stream))
        return channel_wait(ch, NARU_OUT, deadline);
    return ch->ops->wait_for_stage ? ch->ops->wait_for_stage(ch, stage, deadline)
                                   : channel_wait_backoff(ch, NARU_OUT, deadline);
}

/* After naru_channel_finish(), too, unless that has closed what would tell (a pipe), or there is nobody any
 * more who could read it. */
static int begin_flushing(struct naru_channel *ch, int64_t *timeout_ns)
{
    bool tells = ch->ops->finish || ch->wfd >= 0;

    return ch->finished && tells && !reopen_is_lost(ch) ? channel_enter(ch)
                                                        : channel_begin_sending(ch, timeout_ns);
}

int naru_flush(struct naru_channel *ch, enum naru_stage stage, int64_t timeout_ns)
{
    int r = begin_flushing(ch, &timeout_ns);
    int64_t deadline = deadline_after(timeout_ns);

    if (r < 0)
        return r;
    if ((int)stage < NARU_SENT || stage > NARU_DONE)
        return error_set(EINVAL, "%s: there is no stage %d of a message", ch->url, (int)stage);
    if ((stage == NARU_DONE && !ch->ops->undone) || (stage == NARU_TAKEN && !ch->ops->untaken))
        return error_set(ENOTSUP, "%s: %s does not tell when the peer has %s a message", ch->url,
                         ch->ops->row.name, stage == NARU_DONE ? "released" : "received");
    ch->backoff[CHANNEL_SENDING] = 0;
    for (bool waited = false;; waited = true) {
        do
            r = flush_attempt(ch, stage, false);
        while (r == -EINTR);
        if (r != -EAGAIN)
            break;
        if (timeout_ns <= 0) {
            r = error_expected(EAGAIN);
            break;
        }
        /* As after_attempt(): also where a peer rings all the while. */
        r = waited && deadline_left(deadline) == 0 ? -ETIMEDOUT : wait_for_stage(ch, stage, deadline);
        if (r == -ETIMEDOUT)
            r = say_late(ch, CHANNEL_LATE_STAGE);
        if (r < 0)
            break;
    }
    channel_update_ready(ch, CHANNEL_SENDING);
    return channel_ended(ch, CHANNEL_SENDING, r);
}

/* ch->direction stays: the receiving thread reads it. */
int naru_channel_finish(struct naru_channel *ch)
{
    bool can = ch->ops->row.capabilities & NARU_CAN_SEE_CLOSE;
    bool lost = reopen_is_lost(ch); /* there is nobody to tell, and none will be connected to for that */
    int64_t at_once = NARU_NOWAIT;
    int r = ch->finished || lost ? channel_enter(ch) : channel_begin_sending(ch, &at_once);

    if (r == 0 && lost && !ch->finished) {
        reopen_finish(ch);
        ch->finished = true;
    }
    if (r < 0 || ch->finished)
        return r;
    if (ch->ops->finish) {
        r = ch->ops->finish(ch);
        ch->finished = r == 0;
        channel_end_short_way(ch);
        return r;
    }
    if (ch->stream && stream_has_rest(ch->stream))
        (void)stream_write_rest(ch, false); /* the last chance, as in naru_channel_close() */
    if (can && fd_type(ch->wfd) == S_IFSOCK && shutdown(ch->wfd, SHUT_WR) < 0 && errno != ENOTCONN)
        return error_set(errno, "%s: shutdown: %s", ch->url, error_text(errno));
    if (!can || (ch->wfd == ch->rfd && fd_type(ch->wfd) != S_IFSOCK))
        return error_set(ENOTSUP, "%s: %s cannot end one direction alone", ch->url, ch->ops->row.name);
    if (ch->wfd != ch->rfd)
        fork_close(&ch->wfd);
    ch->finished = true;
    channel_end_short_way(ch);
    return 0;
}

int naru_channel_info(const struct naru_channel *ch, struct naru_channel_info *ret_info)
{
    const struct channel_counters *out = &ch->counters[CHANNEL_SENDING],
                                  *in = &ch->counters[CHANNEL_RECEIVING];

    int r = SIZED_CHECK(ch->url, "info", naru_channel_info, ret_info);

    if (r < 0)
        return r;
    ret_info->mechanism = &ch->ops->row;
    ret_info->url = ch->url;
    ret_info->peer = ch->peer;
    ret_info->max_message = ch->max_message;
    /* Relaxed: figures for people. */
    ret_info->messages_sent = atomic_load_explicit(&out->messages, memory_order_relaxed);
    ret_info->bytes_sent = atomic_load_explicit(&out->bytes, memory_order_relaxed);
    ret_info->messages_received = atomic_load_explicit(&in->messages, memory_order_relaxed);
    ret_info->bytes_received = atomic_load_explicit(&in->bytes, memory_order_relaxed);
    ret_info->dropped = atomic_load_explicit(&in->dropped, memory_order_relaxed) +
                        atomic_load_explicit(&out->dropped, memory_order_relaxed);
    ret_info->reconnects = reopen_count(ch);
    ret_info->exit_status = ch->ops->exit_status ? ch->ops->exit_status(ch) : -1;
    return 0;
}
