/* SPDX-License-Identifier: MIT */
/*
 * Who there is, and what the kernel tells of them: one epoll(7) of all peers, of the listeners, of two
 * eventfds, and, in an event loop, of a timer. Peers are watched for edges (EPOLLET): one that is active,
 * whose descriptor is readable all the time, is not reported again and again, and to make it idle costs no
 * epoll_ctl(2).
 */
#include "channel/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

enum {
    EVENTS = 64, /* of one epoll_wait(2) */
    ACCEPTS = 64 /* of one listener in a row: the peers who are there already have their turn, too */
};

static const int64_t ask_every = NARU_US(100);
static const int64_t retry_after = NARU_MS(100);
static const int64_t look_at_names_every = NARU_S(1);

/* --- peers --- */

void gather_peer_activate(struct naru_gather *g, struct gather_peer *p)
{
    p->looks = 0;
    if (p->active)
        return;
    p->active = true;
    list_append(&g->active, &p->turn);
    g->active_count++;
}

void gather_peer_rest(struct naru_gather *g, struct gather_peer *p)
{
    if (!p->active)
        return;
    p->active = false;
    list_remove(&p->turn);
    g->active_count--;
}

static int watch_peer(struct naru_gather *g, struct gather_peer *p)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = p};

    p->fd = p->ch->poll_fd >= 0 ? p->ch->poll_fd : p->ch->rfd;
    if (epoll_ctl(g->fd, EPOLL_CTL_ADD, p->fd, &event) == 0)
        return 0;
    if (errno == EPERM)
        return error_set(ENOTSUP, "%s: the kernel cannot poll this kind of file (epoll_ctl(2), EPERM)",
                         p->ch->url);
    return error_set(errno, "%s: cannot be waited for: epoll_ctl: %s", p->ch->url, error_text(errno));
}

int gather_peer_add(struct naru_gather *g, struct naru_channel *ch, uint64_t *ret_number)
{
    struct gather_peer *p = calloc(1, sizeof *p);
    int r;

    if (!p)
        return error_set(ENOMEM, "%s: out of memory for a peer", ch->url);
    *p = (struct gather_peer){.kind = GATHER_PEER, .ch = ch};
    list_init(&p->node);
    list_init(&p->turn);
    r = watch_peer(g, p);
    if (r < 0) {
        free(p);
        return r;
    }
    ch->gathered = true;
    p->number = ++g->last_number;
    p->tries = true;
    list_append(&g->peers, &p->node);
    g->count++;
    gather_peer_activate(g, p);
    if (ret_number)
        *ret_number = p->number;
    return 0;
}

void gather_peer_remove(struct naru_gather *g, struct gather_peer *p)
{
    gather_peer_rest(g, p);
    if (g->cursor == p)
        g->cursor = NULL;
    list_remove(&p->node);
    g->count--;
    if (g->fd >= 0) /* not in a forked child, whose epoll is the parent's */
        (void)epoll_ctl(g->fd, EPOLL_CTL_DEL, p->fd, NULL);
}

void gather_peer_free(struct gather_peer *p)
{
    (void)naru_channel_close(p->ch);
    free(p);
}

/* --- listeners --- */

static void poll_listener(struct naru_gather *g, struct gather_listener *l, bool polled)
{
    struct epoll_event event = {.events = polled ? EPOLLIN : 0, .data.ptr = l};

    /* MOD of what is there allocates nothing: epoll_ctl(2) names no error that can come of it. */
    if (epoll_ctl(g->fd, EPOLL_CTL_MOD, naru_listener_fd(l->l), &event) == 0)
        l->paused = !polled;
}

void gather_resume(struct naru_gather *g)
{
    struct list *node;

    list_for_each(node, &g->listeners)
    {
        struct gather_listener *l = list_entry(node, struct gather_listener, node);

        if (l->paused)
            poll_listener(g, l, true);
    }
}

void gather_set_timer(struct naru_gather *g)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    int64_t at = NARU_FOREVER;
    struct list *node;

    list_for_each(node, &g->listeners)
    {
        const struct gather_listener *l = list_entry(node, struct gather_listener, node);

        if (l->retry_at > 0 && l->retry_at < at)
            at = l->retry_at;
    }
    if (g->timer_fd < 0 || at == g->timer_at)
        return;
    if (at != NARU_FOREVER) {
        when.it_value.tv_sec = (time_t)(at / NARU_S(1));
        when.it_value.tv_nsec = (long)(at % NARU_S(1));
    }
    (void)timerfd_settime(g->timer_fd, TFD_TIMER_ABSTIME, &when, NULL); /* cannot fail: both are valid */
    g->timer_at = at;
}

/* 0: it is not to be tried again but when it is ready, or when somebody has gone. */
static void retry(struct naru_gather *g, struct gather_listener *l, int64_t at)
{
    if (l->retry_at == at)
        return;
    l->retry_at = at;
    gather_set_timer(g);
}

void gather_listener_close(struct naru_gather *g, struct gather_listener *l)
{
    list_remove(&l->node);
    retry(g, l, 0);
    (void)naru_listener_close(l->l);
    free(l);
}

int gather_listener_finish(struct naru_gather *g, struct gather_listener *l)
{
    int (*stop)(struct naru_listener *) = l->l->ops->stop;
    int told, r = 0;

    (void)epoll_ctl(g->fd, EPOLL_CTL_DEL, naru_listener_fd(l->l), NULL);
    fork_hold(); /* it does not wait */
    told = stop ? stop(l->l) : 0;
    fork_release();
    while (r == 0) {
        struct naru_channel *ch;

        r = naru_accept(l->l, NARU_NOWAIT, &ch);
        if (r == 0 && (r = gather_peer_add(g, ch, NULL)) < 0)
            (void)naru_channel_close(ch);
    }
    gather_listener_close(g, l);
    if (r == -EAGAIN || r == -ENOENT || (r == -EINVAL && stop)) /* -ENOENT: its name was removed before */
        r = told;
    return r;
}

