/* SPDX-License-Identifier: MIT */
/*
 * Channels: the public calls over a mechanism's attempts.
 *
 * Here are deadlines, EINTR, interruption, ownership after fork(), counters; nothing here knows a mechanism.
 * Under NARU_FOREVER an attempt may sleep in the kernel call itself, because a poll(2) before each read would
 * cost 10 to 20 % of a round trip over a pipe; every other timeout attempts first and polls only when there
 * is nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "channel/channel.h"
#include "channel/frame.h"
#include "channel/stream.h"

enum { MESSAGE_MAX_DEFAULT = 64 * 1024 * 1024 };

/* --- opening and closing --- */

int channel_options(struct url *url, const struct naru_options *opt, struct naru_options *ret_opt)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    bool read_ahead;
    int r, frame;

    if (opt && opt->size < sizeof options)
        return error_set(EINVAL,
                         "%s: options.size is %zu, not sizeof(struct naru_options); start from NARU_INIT()",
                         url->text, opt->size);
    if (opt)
        options = *opt;
    frame = (int)options.frame - 1;
    read_ahead = options.read_ahead == NARU_CHOICE_YES;
    r = url_option_word(url, "frame", frame_names, &frame);
    if (r == 0)
        r = url_option_size(url, "max-message", 1, UINT32_MAX, &options.max_message);
    if (r == 0)
        r = url_option_size(url, "buffer", 1, 1 << 30, &options.buffer);
    if (r == 0)
        r = url_option_flag(url, "read-ahead", &read_ahead);
    if (r == 0)
        r = url_option_mode(url, "mode", &options.mode);
    if (r < 0)
        return r;
    if (options.direction > NARU_DIRECTION_BOTH || frame >= NARU_FRAME_HEADER ||
        options.max_message > UINT32_MAX)
        return error_set(EINVAL, "%s: options.direction, frame or max_message is out of range", url->text);
    options.frame = (enum naru_frame)(frame + 1);
    if (url_option(url, "read-ahead"))
        options.read_ahead = read_ahead ? NARU_CHOICE_YES : NARU_CHOICE_NO;
    if (options.max_message == 0)
        options.max_message = MESSAGE_MAX_DEFAULT;
    if (options.mode == 0)
        options.mode = 0600;
    *ret_opt = options;
    return 0;
}

static struct naru_channel *channel_free(struct naru_channel *ch)
{
    for (int i = 0; i < 2; i++)
        ch->interrupt_fd[i] = fd_close(ch->interrupt_fd[i]);
    if (ch->wfd != ch->rfd)
        (void)fd_close(ch->wfd);
    (void)fd_close(ch->rfd);
    (void)fd_close(ch->poll_fd);
    (void)fd_close(ch->peer_pidfd);
    (void)fd_close(ch->fd);
    (void)fd_close(ch->ready_fd);
    (void)stream_free(ch->stream);
    channel_free_blocks(ch);
    for (size_t i = 0; i < ch->kept.fd_count; i++)
        (void)fd_close(ch->kept.fds[i]);
    free(ch->kept.data);
    free(ch->url);
    free(ch);
    return NULL;
}

struct naru_channel *channel_new(const struct channel_ops *ops, const char *url,
                                 const struct naru_options *opt)
{
    struct naru_channel *ch = calloc(1, sizeof *ch);

    if (!ch)
        goto no_memory;
    ch->ops = ops;
    ch->rfd = ch->wfd = ch->poll_fd = ch->peer_pidfd = ch->fd = ch->ready_fd = -1;
    ch->interrupt_fd[0] = ch->interrupt_fd[1] = -1;
    ch->peer = (struct naru_peer){-1, -1, -1};
    ch->max_message = opt->max_message;
    ch->limit_mend = "raise it with ?max-message= at both ends";
    ch->keep_on_fork = opt->keep_on_fork;
    ch->interruptible = opt->interruptible;
    list_init(&ch->views);
    fork_guard_init_unowned(&ch->guard);
    ch->url = strdup(url);
    if (!ch->url)
        goto no_memory;
    for (int i = 0; ch->interruptible && i < 2; i++) {
        ch->interrupt_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (ch->interrupt_fd[i] < 0) {
            (void)error_set(errno, "%s: eventfd: %s", url, error_text(errno));
            return channel_free(ch);
        }
    }
    return ch;

no_memory:
    (void)error_set(ENOMEM, "%s: out of memory for a channel", url);
    return ch ? channel_free(ch) : NULL;
}

