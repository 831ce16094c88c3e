/* SPDX-License-Identifier: MIT */
/*
 * A channel's beginning and end: options, connecting, pairs, ownership across fork(), closing; and who was at
 * the other end. The mechanism opens the descriptors; everything around them is here.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/discard.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/sized.h"
#include "channel/channel.h"
#include "channel/frame.h"
#include "channel/meeting.h"
#include "channel/reopen.h"
#include "channel/stream.h"

enum { MESSAGE_MAX_DEFAULT = 64 * 1024 * 1024, BUFFER_MAX = 1 << 30 /* bytes; the kernel takes an int */ };

/* In the order of enum naru_service, without its default. */
static const char *const service_names[] = {"keeper", "manual", NULL};

int channel_options(struct url *url, const struct naru_options *opt, bool pair, struct naru_options *ret_opt)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    bool read_ahead;
    int r = opt ? SIZED_CHECK(url->text, "options", naru_options, opt) : 0, frame, service;

    if (r < 0)
        return r;
    if (opt)
        options = *opt;
    frame = (int)options.frame - 1;
    service = (int)options.service - 1;
    read_ahead = options.read_ahead == NARU_CHOICE_YES;
    r = url_option_word(url, "frame", frame_names, &frame);
    if (r == 0 && !pair)
        r = url_option_word(url, "service", service_names, &service);
    if (r == 0)
        r = url_option_size(url, "max-message", 1, UINT32_MAX, &options.max_message);
    if (r == 0)
        r = url_option_size(url, "buffer", 1, BUFFER_MAX, &options.buffer);
    if (r == 0)
        r = url_option_flag(url, "read-ahead", &read_ahead);
    if (r == 0 && !pair)
        r = url_option_mode(url, "mode", &options.mode);
    if (r < 0)
        return r;
    if (options.direction > NARU_DIRECTION_BOTH || frame < -1 || frame >= NARU_FRAME_HEADER ||
        options.max_message > UINT32_MAX || options.buffer > BUFFER_MAX || options.mode > 0777 ||
        options.read_ahead > NARU_CHOICE_YES || service < -1 || service >= NARU_SERVICE_MANUAL)
        return error_set(EINVAL,
                         "%s: options.direction, frame, max_message (up to %" PRIu32
                         "), buffer (up to %d), mode (up to 0777), read_ahead or service is out of range; "
                         "start from NARU_INIT()",
                         url->text, UINT32_MAX, BUFFER_MAX);
    options.frame = (enum naru_frame)(frame + 1);
    options.service = (enum naru_service)(service + 1);
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
    fork_guard_close(&ch->guard);
    for (int i = 0; i < 2; i++)
        ch->interrupt_fd[i] = fd_close(ch->interrupt_fd[i]);
    if (ch->wfd != ch->rfd)
        (void)fd_close(ch->wfd);
    (void)fd_close(ch->rfd);
    (void)fd_close(ch->poll_fd);
    (void)fd_close(ch->peer_pidfd);
    (void)fd_close(ch->side_fd);
    (void)fd_close(ch->loop_bell);
    (void)fd_close(ch->their_loop_bell);
    (void)fd_close(ch->their_rfd);
    (void)fd_close(ch->their_wfd);
    (void)fd_close(ch->fd);
    (void)fd_close(ch->ready_fd);
    (void)stream_free(ch->stream);
    channel_free_blocks(ch);
    discard_shared_fds(ch->kept.fds, ch->kept.fd_count);
    free(ch->kept.data);
    free(ch->url);
    free(ch);
    return NULL;
}

/* naru_interrupt()'s wake-ups. 0 or an explained -errno. */
static int make_interruptible(struct naru_channel *ch)
{
    for (int i = 0; i < 2; i++) {
        ch->interrupt_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (ch->interrupt_fd[i] < 0)
            return error_set(errno, "%s: eventfd: %s", ch->url, error_text(errno));
    }
    return 0;
}

static int channel_new(const struct channel_ops *ops, const char *url, const struct naru_options *opt,
                       struct naru_channel **ret_ch)
{
    struct naru_channel *ch = calloc(1, sizeof *ch);
    int r = 0;

    if (!ch)
        return error_set(ENOMEM, "%s: out of memory for a channel", url);
    ch->ops = ops;
    ch->rfd = ch->wfd = ch->poll_fd = ch->peer_pidfd = ch->side_fd = ch->fd = ch->ready_fd = -1;
    ch->loop_bell = ch->their_loop_bell = ch->their_rfd = ch->their_wfd = -1;
    ch->interrupt_fd[0] = ch->interrupt_fd[1] = -1;
    ch->room_event = POLLOUT;
    ch->in_event = POLLIN; /* epoll's events have poll's values: epoll_ctl(2) */
    ch->peer = (struct naru_peer){-1, -1, -1};
    ch->max_message = opt->max_message;
    ch->short_max = SIZE_MAX;
    ch->limit_mend = "raise it with ?max-message= at both ends";
    ch->keep_on_fork = opt->keep_on_fork;
    ch->interruptible = opt->interruptible;
    list_init(&ch->views);
    fork_guard_init_unowned(&ch->guard);
    ch->url = strdup(url);
    if (!ch->url)
        r = error_set(ENOMEM, "%s: out of memory for a channel", url);
    else if (ch->interruptible)
        r = make_interruptible(ch);
    if (r < 0)
        (void)channel_free(ch);
    else
        *ret_ch = ch;
    return r;
}

void channel_abandon(struct naru_channel *ch)
{
    (void)channel_free(ch);
}

