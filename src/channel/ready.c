/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a channel: the wait inside a call, its interruption, and the descriptor for event loops.
 *
 * That descriptor is an epoll instance holding the kernel's descriptors and an eventfd that is set while
 * whole messages are held in this process (read ahead, or kept because they did not fit). So it is readable
 * exactly when a call is worth it, and the program polls it for NARU_IN only; when a send has found no room,
 * the interest in room is armed inside. Nesting epoll instances is allowed up to 5 levels (epoll_ctl(2),
 * ELOOP). A mechanism may have rfd shown once for each time that something comes (in_event), if its `holds`
 * takes what is shown.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/probe.h"
#include "channel/channel.h"
#include "channel/meeting.h"
#include "channel/reopen.h"
#include "channel/stream.h"

static int direction_of(int event)
{
    return event == NARU_OUT ? CHANNEL_SENDING : CHANNEL_RECEIVING;
}

/* The eventfd alone says so, as it is what a waiter sleeps on. */
bool channel_take_interruption(struct naru_channel *ch, int direction)
{
    uint64_t count;

    return ch->interruptible && read(ch->interrupt_fd[direction], &count, sizeof count) > 0;
}

static int polled_fd(const struct naru_channel *ch, int event)
{
    if (event == NARU_OUT)
        return ch->wfd;
    return ch->poll_fd >= 0 ? ch->poll_fd : ch->rfd;
}

int channel_wait_fd(struct naru_channel *ch, int event, int fd, int events, int64_t deadline)
{
    int direction = direction_of(event);
    struct pollfd fds[2] = {{.fd = fd, .events = (short)events},
                            {.fd = ch->interrupt_fd[direction], .events = POLLIN}};
    int ready;

    PROBE3(sleep, ch, ch->url, event);
    ready = fd_poll(fds, ch->interruptible ? 2 : 1, deadline);
    PROBE4(wake, ch, ch->url, event, ready);
    if (ready < 0)
        return error_set(-ready, "%s: poll: %s", ch->url, error_text(-ready));
    if (fds[1].revents && channel_take_interruption(ch, direction))
        return error_expected(ECANCELED);
    return ready ? 0 : error_expected(ETIMEDOUT);
}

int channel_wait_poll(struct naru_channel *ch, int event, int64_t deadline)
{
    if (event == NARU_OUT && ch->congested)
        return channel_wait_backoff(ch, event, deadline);
    return channel_wait_fd(ch, event, polled_fd(ch, event), event == NARU_OUT ? ch->room_event : POLLIN,
                           deadline);
}

int channel_wait_backoff(struct naru_channel *ch, int event, int64_t deadline)
{
    int direction = direction_of(event);
    struct pollfd interrupt = {.fd = ch->interrupt_fd[direction], .events = POLLIN};
    int ready;

    if (channel_take_interruption(ch, direction))
        return error_expected(ECANCELED);
    if (deadline_left(deadline) == 0)
        return error_expected(ETIMEDOUT);
    PROBE3(sleep, ch, ch->url, event);
    ready = fd_poll(&interrupt, ch->interruptible ? 1 : 0, backoff_until(&ch->backoff[direction], deadline));
    PROBE4(wake, ch, ch->url, event, ready);
    return channel_take_interruption(ch, direction) ? error_expected(ECANCELED) : 0;
}

int channel_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    return ch->ops->wait ? ch->ops->wait(ch, event, deadline) : channel_wait_poll(ch, event, deadline);
}

int naru_interrupt(struct naru_channel *ch)
{
    static const uint64_t one = 1;
    int saved = errno;

    if (!ch->interruptible)
        return -ENOTSUP;
    if (ch->interrupt_fd[0] <
        0) /* the guard took them: this is a child; fork_generation() is not for signal handlers */
        return -ECHILD;
    for (int direction = 0; direction < 2; direction++)
        if (write(ch->interrupt_fd[direction], &one, sizeof one) < 0)
            continue; /* EAGAIN: the counter is full, so it is readable already */
    errno = saved;
    return 0;
}