void channel_abandon(struct naru_channel *ch)
{
    (void)channel_free(ch);
}

/* The mechanism has opened it: from now on it has an owner, and children close it. */
void channel_own(struct naru_channel *ch)
{
    fork_guard_init(&ch->guard);
    if (ch->keep_on_fork)
        return;
    fork_guard_add(&ch->guard, &ch->rfd);
    if (ch->wfd != ch->rfd)
        fork_guard_add(&ch->guard, &ch->wfd);
    fork_guard_add(&ch->guard, &ch->poll_fd);
    fork_guard_add(&ch->guard, &ch->fd);
    fork_guard_add(&ch->guard, &ch->peer_pidfd);
}

int channel_enter(struct naru_channel *ch)
{
    if (__builtin_expect(ch->guard.generation == 0, 0)) {
        channel_own(ch);
        return 0;
    }
    return fork_guard_enter(&ch->guard);
}

int channel_make_stream(struct naru_channel *ch, const struct naru_options *opt, enum naru_frame usual,
                        bool shared)
{
    enum naru_frame frame = opt->frame ? opt->frame : usual;
    bool read_ahead = opt->read_ahead ? opt->read_ahead == NARU_CHOICE_YES : !shared;

    ch->stream = stream_new(frame, read_ahead, ch->ops->row.capabilities & NARU_CAN_FDS);
    return ch->stream ? 0 : error_set(ENOMEM, "%s: out of memory for a channel", ch->url);
}

/* What NULL among the operations means. */
static int cannot(const struct url *url, const char *what, const char *instead)
{
    return error_set(ENOTSUP, "%s: %s cannot %s; %s", url->text, url->scheme, what, instead);
}

static int connect_url(struct url *url, const struct naru_options *opt, int64_t timeout_ns,
                       struct naru_channel **ret_ch)
{
    const struct channel_ops *ops = channel_find(url);
    struct naru_options options;
    struct naru_channel *ch;
    int r;

    if (!ops)
        return -EINVAL;
    if (!ops->connect)
        return cannot(url, "be connected to", "use naru_channel_pair(), or naru_listen()");
    r = channel_options(url, opt, &options);
    if (r < 0)
        return r;
    ch = channel_new(ops, url->text, &options);
    if (!ch)
        return -ENOMEM;
    r = ops->connect(ch, url, &options, deadline_after(timeout_ns));
    if (r == 0)
        channel_own(ch);
    if (r == 0 && (r = url_check_unused(url)) < 0)
        (void)naru_channel_close(ch);
    else if (r < 0)
        (void)channel_free(ch);
    else
        *ret_ch = ch;
    return r == -ETIMEDOUT && timeout_ns <= 0 ? -EAGAIN : r;
}

int naru_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns,
                 struct naru_channel **ret_ch)
{
    struct url parsed;
    int r = url_parse(url, &parsed);

    if (r < 0)
        return r;
    r = connect_url(&parsed, opt, timeout_ns, ret_ch);
    url_deinit(&parsed);
    return r;
}

