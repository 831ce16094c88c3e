/* SPDX-License-Identifier: MIT */
/*
 * Listening for shm:. Whoever connects to the socket has to say HELLO (shm-handshake.h), and may be silent,
 * slow or hostile meanwhile: so a few connections stand open side by side, none longer than a second. The
 * listener's descriptor is an epoll(7) of the socket, of those connections, and of a timer for their ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/shm-handshake.h"
#include "channel/shm-name.h"
#include "channel/shm.h"
#include "channel/unix-endpoint.h"

enum {
    PENDING_MAX = FORK_GUARD_FDS, /* connections whose HELLO is awaited */
    TAKEN_MAX = 32 /* connections that one attempt looks at: those who flood do not hold it up */
};

static const int64_t hello_within = NARU_S(1);

struct pending {
    int fd; /* -1: free */
    int64_t deadline;
};

/* l->state */
struct shm_listener {
    struct shm_options options;
    struct unix_endpoint *endpoint;
    int socket, timer;
    bool takes_more;  /* the socket is polled: there is room for one more connection */
    int64_t timer_at; /* 0: not set */
    struct pending pending[PENDING_MAX];
    struct fork_guard guard, pending_guard;
};

/* --- the listener --- */

static void free_listener(struct shm_listener *s)
{
    fork_guard_close(&s->pending_guard);
    fork_guard_close(&s->guard);
    free(s);
}

static struct shm_listener *new_listener(const char *what)
{
    struct shm_listener *s = calloc(1, sizeof *s);

    if (!s) {
        (void)error_set(ENOMEM, "%s: out of memory for a listener", what);
        return NULL;
    }
    s->socket = s->timer = -1;
    fork_guard_init(&s->guard);
    fork_guard_add(&s->guard, &s->socket);
    fork_guard_add(&s->guard, &s->timer);
    fork_guard_init(&s->pending_guard);
    for (int i = 0; i < PENDING_MAX; i++) {
        s->pending[i].fd = -1;
        fork_guard_add(&s->pending_guard, &s->pending[i].fd);
    }
    return s;
}

static int poll_for(const struct naru_listener *l, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(l->fd, operation, fd, &event) < 0
               ? error_set(errno, "%s: epoll_ctl: %s", l->url, error_text(errno))
               : 0;
}

/* What the listener's descriptor is made of. */
static int open_descriptors(struct naru_listener *l, struct shm_listener *s)
{
    int r;

    s->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    l->fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->socket < 0 || s->timer < 0 || l->fd < 0)
        return error_set(errno, "%s: no descriptor for a listener: %s", l->url, error_text(errno));
    r = poll_for(l, EPOLL_CTL_ADD, s->socket, EPOLLIN);
    if (r == 0)
        r = poll_for(l, EPOLL_CTL_ADD, s->timer, EPOLLIN);
    s->takes_more = true;
    return r;
}

int shm_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct shm_options options;
    struct shm_listener *s;
    struct unix_name name;
    int r = shm_parse_options(url, opt, true, &options);

    if (r == 0)
        r = shm_name_parse(url, true, &name);
    if (r < 0)
        return r;
    s = new_listener(url->text);
    if (!s)
        return -ENOMEM;
    s->options = options;
    r = open_descriptors(l, s);
    if (r == 0)
        r = unix_endpoint_open(l, s->socket, url, &name, opt->mode, &s->endpoint);
    if (r < 0)
        free_listener(s);
    else
        l->state = s;
    return r;
}

void shm_unlisten(struct naru_listener *l, bool owner)
{
    struct shm_listener *s = l->state;

    s->endpoint = unix_endpoint_close(s->endpoint, l->lock_fd, owner);
    free_listener(s);
    l->state = NULL;
}

int shm_remove(struct url *url)
{
    struct unix_name name;
    int r = shm_name_parse(url, false, &name);

    return r < 0 ? r : unix_endpoint_remove(url, &name, SOCK_SEQPACKET);
}

/* --- a connection --- */

static void drop(struct naru_listener *l, struct pending *p)
{
    (void)epoll_ctl(l->fd, EPOLL_CTL_DEL, p->fd, NULL); /* -ENOENT: it was answered at once */
    p->fd = handshake_hang_up(p->fd);
}

/* Whether a HELLO's descriptors are what they have to be; the memory is looked at by who maps it. */
static enum handshake_reason check_fds(const struct handshake_packet *packet)
{
    if (packet->fd_count < HELLO_FDS && packet->fds_lost) /* there was room for them: not in this process */
        return REASON_SHORT;
    return packet->fd_count == HELLO_FDS && handshake_is_bell(packet->fds[HELLO_RECEIVER_BELL]) &&
                   handshake_is_bell(packet->fds[HELLO_SENDER_BELL])
               ? REASON_NONE
               : REASON_PROTOCOL;
}

/* Makes our memory, passes it, and makes ch a channel. -EAGAIN: the peer has gone meanwhile; or another
 * explained -errno. Takes theirs. */
static int welcome(struct naru_listener *l, struct naru_channel *ch, int fd, struct handshake_packet *packet,
                   struct sealed *theirs)
{
    const struct shm_listener *s = l->state;
    struct handshake_message m = shm_say(HANDSHAKE_WELCOME, &s->options);
    struct sealed own = {0};
    FD_CLEANUP int memory = -1;
    int r = shm_link_make(l->url, s->options.ring, s->options.pool, &own, &memory);