/* Adds fd to the channel's epoll. 0 or -errno. */
static int watch(struct naru_channel *ch, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};

    return epoll_ctl(ch->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static uint32_t wanted(const struct naru_channel *ch, int fd)
{
    uint32_t events = 0;

    if (fd == polled_fd(ch, NARU_IN) && (ch->direction & NARU_DIRECTION_RECEIVE))
        events |= ch->in_event;
    if (fd == ch->wfd && ch->armed)
        events |= (uint32_t)ch->room_event; /* epoll's events have poll's values: epoll_ctl(2) */
    if (fd == ch->wfd && ch->room)
        events |= EPOLLOUT; /* what wakes is a socket that next to nothing is written to: always so */
    return events;
}

/* An end that only sends shows by its fd that the receiver is gone. */
static int watch_sender(struct naru_channel *ch)
{
    int r = watch(ch, ch->wfd, 0);

    return r == -EPERM ? 0 : r; /* a regular file: it always has room and never hangs up */
}

/* Only where `holds` takes what it shows. */
static bool hears_loop_bell(const struct naru_channel *ch)
{
    return ch->loop_bell >= 0 && (ch->direction & NARU_DIRECTION_RECEIVE);
}

static int watch_connection(struct naru_channel *ch)
{
    int in = polled_fd(ch, NARU_IN), r = 0;

    if (ch->meeting)
        return meeting_watch(ch->meeting, ch->fd);
    if (in >= 0)
        r = watch(ch, in, wanted(ch, in));
    else if (ch->wfd >= 0)
        r = watch_sender(ch);
    return r == 0 && hears_loop_bell(ch) ? watch(ch, ch->loop_bell, EPOLLOUT | EPOLLET) : r;
}

void channel_unwatch(struct naru_channel *ch)
{
    int in = polled_fd(ch, NARU_IN);

    if (ch->fd < 0)
        return;
    if (in >= 0)
        (void)epoll_ctl(ch->fd, EPOLL_CTL_DEL, in, NULL);
    if (ch->loop_bell >= 0)
        (void)epoll_ctl(ch->fd, EPOLL_CTL_DEL, ch->loop_bell, NULL); /* -ENOENT: nothing was received */
    if (ch->wfd >= 0 && ch->wfd != in)
        (void)epoll_ctl(ch->fd, EPOLL_CTL_DEL, ch->wfd, NULL); /* -ENOENT: room is not waited for */
    ch->armed = ch->room = false;
}

/* 0 or -errno. *ret_our_own, also of a failure: that it failed before anything of the channel's was looked
 * at. */
static int open_epoll(struct naru_channel *ch, bool *ret_our_own)
{
    int r = 0;

    ch->fd = epoll_create1(EPOLL_CLOEXEC);
    ch->ready_fd = ch->fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ch->ready_fd < 0)
        r = -errno;
    if (r == 0)
        r = watch(ch, ch->ready_fd, EPOLLIN);
    *ret_our_own = r < 0;
    if (r == 0)
        r = watch_connection(ch);
    if (r == 0)
        r = reopen_watch(ch);
    if (r < 0) {
        if (ch->meeting)
            ch->meeting->epoll = -1;
        ch->fd = fd_close(ch->fd);
        ch->ready_fd = fd_close(ch->ready_fd);
    }
    return r;
}

static int make_fd(struct naru_channel *ch)
{
    bool our_own = false;
    int r;

    fork_hold();
    r = open_epoll(ch, &our_own);
    fork_release();
    if (r == 0)
        return 0;
    if (our_own && (r == -EPERM || r == -ENOSYS))
        return error_set(-r,
                         "%s: cannot make a descriptor to poll: a sandbox (seccomp) forbids epoll_create1, "
                         "eventfd2 or epoll_ctl: allow them, or receive with a timeout",
                         ch->url);
    if (r == -EPERM)
        return error_set(ENOTSUP, "%s: the kernel cannot poll this kind of file (epoll_ctl(2), EPERM)",
                         ch->url);
    return error_set(-r, "%s: cannot make a descriptor to poll: %s", ch->url, error_text(-r));
}

/* After a receive: shows whether something is held here. */
static void update_held(struct naru_channel *ch)
{
    bool ready = ch->meeting ? meeting_is_found(ch->meeting)
                 : ch->direction & NARU_DIRECTION_RECEIVE
                     ? ch->kept.full || (ch->stream && stream_holds_message(ch)) ||
                           (ch->ops->holds && ch->ops->holds(ch))
                     : reopen_undrained(ch) != NULL;

    if (ready == ch->ready)
        return;
    fd_set_event(ch->ready_fd, ready);
    ch->ready = ready;
}