static int pair_url(struct url *url, const struct naru_options *opt, struct naru_channel *ret_ch[2])
{
    const struct channel_ops *ops = channel_find(url);
    struct naru_channel *ends[2] = {NULL, NULL};
    struct naru_options options;
    int r;

    if (!ops)
        return -EINVAL;
    if (!ops->pair)
        return cannot(url, "make a pair", "use naru_listen() and naru_connect()");
    r = channel_options(url, opt, &options);
    for (int i = 0; i < 2 && r == 0; i++) {
        ends[i] = channel_new(ops, url->text, &options);
        if (!ends[i])
            r = -ENOMEM;
    }
    if (r == 0)
        r = ops->pair(ends, url, &options);
    for (int i = 0; i < 2 && r < 0; i++)
        if (ends[i])
            (void)channel_free(ends[i]);
    if (r < 0)
        return r;
    r = url_check_unused(url);
    for (int i = 0; i < 2; i++) {
        if (r == 0)
            ret_ch[i] = ends[i];
        else
            (void)naru_channel_close(ends[i]);
    }
    return r;
}

int naru_channel_pair(const char *url, const struct naru_options *opt, struct naru_channel *ret_ch[2])
{
    struct url parsed;
    int r = url_parse(url, &parsed);

    if (r < 0)
        return r;
    r = pair_url(&parsed, opt, ret_ch);
    url_deinit(&parsed);
    return r;
}

int naru_channel_adopt(struct naru_channel *ch)
{
    if (!fork_guard_is_mine(&ch->guard) && !ch->keep_on_fork)
        return error_set(
            EINVAL,
            "%s: another process owns this end; only ends of a pair that nobody used yet, and channels "
            "with options.keep_on_fork, can be adopted",
            ch->url);
    if (ch->guard.generation == 0 || !fork_guard_is_mine(&ch->guard)) {
        fork_guard_deinit(&ch->guard);
        channel_own(ch);
    }
    return 0;
}

struct naru_channel *naru_channel_close(struct naru_channel *ch)
{
    bool mine;

    if (!ch)
        return NULL;
    mine = fork_guard_is_mine(&ch->guard);
    if (ch->listener)
        ch->listener->taken = NULL;
    if (mine && ch->stream && stream_has_rest(ch->stream))
        (void)stream_write_rest(ch, false); /* the last chance; -EINPROGRESS told to flush */
    if (ch->ops->close)
        ch->ops->close(ch, mine);
    fork_guard_deinit(&ch->guard);
    return channel_free(ch);
}

/* --- the peer --- */

void channel_learn_peer(struct naru_channel *ch, int fd)
{
    struct ucred who;
    socklen_t length = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0 || who.pid <= 0)
        return;
    ch->peer = (struct naru_peer){who.pid, who.uid, who.gid};
    ch->peer_pidfd = process_pidfd(who.pid);
}

int channel_peer_gone(struct naru_channel *ch)
{
    if (process_was_killed(ch->peer_pidfd, (pid_t)ch->peer.pid))
        return error_set(EOWNERDEAD,
                         "%s: process %lld at the other end was killed; all that it sent has been received",
                         ch->url, (long long)ch->peer.pid);
    return error_expected(EPIPE);
}

/* --- sending and receiving --- */

static void count(struct channel_counters *counters, size_t messages, size_t bytes)
{
    /* One thread a direction counts, so a load and a store do; relaxed: figures for people. */
    uint64_t m = atomic_load_explicit(&counters->messages, memory_order_relaxed);
    uint64_t b = atomic_load_explicit(&counters->bytes, memory_order_relaxed);

    atomic_store_explicit(&counters->messages, m + messages, memory_order_relaxed);
    atomic_store_explicit(&counters->bytes, b + bytes, memory_order_relaxed);
}

/* How one call waits: it begins when the first attempt found nothing. */
struct patience {
    int64_t timeout, deadline;
    bool started;
};

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
    }
    return channel_wait(ch, event, patience->deadline);
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