/* It has an owner now: children of this process close it. */
static void guard_descriptors(struct naru_channel *ch)
{
    if (ch->keep_on_fork)
        return;
    fork_guard_add(&ch->guard, &ch->rfd);
    fork_guard_add(&ch->guard, &ch->wfd);
    fork_guard_add(&ch->guard, &ch->poll_fd);
    fork_guard_add(&ch->guard, &ch->fd);
    fork_guard_add(&ch->guard, &ch->peer_pidfd);
    fork_guard_add(&ch->guard, &ch->side_fd);
    fork_guard_add(&ch->guard, &ch->loop_bell);
    fork_guard_add(&ch->guard, &ch->their_loop_bell);
    fork_guard_add(&ch->guard, &ch->their_rfd);
    fork_guard_add(&ch->guard, &ch->their_wfd);
    fork_guard_add(&ch->guard, &ch->ready_fd);
    fork_guard_add(&ch->guard, &ch->interrupt_fd[0]);
    fork_guard_add(&ch->guard, &ch->interrupt_fd[1]);
}

static void own(struct naru_channel *ch)
{
    fork_guard_init(&ch->guard);
    guard_descriptors(ch);
}

int channel_new_owned(const struct channel_ops *ops, const char *url, const struct naru_options *opt,
                      struct naru_channel **ret_ch)
{
    int r;

    fork_hold();
    r = channel_new(ops, url, opt, ret_ch);
    if (r == 0)
        own(*ret_ch);
    fork_release();
    return r;
}

/* No child in between: it could neither use an end that has an owner nor close it. */
static void claim(struct naru_channel *ch)
{
    fork_hold();
    if (fork_guard_claim(&ch->guard)) {
        guard_descriptors(ch);
        if (ch->ops->claim)
            (void)ch->ops->claim(ch, false); /* a pair's end: nothing to be late for */
    }
    fork_release();
}

int channel_enter(struct naru_channel *ch)
{
    if (__builtin_expect(fork_guard_generation(&ch->guard) == 0, 0))
        claim(ch);
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

/* once: it does not connect again. */
static int connect_url(struct url *url, const struct naru_options *opt, int64_t timeout_ns, bool once,
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
    r = channel_options(url, opt, false, &options);
    if (r == 0)
        r = reopen_parse(url, &options);
    if (r == 0 && options.reconnect_ns && !once)
        r = reopen_check(url, ops);
    if (r < 0)
        return r;
    r = channel_new_owned(ops, url->text, &options, &ch);
    if (r < 0)
        return r;
    r = ops->connect(ch, url, &options, deadline_after(timeout_ns));
    if (r < 0) {
        (void)channel_free(ch);
    } else {
        r = url_check_unused(url);
        if (r == 0 && options.reconnect_ns && !once)
            r = reopen_attach(ch, url->text, &options);
        if (r < 0)
            (void)naru_channel_close(ch);
        else
            *ret_ch = ch;
    }
    return r == -ETIMEDOUT && timeout_ns <= 0 ? -EAGAIN : r;
}

static int parse_and_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns, bool once,
                             struct naru_channel **ret_ch)
{
    struct url parsed;
    int r = url_parse(url, &parsed);

    if (r < 0)
        return r;
    r = connect_url(&parsed, opt, timeout_ns, once, ret_ch);
    url_deinit(&parsed);
    return r;
}

int naru_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns,
                 struct naru_channel **ret_ch)
{
    return parse_and_connect(url, opt, timeout_ns, false, ret_ch);
}

int channel_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns,
                    struct naru_channel **ret_ch)
{
    return parse_and_connect(url, opt, timeout_ns, true, ret_ch);
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
    r = channel_options(url, opt, true, &options);
    for (int i = 0; i < 2 && r == 0; i++)
        r = channel_new(ops, url->text, &options, &ends[i]);
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

int channel_take_over(struct naru_channel *ch)
{
    fork_guard_deinit(&ch->guard);
    own(ch);
    return ch->state && ch->ops->claim ? ch->ops->claim(ch, true) : 0;
}

int naru_channel_adopt(struct naru_channel *ch)
{
    int r = 0;

    if (!fork_guard_is_mine(&ch->guard) && !ch->keep_on_fork)
        return error_set(
            EINVAL,
            "%s: another process owns this end; only ends of a pair that nobody used yet, and channels "
            "with options.keep_on_fork, can be adopted",
            ch->url);
    if (!fork_guard_is_mine(&ch->guard)) {
        r = channel_take_over(ch);
        reopen_take_over(ch);
    }
    return r < 0 ? r : channel_enter(ch);
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
    reopen_free(ch);
    meeting_end(ch, mine);
    if (ch->ops->close)
        ch->ops->close(ch, mine);
    return channel_free(ch);
}

void channel_ask_peer(int fd, struct naru_peer *ret_peer, int *ret_pidfd)
{
    struct ucred who;
    socklen_t length = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
        return;
    /* A process of another PID namespace that this one does not see has number 0 here: pid_namespaces(7). */
    *ret_peer = (struct naru_peer){who.pid > 0 ? who.pid : -1, who.uid, who.gid};
    if (who.pid <= 0)
        return;
    fork_hold();
    *ret_pidfd = process_pidfd(who.pid);
    fork_release();
}

void channel_learn_peer(struct naru_channel *ch, int fd)
{
    channel_ask_peer(fd, &ch->peer, &ch->peer_pidfd);
}

int channel_peer_gone(struct naru_channel *ch)
{
    if (process_was_killed(ch->peer_pidfd, (pid_t)ch->peer.pid))
        return error_set(EOWNERDEAD, "%s: process %lld at the other end was killed", ch->url,
                         (long long)ch->peer.pid);
    return error_set(EPIPE, "%s: the other end was closed", ch->url);
}
