/* SPDX-License-Identifier: MIT */
/*
 * Receiving from many: whose turn it is. Peers that may have something are `active` and take turns, a message
 * each; the others are idle, and one descriptor tells of all of them (gather-peers.c).
 *
 * A look at an active peer of shm: costs two loads from memory that stays in the cache until its sender
 * stores there. So the rule of the single channel holds here, too: look for a while, then sleep. What one
 * channel looks for a message (ch->looks) is shared among the active: all together spend some 50 us in vain,
 * and then rest. Where only the kernel knows, an attempt that finds nothing is enough.
 */
#include "channel/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/sized.h"

enum { PEERS_DEFAULT = 4096 };

/* --- beginning and end --- */

static int watch(const struct naru_gather *g, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    return epoll_ctl(g->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct naru_gather *g)
{
    int r;

    g->fd = epoll_create1(EPOLL_CLOEXEC);
    g->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = g->fd < 0 || g->interrupt_fd < 0 || g->ready_fd < 0 ? -errno : 0;
    if (r == 0)
        r = watch(g, g->interrupt_fd, &g->interrupt_kind);
    if (r == 0)
        r = watch(g, g->ready_fd, &g->ready_kind);
    return r;
}

int naru_gather_new(struct naru_gather **ret_g)
{
    struct naru_gather *g = calloc(1, sizeof *g);
    int r;

    if (!g)
        return error_set(ENOMEM, "out of memory to gather");
    list_init(&g->peers);
    list_init(&g->active);
    list_init(&g->listeners);
    g->limit = PEERS_DEFAULT;
    g->fd = g->interrupt_fd = g->ready_fd = g->timer_fd = -1;
    g->timer_at = NARU_FOREVER;
    g->interrupt_kind = GATHER_INTERRUPT;
    g->ready_kind = GATHER_READY;
    g->timer_kind = GATHER_TIMER;
    fork_hold();
    fork_guard_init(&g->guard);
    fork_guard_add(&g->guard, &g->fd);
    fork_guard_add(&g->guard, &g->interrupt_fd);
    fork_guard_add(&g->guard, &g->ready_fd);
    fork_guard_add(&g->guard, &g->timer_fd);
    r = open_descriptors(g);
    fork_release();
    if (r < 0) {
        (void)naru_gather_close(g);
        return error_set(-r, "no descriptor to gather by: %s", error_text(-r));
    }
    *ret_g = g;
    return 0;
}

static void close_leaving(struct naru_gather *g)
{
    if (g->leaving)
        gather_peer_free(g->leaving);
    g->leaving = NULL;
}

struct naru_gather *naru_gather_close(struct naru_gather *g)
{
    if (!g)
        return NULL;
    close_leaving(g);
    while (!list_is_empty(&g->peers)) {
        struct gather_peer *p = list_entry(g->peers.next, struct gather_peer, node);

        gather_peer_remove(g, p);
        gather_peer_free(p);
    }
    while (!list_is_empty(&g->listeners))
        gather_listener_close(g, list_entry(g->listeners.next, struct gather_listener, node));
    fork_guard_close(&g->guard);
    free(g);
    return NULL;
}

/* --- who is received from --- */

static int cannot_gather(const char *url, const char *name, bool many)
{
    return error_set(ENOTSUP,
                     many ? "%s: %s has no descriptor to poll; receive with naru_recv()"
                          : "%s: %s has no connections: its one channel receives from everybody; "
                            "naru_accept() it and receive from that",
                     url, name);
}

static int add_listener(struct naru_gather *g, struct naru_listener *l)
{
    const struct naru_mechanism *row = &l->ops->row;
    struct gather_listener *listener;
    int r;

    if (!(row->capabilities & NARU_CAN_ACCEPT_MANY) || !(row->capabilities & NARU_CAN_POLL) || l->fd < 0)
        return cannot_gather(l->url, row->name, row->capabilities & NARU_CAN_ACCEPT_MANY);
    listener = calloc(1, sizeof *listener);
    if (!listener)
        return error_set(ENOMEM, "%s: out of memory for a listener", l->url);
    *listener = (struct gather_listener){.kind = GATHER_LISTENER, .l = l};
    r = watch(g, l->fd, listener);
    if (r < 0) {
        free(listener);
        return error_set(-r, "%s: cannot be waited for: epoll_ctl: %s", l->url, error_text(-r));
    }
    list_append(&g->listeners, &listener->node);
    return 0;
}

int naru_gather_listen(struct naru_gather *g, const char *url, const struct naru_options *opt,
                       const char **ret_url)
{
    struct naru_listener *l;
    int r = fork_guard_enter(&g->guard);

    if (r == 0)
        r = naru_listen(url, opt, &l);
    if (r < 0)
        return r;
    r = add_listener(g, l);
    if (r < 0)
        (void)naru_listener_close(l);
    else if (ret_url)
        *ret_url = naru_listener_url(l);
    return r;
}

int naru_gather_add(struct naru_gather *g, struct naru_channel *ch, uint64_t *ret_number)
{
    int64_t at_once = NARU_NOWAIT;
    int r = fork_guard_enter(&g->guard);

    if (r == 0 && ch->reopen)
        r = error_set(EINVAL, "%s: a gather lets a peer go that has left; leave out ?reconnect=", ch->url);
    if (r == 0)
        r = channel_begin_receiving(ch, &at_once);
    if (r < 0)
        return r;
    if (!(ch->ops->row.capabilities & NARU_CAN_POLL))
        return cannot_gather(ch->url, ch->ops->row.name, true);
    return gather_peer_add(g, ch, ret_number);
}

int naru_gather_limit(struct naru_gather *g, size_t max)
{
    int r = fork_guard_enter(&g->guard);

    if (r < 0)
        return r;
    if (max == 0)
        return error_set(EINVAL, "a gather of at most 0 peers receives nothing");
    g->limit = max;
    gather_resume(g); /* who is still too many is found at the next accept */
    return 0;
}

size_t naru_gather_peers(const struct naru_gather *g)
{
    return g->count;
}

static struct gather_peer *find_peer(const struct naru_gather *g, uint64_t least)
{
    struct list *node;

    list_for_each(node, &g->peers)
    {
        struct gather_peer *p = list_entry(node, struct gather_peer, node);

        if (p->number >= least)
            return p;
    }
    return NULL;
}

static void say_from(struct naru_gather_from *from, const struct gather_peer *p, int left)
{
    if (!from)
        return;
    from->number = p ? p->number : 0;
    from->channel = p ? p->ch : NULL;
    from->left = left;
}

int naru_gather_next(struct naru_gather *g, struct naru_gather_from *from)
{
    struct gather_peer *p;

    if (g->cursor && g->cursor->number == from->number)
        p = g->cursor->node.next == &g->peers ? NULL
                                              : list_entry(g->cursor->node.next, struct gather_peer, node);
    else
        p = find_peer(g, from->number + 1);
    g->cursor = p;
    say_from(from, p, 0);
    return p != NULL;
}

int naru_gather_drop(struct naru_gather *g, uint64_t number)
{
    struct gather_peer *p;
    int r = fork_guard_enter(&g->guard);

    if (r < 0)
        return r;
    p = find_peer(g, number);
    if (!p || p->number != number)
        return error_set(ENOENT, "there is no peer number %llu", (unsigned long long)number);
    gather_peer_remove(g, p);
    gather_peer_free(p);
    gather_resume(g);
    return 0;
}

/* --- turns --- */

/* How a message is taken. seen: a look has found that an attempt is worth it. As naru_recv(). */
struct taking {
    ssize_t (*take)(struct naru_channel *ch, const struct taking *t, bool seen);
    void *buf;
    size_t capacity;
    struct naru_message *message;
    struct naru_view *view;
};

/* The short way, if a look has seen a message: then it does not sleep. */
static ssize_t take_bytes(struct naru_channel *ch, const struct taking *t, bool seen)
{
    if (seen && t->capacity - 1 < ch->short_way[CHANNEL_RECEIVING] && fork_guard_is_still_owner(&ch->guard))
        return ch->ops->recv_bytes(ch, t->buf, t->capacity, NARU_NOWAIT);
    return naru_recv(ch, t->buf, t->capacity, NARU_NOWAIT);
}

static ssize_t take_message(struct naru_channel *ch, const struct taking *t, bool seen)
{
    (void)seen;
    return naru_recv_message(ch, t->message, NARU_NOWAIT);
}

static ssize_t take_view(struct naru_channel *ch, const struct taking *t, bool seen)
{
    (void)seen;
    return naru_borrow(ch, NARU_NOWAIT, t->view);
}

/* What a receive says that is not the peer's end. */
static bool goes_on(ssize_t r)
{
    return r >= 0 || r == -EMSGSIZE || r == -EBADMSG || r == -ENOMEM || r == -EBUSY || r == -ECANCELED ||
           r == -ECONNREFUSED || r == -EINVAL || r == -EMFILE;
}

/* Nothing is there, and the kernel is to tell when there is. Whether it came meanwhile: then p stays active.
 */
static bool lay_down(struct naru_gather *g, struct gather_peer *p)
{
    p->looks = 0;
    if (p->ch->ops->holds && p->ch->ops->holds(p->ch))
        return false;
    gather_peer_rest(g, p);
    return true;
}

static void to_the_end(struct naru_gather *g, struct gather_peer *p)
{
    if (g->active_count > 1) {
        list_remove(&p->turn);
        list_append(&g->active, &p->turn);
    }
}

/* How often a look may find nothing before the peer rests. */
static int patience(const struct naru_gather *g, const struct naru_channel *ch)
{
    return g->asked || !ch->ops->look ? 0 : ch->looks / (int)g->active_count;
}

/* One peer's turn. -EAGAIN: it has nothing. */
static ssize_t turn(struct naru_gather *g, struct gather_peer *p, const struct taking *t)
{
    bool seen = p->ch->ops->look && p->ch->ops->look(p->ch);
    ssize_t r = -EAGAIN;

    if (seen || p->tries || !p->ch->ops->look || p->ch->kept.full)
        r = t->take(p->ch, t, seen);
    p->tries = r == -EMSGSIZE;
    if (r != -EAGAIN) {
        p->looks = 0;
        to_the_end(g, p);
    } else if (++p->looks <= patience(g, p->ch)) {
        to_the_end(g, p);
    } else if (p->ch->looks == CHANNEL_LOOKS_FOR_EVER && !g->asked) {
        p->tries = true; /* it never rests; but its end is seen by an attempt alone */
        p->looks = 0;
        to_the_end(g, p);
    } else if (!lay_down(g, p)) {
        to_the_end(g, p);
    }
    return r;
}

/* p is told of. */
static ssize_t told(struct naru_gather *g, struct gather_peer *p, ssize_t r, struct naru_gather_from *from)
{
    bool left = !goes_on(r);

    if (left) {
        gather_peer_remove(g, p);
        g->leaving = p;
        gather_resume(g);
    }
    say_from(from, p, left ? (int)r : 0);
    return r;
}

/* Everybody's turn, once. -EAGAIN: nobody has anything. */
static ssize_t turns(struct naru_gather *g, const struct taking *t, struct naru_gather_from *from)
{
    for (size_t n = g->active_count; n > 0 && g->active_count > 0; n--) {
        struct gather_peer *p = list_entry(g->active.next, struct gather_peer, turn);
        ssize_t r = turn(g, p, t);

        if (r != -EAGAIN)
            return told(g, p, r, from);
    }
    return -EAGAIN;
}

/* At the end of a call: the descriptor of naru_gather_fd() shows what is known here and not in the kernel. */
static void show_ready(struct naru_gather *g)
{
    if (g->asked)
        gather_set_ready(g, g->active_count > 0);
}

/* Nobody has anything: waits until somebody may. 0, or what the call returns. *ret_late: and it has waited
 * long enough, whoever has rung meanwhile, as one may do all the time who sends nothing. */
static int wait_for_somebody(struct naru_gather *g, int64_t timeout_ns, int64_t *deadline, bool *ret_late)
{
    int r;

    if (g->count == 0 && list_is_empty(&g->listeners))
        return error_set(ENOTCONN,
                         "there is no peer to receive from, and no listener that one could come by");
    if (timeout_ns <= 0) {
        *ret_late = true;
        r = gather_ask(g, NARU_NOWAIT);
        return r < 0 ? r : g->active_count > 0 ? 0 : error_expected(EAGAIN);
    }
    if (*deadline == 0)
        *deadline = deadline_after(timeout_ns);
    if (g->active_count == 0) {
        *ret_late = deadline_left(*deadline) == 0;
        r = gather_ask(g, *deadline);
        if (g->active_count > 0)
            return r;
    } else {
        r = gather_ask_sometimes(g);
        if (g->ticks % GATHER_TICKS != 0)
            return r;
    }
    return r == 0 && deadline_left(*deadline) == 0 ? error_expected(ETIMEDOUT) : r;
}

static ssize_t receive(struct naru_gather *g, const struct taking *t, int64_t timeout_ns,
                       struct naru_gather_from *from)
{
    int64_t deadline = 0;
    bool late = false;
    ssize_t r = fork_guard_enter(&g->guard);

    if (from && SIZED_CHECK("naru_gather", "from", naru_gather_from, from) < 0)
        return -EINVAL;
    say_from(from, NULL, 0);
    if (r < 0)
        return r;
    close_leaving(g);
    r = gather_ask_sometimes(g);
    while (r == 0) {
        r = turns(g, t, from);
        if (r != -EAGAIN)
            break;
        r = late ? error_expected(timeout_ns <= 0 ? EAGAIN : ETIMEDOUT)
                 : wait_for_somebody(g, timeout_ns, &deadline, &late);
    }
    show_ready(g);
    return r;
}

ssize_t naru_gather_recv(struct naru_gather *g, void *buf, size_t cap, int64_t timeout_ns,
                         struct naru_gather_from *from)
{
    const struct taking t = {.take = take_bytes, .buf = buf, .capacity = cap};

    return receive(g, &t, timeout_ns, from);
}

int naru_gather_recv_message(struct naru_gather *g, struct naru_message *ret_m, int64_t timeout_ns,
                             struct naru_gather_from *from)
{
    const struct taking t = {.take = take_message, .message = ret_m};

    return (int)receive(g, &t, timeout_ns, from);
}

int naru_gather_borrow(struct naru_gather *g, int64_t timeout_ns, struct naru_view *ret_view,
                       struct naru_gather_from *from)
{
    const struct taking t = {.take = take_view, .view = ret_view};

    return (int)receive(g, &t, timeout_ns, from);
}

ssize_t naru_gather_wait_peers(struct naru_gather *g, size_t n, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    int r = fork_guard_enter(&g->guard);

    if (r < 0)
        return r;
    close_leaving(g);
    if (n > g->limit)
        return error_set(EINVAL, "%zu peers are more than naru_gather_limit() allows, %zu", n, g->limit);
    r = gather_ask(g, NARU_NOWAIT);
    while (r == 0 && g->count < n) {
        if (list_is_empty(&g->listeners))
            r = error_set(ENOTCONN, "there is no listener that %zu peers could come by", n);
        else if (deadline_left(deadline) == 0)
            r = error_expected(timeout_ns <= 0 ? EAGAIN : ETIMEDOUT);
        else
            r = gather_ask(g, deadline);
    }
    show_ready(g);
    return r < 0 ? r : (ssize_t)g->count;
}

ssize_t naru_gather_finish(struct naru_gather *g)
{
    int r = fork_guard_enter(&g->guard);

    if (r < 0)
        return r;
    close_leaving(g);
    while (!list_is_empty(&g->listeners)) {
        int one = gather_listener_finish(g, list_entry(g->listeners.next, struct gather_listener, node));

        r = r < 0 ? r : one;
    }
    show_ready(g);
    return r < 0 ? r : (ssize_t)g->count;
}

/* What ends a pause of a listener is a call (mind_listeners()), and in an event loop nothing else brings that
 * about. It is made before there can be a lack of descriptors. */
static int make_timer(struct naru_gather *g)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int r = fd < 0 ? -errno : watch(g, fd, &g->timer_kind);

    if (r < 0)
        (void)fd_close(fd);
    else
        g->timer_fd = fd;
    return r;
}

int naru_gather_fd(struct naru_gather *g)
{
    int r = fork_guard_enter(&g->guard);

    if (r < 0)
        return r;
    if (g->timer_fd < 0) {
        fork_hold();
        r = make_timer(g);
        fork_release();
        if (r < 0)
            return error_set(-r, "no descriptor to poll a gather by: %s", error_text(-r));
        gather_set_timer(g);
    }
    g->asked = true;
    show_ready(g);
    return g->fd;
}

void naru_gather_interrupt(struct naru_gather *g)
{
    static const uint64_t one = 1;
    int saved = errno;

    if (g->interrupt_fd >= 0 && write(g->interrupt_fd, &one, sizeof one) < 0)
        errno = saved; /* EAGAIN: the counter is full, so it is readable already */
    errno = saved;
}