int channel_receive(struct naru_channel *ch, struct naru_message *m, int64_t timeout_ns)
{
    struct patience patience = {.timeout = timeout_ns};
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    int r = channel_enter(ch);

    if (r < 0)
        return r;
    if (!(ch->direction & NARU_DIRECTION_RECEIVE))
        return cannot_direction(ch, "receive");
    m->fd_count = 0;
    do
        r = ch->kept.full ? take_kept(ch, m) : ch->ops->recv(ch, m, block);
    while (r < 0 && (r = after_attempt(ch, NARU_IN, r, &patience)) == 0);
    if (r == 0)
        count(&ch->counters[CHANNEL_RECEIVING], 1, m->length);
    else if (ch->stream)
        (void)stream_pause_recv(ch, m); /* if that fails, the next call says so */
    channel_update_ready(ch, CHANNEL_RECEIVING);
    return r;
}

/* The caller's time is up: what a stream has begun is kept here, and counts as sent. */
static int give_up_sending(struct naru_channel *ch, const struct naru_message *m, int r)
{
    int paused = 0;

    ch->refused = r == -EAGAIN || r == -ETIMEDOUT;
    if (ch->stream && (ch->refused || r == -ECANCELED)) /* else nobody will take the rest */
        paused = stream_pause_send(ch, m);
    return paused < 0 ? paused : r;
}

static int check_sendable(struct naru_channel *ch, const struct naru_message *m)
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

static int begin_sending(struct naru_channel *ch)
{
    int r = channel_enter(ch);

    if (r == 0 && !(ch->direction & NARU_DIRECTION_SEND))
        r = cannot_direction(ch, "send");
    if (r == 0 && ch->finished)
        r = error_set(EPIPE, "%s: nothing can be sent after naru_channel_finish()", ch->url);
    return r;
}

int channel_send(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns)
{
    struct patience patience = {.timeout = timeout_ns};
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    int r = begin_sending(ch);

    if (r == 0)
        r = check_sendable(ch, m);
    if (r < 0)
        return r;
    do
        r = ch->ops->send(ch, m, block);
    while (r < 0 && (r = after_attempt(ch, NARU_OUT, r, &patience)) == 0);
    if (r == 0)
        ch->refused = false;
    else
        r = give_up_sending(ch, m, r);
    if (r == 0 || r == -EINPROGRESS)
        count(&ch->counters[CHANNEL_SENDING], 1, message_length(m));
    channel_update_ready(ch, CHANNEL_SENDING);
    return r;
}

int naru_send(struct naru_channel *ch, const void *data, size_t len, int64_t timeout_ns)
{
    struct iovec piece = {(void *)(uintptr_t)data, len};
    struct naru_message m = {.size = sizeof m, .iov = &piece, .iov_count = 1};

    return channel_send(ch, &m, timeout_ns);
}

ssize_t naru_recv(struct naru_channel *ch, void *buf, size_t cap, int64_t timeout_ns)
{
    struct iovec piece = {buf, cap};
    struct naru_message m = {.size = sizeof m, .iov = &piece, .iov_count = 1};
    int r = channel_receive(ch, &m, timeout_ns);

    return r < 0 ? r : (ssize_t)m.length;
}

static int check_message(const struct naru_message *m)
{
    if (m->size < sizeof *m)
        return error_set(
            EINVAL, "message.size is %zu, not sizeof(struct naru_message); start from NARU_INIT()", m->size);
    return 0;
}

int naru_send_message(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns)
{
    int r = check_message(m);

    return r < 0 ? r : channel_send(ch, m, timeout_ns);
}