    if (r == 0 && handshake_send(fd, &m, &memory, WELCOME_FDS) < 0)
        r = -EAGAIN;
    if (r < 0) {
        sealed_deinit(&own);
        sealed_deinit(theirs);
        return r;
    }
    channel_learn_peer(ch, fd);
    ch->rfd = fd_steal(&packet->fds[HELLO_RECEIVER_BELL]);
    ch->wfd = fd_steal(&packet->fds[HELLO_SENDER_BELL]);
    r = shm_open_channel(ch, &s->options, &own, theirs);
    if (r == 0)
        shm_link_claim(&((struct shm *)ch->state)->link);
    return r;
}

/* Answers a HELLO. 0: ch is open; -EAGAIN: the peer was refused, or has gone; or what this process is short
 * of, explained. */
static int answer(struct naru_listener *l, struct naru_channel *ch, int fd, struct handshake_packet *packet)
{
    const struct shm_listener *s = l->state;
    const struct handshake_message own = shm_say(HANDSHAKE_WELCOME, &s->options);
    struct handshake_message hello;
    struct sealed theirs = {0};
    enum handshake_reason reason = handshake_read(packet->bytes, packet->length, &own, &hello);
    int r = -EAGAIN;

    if (reason == REASON_NONE)
        reason = hello.kind == HANDSHAKE_HELLO ? check_fds(packet) : REASON_PROTOCOL;
    if (reason == REASON_NONE) {
        r = shm_link_attach(l->url, packet->fds[HELLO_MEMORY], hello.ring, &theirs);
        reason = r == -EPROTO ? REASON_PROTOCOL : r < 0 ? REASON_SHORT : REASON_NONE;
    } else if (reason == REASON_SHORT) {
        r = error_set(EMFILE, "%s: no room for the descriptors of a connection; raise RLIMIT_NOFILE", l->url);
    }
    if (reason == REASON_NONE) {
        r = welcome(l, ch, fd, packet, &theirs);
        reason = r < 0 && r != -EAGAIN ? REASON_SHORT : REASON_NONE;
    }
    if (reason != REASON_NONE)
        handshake_refuse(fd, reason, &own);
    return reason == REASON_SHORT ? r : r == 0 && reason == REASON_NONE ? 0 : -EAGAIN;
}

/* Goes on with a connection. As answer(); -EAGAIN: it has said nothing yet, too. */
static int advance(struct naru_listener *l, struct naru_channel *ch, struct pending *p)
{
    struct handshake_packet packet;
    int r = handshake_recv(p->fd, &packet);

    if (r == -EAGAIN)
        return r;
    if (r == 0) {
        r = answer(l, ch, p->fd, &packet);
        handshake_packet_close(&packet);
    } else {
        r = -EAGAIN; /* it has gone, whatever the kernel says of it */
    }
    drop(l, p);
    return r;
}

/* --- accepting --- */

static struct pending *find_room(struct shm_listener *s)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (s->pending[i].fd < 0)
            return &s->pending[i];
    return NULL;
}

/* Takes one connection from the socket into p, which stays free if the peer may not connect. 0, -EAGAIN:
 * there is none; or explained. */
static int take(struct naru_listener *l, struct pending *p)
{
    const struct shm_listener *s = l->state;
    FD_CLEANUP int fd = accept4(s->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r;

    if (fd < 0 && errno == ECONNABORTED)
        return 0;
    if (fd < 0)
        return errno == EAGAIN || errno == EINTR
                   ? -EAGAIN
                   : error_set(errno, "%s: accept: %s", l->url, error_text(errno));
    if (!shm_allow_peer(&s->options.allowed, fd)) {
        const struct handshake_message own = shm_say(HANDSHAKE_REFUSED, &s->options);

        handshake_refuse(fd, REASON_PERMISSION, &own);
        (void)handshake_hang_up(fd_steal(&fd));
        return 0;
    }
    r = poll_for(l, EPOLL_CTL_ADD, fd, EPOLLIN);
    if (r == 0)
        *p = (struct pending){fd_steal(&fd), clock_now() + hello_within};
    return r;
}

/* Drops who did not speak in time, and sets the timer for who still may. */
static void mind_the_time(struct naru_listener *l)
{
    struct shm_listener *s = l->state;
    int64_t now = s->timer_at ? clock_now() : 0, next = 0;
    struct itimerspec when = {{0, 0}, {0, 0}};

    for (int i = 0; i < PENDING_MAX; i++) {
        struct pending *p = &s->pending[i];

        if (p->fd >= 0 && p->deadline <= now)
            drop(l, p);
        if (p->fd >= 0 && (next == 0 || p->deadline < next))
            next = p->deadline;
    }
    if (next == s->timer_at)
        return;
    when.it_value.tv_sec = (time_t)(next / NARU_S(1));
    when.it_value.tv_nsec = (long)(next % NARU_S(1));
    if (timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0) /* cannot fail: both are valid */
        s->timer_at = next;
}

static int try_to_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct shm_listener *s = l->state;
    struct pending *p;

    for (int i = 0; i < PENDING_MAX; i++) {
        int r = s->pending[i].fd < 0 ? -EAGAIN : advance(l, ch, &s->pending[i]);

        if (r != -EAGAIN)
            return r;
    }
    for (int i = 0; i < TAKEN_MAX && (p = find_room(s)); i++) {
        int r = take(l, p);

        if (r < 0)
            return r;
        r = p->fd < 0 ? -EAGAIN : advance(l, ch, p);
        if (r != -EAGAIN)
            return r;
    }
    return -EAGAIN;
}

int shm_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct shm_listener *s = l->state;
    int r = try_to_accept(l, ch);
    bool room;

    mind_the_time(l);
    room = find_room(s) != NULL;
    if (room != s->takes_more && poll_for(l, EPOLL_CTL_MOD, s->socket, room ? EPOLLIN : 0) == 0)
        s->takes_more = room;
    return r;
}
