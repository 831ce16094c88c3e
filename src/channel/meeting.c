/* SPDX-License-Identifier: MIT */
/* Connecting without waiting: see meeting.h. */
#include "channel/meeting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/reopen.h"

int meeting_watch(struct channel_meeting *m, int epoll)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = m->fd};

    if (m->fd < 0)
        return 0;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, m->fd, &event) < 0)
        return -errno;
    m->epoll = epoll;
    return 0;
}

/* fd: its socket, which may be something else's by now. */
static void unwatch(struct channel_meeting *m, int fd)
{
    if (m->epoll >= 0)
        (void)epoll_ctl(m->epoll, EPOLL_CTL_DEL, fd, NULL);
    m->epoll = -1;
}

/* 0, -ETIMEDOUT, -ECANCELED or explained. */
static int wait_for_answer(struct naru_channel *ch, int direction, int64_t deadline)
{
    const struct channel_meeting *m = ch->meeting;
    int event = direction == CHANNEL_SENDING ? NARU_OUT : NARU_IN;
    int r = channel_wait_fd(ch, event, m->fd, POLLIN, deadline);

    return r == -ETIMEDOUT ? error_set(ETIMEDOUT, "%s", m->why) : r;
}

/* It has been found that there is no answer: r. Returns what the call does. */
static int fail(struct naru_channel *ch, int r)
{
    struct channel_meeting *m = ch->meeting;

    (void)snprintf(m->why, sizeof m->why, "%s", naru_explain());
    m->failed = r;
    unwatch(m, m->fd);
    ch->ops->part(ch, true);
    if (ch->reopen) {
        ch->meeting = NULL;
        free(m);
        return reopen_refused(ch, r);
    }
    channel_update_ready(ch, CHANNEL_RECEIVING);
    return error_set(-r, "%s", m->why);
}

/* It is connected: what follows for a descriptor that polls it. */
static int settle(struct naru_channel *ch)
{
    struct channel_meeting *m = ch->meeting;
    int r;

    ch->meeting = NULL;
    ch->direction = m->direction;
    r = channel_rewatch(ch);
    if (r < 0) { /* the next call tries it again */
        ch->meeting = m;
        ch->direction = NARU_DIRECTION_DEFAULT;
        channel_update_ready(ch, CHANNEL_RECEIVING); /* for which it wakes an event loop */
        return error_set(-r, "%s: the connection cannot be polled: %s", ch->url, error_text(-r));
    }
    free(m);
    if (ch->reopen)
        reopen_met(ch);
    return 0;
}

/* One attempt. 0, -EAGAIN, or what the call returns. */
static int attempt(struct naru_channel *ch)
{
    struct channel_meeting *m = ch->meeting;
    int fd = m->fd, r = ch->ops->meet(ch);

    if (r == -EAGAIN)
        return r;
    if (r < 0)
        return fail(ch, r);
    unwatch(m, fd);
    ch->ops->part(ch, true);
    m->direction = ch->direction;
    return 0;
}

int meeting_go_on(struct naru_channel *ch, int direction, int64_t *timeout_ns)
{
    bool waits = *timeout_ns > 0;
    int64_t deadline = deadline_after(*timeout_ns);
    int r = 0;

    if (ch->meeting->failed)
        return error_set(-ch->meeting->failed, "%s", ch->meeting->why);
    if (!ch->meeting->direction)
        while ((r = attempt(ch)) == -EAGAIN) {
            r = waits ? wait_for_answer(ch, direction, deadline) : error_expected(EAGAIN);
            if (r < 0)
                break;
        }
    if (r == 0)
        r = settle(ch);
    if (r == 0 && waits && *timeout_ns != NARU_FOREVER) {
        *timeout_ns = deadline_left(deadline);
        if (*timeout_ns == 0)
            *timeout_ns = 1; /* it was to wait, and is to say that time is up */
    }
    return r;
}

void meeting_unwatch(struct channel_meeting *m)
{
    unwatch(m, m->fd);
}

/* What children keep may live on there, as in shm_close(); the epoll instance, too, is the same one. */
void meeting_end(struct naru_channel *ch, bool owner)
{
    struct channel_meeting *m = ch->meeting;
    bool alone = owner && !ch->keep_on_fork;

    if (!m)
        return;
    if (alone)
        unwatch(m, m->fd);
    if (!m->failed && !m->direction)
        ch->ops->part(ch, alone);
    ch->meeting = NULL;
    free(m);
}