int naru_recv_message(struct naru_channel *ch, struct naru_message *ret_m, int64_t timeout_ns)
{
    int r = check_message(ret_m);

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
    struct patience patience = {.timeout = timeout_ns};
    bool block = timeout_ns == NARU_FOREVER && !ch->interruptible;
    size_t valid = 0;
    ssize_t sent;
    int r = n ? begin_sending(ch) : 0;

    if (r < 0 || n == 0)
        return r;
    while (valid < n && (r = check_message(message_at(m, valid))) == 0 &&
           (r = check_sendable(ch, message_at(m, valid))) == 0)
        valid++;
    if (valid == 0)
        return r;
    do
        sent = attempt(ch, m, valid, block);
    while (sent < 0 && (sent = after_attempt(ch, NARU_OUT, (int)sent, &patience)) == 0);
    if (sent < 0)
        sent = give_up_sending(ch, m, (int)sent);
    else
        ch->refused = false;
    if (sent == -EINPROGRESS)
        sent = 1; /* counted as sent, see naru_send_batch() */
    if (sent > 0)
        count(&ch->counters[CHANNEL_SENDING], (size_t)sent, sum_lengths(m, (size_t)sent));
    channel_update_ready(ch, CHANNEL_SENDING);
    return sent;
}

/* --- afterwards --- */

static int flush_attempt(struct naru_channel *ch, enum naru_stage stage, bool block)
{
    int64_t untaken;
    int r = ch->stream && stream_has_rest(ch->stream) ? stream_write_rest(ch, block) : 0;

    if (r < 0 || stage == NARU_SENT)
        return r;
    untaken = ch->ops->untaken(ch);
    return untaken > 0 ? -EAGAIN : (int)untaken;
}

int naru_flush(struct naru_channel *ch, enum naru_stage stage, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    int r = begin_sending(ch);

    if (r < 0)
        return r;
    if (stage == NARU_DONE || (stage == NARU_TAKEN && !ch->ops->untaken))
        return error_set(ENOTSUP, "%s: %s does not tell when the peer has %s a message", ch->url,
                         ch->ops->row.name, stage == NARU_DONE ? "released" : "received");
    ch->backoff[CHANNEL_SENDING] = 0;
    for (;;) {
        r = flush_attempt(ch, stage, false);
        if (r != -EAGAIN)
            break;
        if (timeout_ns <= 0) {
            r = error_expected(EAGAIN);
            break;
        }
        /* The kernel announces room, but not that the peer has read. */
        r = ch->stream && stream_has_rest(ch->stream) ? channel_wait(ch, NARU_OUT, deadline)
                                                      : channel_wait_backoff(ch, NARU_OUT, deadline);
        if (r < 0)
            break;
    }
    channel_update_ready(ch, CHANNEL_SENDING);
    return r;
}

/* ch->direction stays: the receiving thread reads it. */
int naru_channel_finish(struct naru_channel *ch)
{
    bool can = ch->ops->row.capabilities & NARU_CAN_SEE_CLOSE;
    int r = ch->finished ? 0 : begin_sending(ch);

    if (r < 0 || ch->finished)
        return r;
    if (ch->stream && stream_has_rest(ch->stream))
        (void)stream_write_rest(ch, false); /* the last chance, as in naru_channel_close() */
    if (can && fd_type(ch->wfd) == S_IFSOCK && shutdown(ch->wfd, SHUT_WR) < 0 && errno != ENOTCONN)
        return error_set(errno, "%s: shutdown: %s", ch->url, error_text(errno));
    if (!can || (ch->wfd == ch->rfd && fd_type(ch->wfd) != S_IFSOCK))
        return error_set(ENOTSUP, "%s: %s cannot end one direction alone", ch->url, ch->ops->row.name);
    if (ch->wfd != ch->rfd)
        ch->wfd = fd_close(ch->wfd);
    ch->finished = true;
    return 0;
}

int naru_channel_info(const struct naru_channel *ch, struct naru_channel_info *ret_info)
{
    const struct channel_counters *out = &ch->counters[CHANNEL_SENDING],
                                  *in = &ch->counters[CHANNEL_RECEIVING];

    if (ret_info->size < sizeof *ret_info)
        return error_set(EINVAL,
                         "info.size is %zu, not sizeof(struct naru_channel_info); start from NARU_INIT()",
                         ret_info->size);
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
    ret_info->exit_status = ch->ops->exit_status ? ch->ops->exit_status(ch) : -1;
    return 0;
}