/* An accept has failed for good or for now. What the caller is to be told: 0 if that was done before. */
static int accept_failed(struct naru_gather *g, struct gather_listener *l, int r)
{
    bool told = l->told;

    if (r == -ENOENT) {
        (void)epoll_ctl(g->fd, EPOLL_CTL_DEL, naru_listener_fd(l->l), NULL);
        gather_listener_close(g, l);
        return r;
    }
    poll_listener(g, l, false);
    retry(g, l, clock_now() + retry_after);
    l->told = true;
    return told ? 0 : r;
}

/* 0, or what is to be told, explained. May free l. */
static int accept_peers(struct naru_gather *g, struct gather_listener *l)
{
    retry(g, l, 0);
    for (int i = 0; i < ACCEPTS; i++) {
        struct naru_channel *ch;
        int r;

        if (g->count >= g->limit) {
            poll_listener(g, l, false);
            return 0;
        }
        r = naru_accept(l->l, NARU_NOWAIT, &ch);
        if (r == -EAGAIN)
            return 0;
        if (r == 0 && (r = gather_peer_add(g, ch, NULL)) < 0)
            (void)naru_channel_close(ch);
        if (r < 0)
            return accept_failed(g, l, r);
        l->told = false;
    }
    return 0;
}

/* Those whose pause is over, and, now and then, those whose name may have been removed: nothing announces
 * that (listener.c). 0, or what is to be told. */
static int mind_listeners(struct naru_gather *g)
{
    struct list *node = g->listeners.next;
    int64_t now;
    bool names;
    int r = 0;

    if (list_is_empty(&g->listeners))
        return 0;
    now = clock_now();
    names = now >= g->look_at_names_at;
    if (names)
        g->look_at_names_at = now + look_at_names_every;
    while (r == 0 && node != &g->listeners) {
        struct gather_listener *l = list_entry(node, struct gather_listener, node);
        bool due = l->retry_at > 0 && now >= l->retry_at;

        node = node->next;
        if (due)
            poll_listener(g, l, true);
        if (due || (names && !l->paused && l->l->name_fd >= 0))
            r = accept_peers(g, l);
    }
    return r;
}

/* How long a wait may be before mind_listeners() has something to do. */
static int64_t until_listeners(const struct naru_gather *g, int64_t deadline)
{
    struct list *node;

    list_for_each(node, &g->listeners)
    {
        const struct gather_listener *l = list_entry(node, struct gather_listener, node);

        if (l->retry_at > 0 && l->retry_at < deadline)
            deadline = l->retry_at;
        if (l->l->name_fd >= 0 && g->look_at_names_at < deadline)
            deadline = g->look_at_names_at;
    }
    return deadline;
}

/* --- the kernel's word --- */

static bool take_interruption(const struct naru_gather *g)
{
    uint64_t value;

    return read(g->interrupt_fd, &value, sizeof value) > 0;
}

/* What one event says. 0, or what is to be told. */
static int take_event(struct naru_gather *g, const struct epoll_event *event)
{
    switch (*(const enum gather_kind *)event->data.ptr) {
    case GATHER_PEER:
        gather_peer_activate(g, event->data.ptr);
        ((struct gather_peer *)event->data.ptr)->tries = true;
        return 0;
    case GATHER_LISTENER:
        return accept_peers(g, event->data.ptr);
    case GATHER_INTERRUPT:
        return take_interruption(g) ? error_expected(ECANCELED) : 0;
    case GATHER_READY:
    case GATHER_TIMER: /* the next mind_listeners() finds who is due */
        break;
    }
    return 0;
}

/* All that is there: an edge that was taken is gone, whatever else went wrong. The first that is to be told
 * is; a listener that was not asked for that reason is reported again, and an interruption, too. */
static int take_events(struct naru_gather *g)
{
    struct epoll_event events[EVENTS];
    int r = 0, n;

    do
        n = epoll_wait(g->fd, events, EVENTS, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set(errno, "epoll_wait: %s", error_text(errno));
    for (int i = 0; i < n; i++)
        if (r == 0 || *(const enum gather_kind *)events[i].data.ptr == GATHER_PEER) {
            int one = take_event(g, &events[i]);

            r = r < 0 ? r : one;
        }
    return r;
}

void gather_set_ready(struct naru_gather *g, bool ready)
{
    if (ready == g->ready)
        return;
    fd_set_event(g->ready_fd, ready);
    g->ready = ready;
}

int gather_ask(struct naru_gather *g, int64_t deadline)
{
    struct pollfd all = {.fd = g->fd, .events = POLLIN};
    bool waits = deadline_left(deadline) > 0;
    int64_t until;
    int r = mind_listeners(g);

    if (r < 0)
        return r;
    if (waits) /* what the last call showed in the very descriptor that this one sleeps on */
        gather_set_ready(g, false);
    until = until_listeners(g, deadline);
    r = waits ? fd_poll(&all, 1, until) : 1;
    if (r < 0)
        return error_set(-r, "poll: %s", error_text(-r));
    if (r == 0)
        return until < deadline ? 0 : error_expected(ETIMEDOUT);
    return take_events(g);
}

int gather_ask_sometimes(struct naru_gather *g)
{
    int64_t now;

    if (++g->ticks % GATHER_TICKS != 0)
        return 0;
    now = clock_now();
    if (now < g->ask_at)
        return 0;
    g->ask_at = now + ask_every;
    return gather_ask(g, NARU_NOWAIT);
}