/* After a send: waits for room only while there is something to send. A descriptor for writing alone is taken
 * out meanwhile, because its hang-up would be shown unasked (epoll_ctl(2), EPOLLHUP), though there may be
 * much to receive yet by the other one. */
static void update_armed(struct naru_channel *ch)
{
    bool armed = ch->refused || (ch->stream && stream_has_rest(ch->stream));
    int in = polled_fd(ch, NARU_IN);
    bool room = armed && ch->ops->has_room && ch->ops->has_room(ch);
    bool stays = ch->wfd == in || in < 0 || armed == ch->armed;
    int operation = stays ? EPOLL_CTL_MOD : armed ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
    struct epoll_event event = {.data.fd = ch->wfd};

    ch->unwatched = 0;
    if (armed == ch->armed && room == ch->room)
        return;
    ch->armed = armed;
    ch->room = room;
    event.events = wanted(ch, ch->wfd);
    /* EPERM: a regular file, which always has room. Otherwise it is an addition, for which there is no memory
     * (ENOMEM), or which would be one too many of this user's (ENOSPC): tried again by the next call. */
    if (epoll_ctl(ch->fd, operation, ch->wfd, &event) == 0 || errno == EPERM || operation != EPOLL_CTL_ADD)
        return;
    ch->unwatched = errno;
    ch->armed = ch->room = false;
}

int channel_say_unwatched(struct naru_channel *ch, int r)
{
    if (!ch->unwatched || (r != -EAGAIN && r != -ETIMEDOUT))
        return r;
    return error_set(
        ch->unwatched,
        "%s: there is no room, and the descriptor of naru_channel_fd() cannot show when there is: "
        "epoll_ctl: %s (/proc/sys/fs/epoll/max_user_watches); send with a timeout, or again later",
        ch->url, error_text(ch->unwatched));
}

/* What the short way leaves out has nothing to do: neither before the message nor after it. */
static size_t find_short_way(const struct naru_channel *ch, int direction)
{
    bool sending = direction == CHANNEL_SENDING;
    size_t longest = ch->max_message < ch->short_max ? ch->max_message : ch->short_max;

    if (ch->interruptible || ch->fd >= 0 || fork_guard_generation(&ch->guard) == 0)
        return 0;
    if (sending)
        return (ch->direction & NARU_DIRECTION_SEND) && ch->ops->send_bytes && !ch->finished && !ch->lent &&
                       !ch->refused
                   ? longest
                   : 0;
    return (ch->direction & NARU_DIRECTION_RECEIVE) && ch->ops->recv_bytes && !ch->kept.full ? SIZE_MAX : 0;
}

void channel_update_ready(struct naru_channel *ch, int direction)
{
    ch->short_way[direction] = find_short_way(ch, direction);
    if (direction == CHANNEL_SENDING)
        ch->short_way_then = ch->short_way[CHANNEL_SENDING];
    if (ch->fd < 0)
        return;
    if (direction == CHANNEL_SENDING && ch->wfd >= 0 && !ch->meeting)
        update_armed(ch);
    if (direction == CHANNEL_RECEIVING &&
        ((ch->direction & NARU_DIRECTION_RECEIVE) || ch->reopen || ch->meeting))
        update_held(ch);
}

int channel_rewatch(struct naru_channel *ch)
{
    int r;

    if (ch->fd < 0)
        return 0;
    channel_unwatch(ch);
    r = watch_connection(ch);
    channel_update_ready(ch, CHANNEL_RECEIVING);
    channel_update_ready(ch, CHANNEL_SENDING);
    return r;
}

int naru_channel_fd(struct naru_channel *ch)
{
    int r = channel_enter(ch);

    if (r < 0)
        return r;
    if (!(ch->ops->row.capabilities & NARU_CAN_POLL))
        return error_set(ENOTSUP, "%s: %s has no descriptor to poll; receive with a timeout instead", ch->url,
                         ch->ops->row.name);
    if (ch->fd < 0) {
        r = make_fd(ch);
        if (r < 0)
            return r;
        channel_update_ready(ch, CHANNEL_RECEIVING);
        channel_update_ready(ch, CHANNEL_SENDING);
    }
    return ch->fd;
}

int naru_channel_want(struct naru_channel *ch)
{
    (void)ch; /* the interest in room is inside the epoll: the program always polls for NARU_IN */
    return NARU_IN;
}
