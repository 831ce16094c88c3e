/* SPDX-License-Identifier: MIT */
/*
 * Listening for shm:. Whoever connects to the socket has to say HELLO (handshake.h), and may be silent,
 * slow or hostile meanwhile: so a few connections stand open side by side, none longer than a second. An
 * epoll(7) of the socket, of those connections and of a timer for their ends tells when there is something to
 * do, and work() does it: it answers them, and what comes of it waits in a queue for naru_accept().
 *
 * Who calls it: the keeper (keeper.h), whenever there is something to do; naru_accept(), if it finds the
 * queue empty; naru_listener_dispatch(). So the handshake is the same with a keeper and without, and with one
 * naru_accept() is told at first hand what is missing (descriptors, memory).
 *
 * An eventfd says that accepting is worth a call: the queue is not empty, or the keeper failed. With a keeper
 * it is the listener's descriptor, else one more thing in the epoll, which is.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/keeper.h"
#include "channel/shm/arrival.h"
#include "channel/shm/handshake.h"
#include "channel/shm/name.h"
#include "channel/unix-endpoint.h"
#include "shm/wakeup.h"

enum {
    PENDING_MAX = 8, /* connections whose HELLO is awaited; at most FORK_GUARD_FDS */
    TAKEN_MAX = 32   /* connections that one attempt looks at: those who flood do not hold it up */
};

static const int64_t keeper_tries_again = NARU_MS(100); /* after a lack of descriptors or memory */

struct pending {
    int fd; /* -1: free */
    int64_t deadline;
};

/* l->state */
struct shm_listener {
    struct naru_listener *l;
    struct shm_options options;
    struct unix_endpoint *endpoint;
    bool manual; /* without a keeper */
    struct keeper_task task;
    int socket, timer;
    int inner_fd; /* of the epoll and the eventfd, the one that is not l->fd */
    struct fork_guard guard, pending_guard;

    /* Of the keeper's thread and of the program's, but for new_listener(): what is below. Taken with forks
     * held off. */
    pthread_mutex_t lock;
    bool takes_more;  /* the socket is polled: there is room for one more connection */
    bool stopped;     /* shm_stop() */
    int64_t timer_at; /* 0: not set */
    int64_t again_at; /* the socket is left alone until then; 0: it is not */
    int failed;       /* the keeper, since somebody was told: -errno, and its sentence */
    char why[ERROR_SENTENCE_MAX];
    bool ready; /* what the eventfd is set to */
    struct pending pending[PENDING_MAX];
    struct shm_arrival *prepared; /* made ahead, while a HELLO is awaited; or NULL */
    struct list arrivals;         /* struct shm_arrival: answered, not accepted */
    size_t arrived;               /* how many */
};

static int epoll_of(const struct shm_listener *s)
{
    return s->manual ? s->l->fd : s->inner_fd;
}

static int eventfd_of(const struct shm_listener *s)
{
    return s->manual ? s->inner_fd : s->l->fd;
}

static int poll_for(const struct shm_listener *s, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(epoll_of(s), operation, fd, &event) < 0
               ? error_set(errno, "%s: epoll_ctl: %s", s->l->url, error_text(errno))
               : 0;
}

/* --- connections whose HELLO is awaited --- */

static void drop(const struct shm_listener *s, struct pending *p)
{
    (void)epoll_ctl(epoll_of(s), EPOLL_CTL_DEL, p->fd, NULL); /* -ENOENT: it was answered at once */
    p->fd = handshake_hang_up(p->fd);
}

static void refuse(const struct shm_listener *s, int fd, enum handshake_reason reason)
{
    const struct handshake_message own = shm_say(HANDSHAKE_REFUSED, &s->options);

    handshake_refuse(fd, reason, &own);
}

/* While it makes its memory we make ours. Whether it is there by now: what could not be had is asked for
 * again, and said, once there is somebody to answer. */
static bool prepare(struct shm_listener *s)
{
    return !s->prepared && shm_arrival_prepare(s->l->url, &s->options, &s->prepared) == 0;
}

/* Goes on with one. 0 or explained. */
static int advance(struct shm_listener *s, struct pending *p)
{
    struct shm_arrival *arrival = NULL;
    int fd = p->fd, r = handshake_check_discards(s->l->url);

    if (r == 0)
        r = shm_answer(s->l->url, &s->options, &p->fd, &s->prepared, &arrival);
    else
        refuse(s, fd, REASON_SHORT);
    if (r == SHM_SILENT && prepare(s)) {
        p->deadline = clock_now() + handshake_hello_within; /* of this time, ours was some */
        r = shm_answer(s->l->url, &s->options, &p->fd, &s->prepared, &arrival);
    }
    if (arrival)
        (void)epoll_ctl(epoll_of(s), EPOLL_CTL_DEL, fd, NULL); /* as drop() */
    else if (r != SHM_SILENT)
        drop(s, p);
    if (arrival) {
        list_append(&s->arrivals, &arrival->node);
        s->arrived++;
    }
    return r < 0 ? r : 0;
}

static struct pending *find_room(struct shm_listener *s)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (s->pending[i].fd < 0)
            return &s->pending[i];
    return NULL;
}

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return fd_poll(&poll_fd, 1, 0) > 0;
}

/* Takes one connection from the socket into p, which stays free if the peer may not connect. 0, -EAGAIN:
 * there is none; or explained. */
static int take(struct shm_listener *s, struct pending *p)
{
    FD_CLEANUP int fd = -1;
    int r = handshake_check_discards(s->l->url);

    if (r < 0) /* who waits in the socket cannot be taken from it */
        return is_readable(s->socket) ? r : -EAGAIN;
    fd = accept4(s->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno == ECONNABORTED)
        return 0;
    if (fd < 0)
        return errno == EAGAIN || errno == EINTR || (errno == EINVAL && s->stopped)
                   ? -EAGAIN
                   : error_set(errno, "%s: accept: %s", s->l->url, error_text(errno));
    if (!shm_allow_peer(&s->options.allowed, fd)) {
        refuse(s, fd, REASON_PERMISSION);
        (void)handshake_hang_up(fd_steal(&fd));
        return 0;
    }
    r = poll_for(s, EPOLL_CTL_ADD, fd, EPOLLIN);
    if (r == 0) {
        *p = (struct pending){fd_steal(&fd), clock_now() + handshake_hello_within};
    } else {
        refuse(s, fd, REASON_SHORT); /* who is hung up on without a word takes us for something else */
        (void)handshake_hang_up(fd_steal(&fd));
    }
    return r;
}

/* --- what there is to do --- */

/* Answers those who are there, until `enough` wait in the queue; some more, if they were let in already. 0 or
 * what this process is short of, explained. */
static int work(struct shm_listener *s, size_t enough)
{
    struct pending *p;
    int r = 0;

    for (int i = 0; i < PENDING_MAX && r == 0; i++)
        if (s->pending[i].fd >= 0)
            r = advance(s, &s->pending[i]);
    for (int i = 0; i < TAKEN_MAX && r == 0 && s->arrived < enough && (p = find_room(s)); i++) {
        r = take(s, p);
        if (r == -EAGAIN)
            return 0;
        if (r == 0 && p->fd >= 0)
            r = advance(s, p);
    }
    return r;
}

/* Drops who did not speak in time, and sets the timer for who still may. Who has spoken meanwhile is heard
 * next: to make memory for others may have taken the time. */
static void mind_the_time(struct shm_listener *s)
{
    int64_t now = s->timer_at ? clock_now() : 0, next;
    struct itimerspec when = {{0, 0}, {0, 0}};

    if (s->again_at <= now)
        s->again_at = 0;
    next = s->again_at;
    for (int i = 0; i < PENDING_MAX; i++) {
        struct pending *p = &s->pending[i];

        if (p->fd >= 0 && p->deadline <= now && !is_readable(p->fd))
            drop(s, p);
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

/* What was made ahead is for those who are about to speak: nobody else may cost a listener memory. */
static void drop_prepared(struct shm_listener *s, bool owner)
{
    if (s->prepared)
        shm_arrival_drop(s->prepared, owner);
    s->prepared = NULL;
}

static bool is_awaiting(const struct shm_listener *s)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (s->pending[i].fd >= 0)
            return true;
    return false;
}

/* After any change: the descriptors tell what is true now. */
static void settle(struct shm_listener *s)
{
    bool takes_more, ready;
    eventfd_t ignored;

    mind_the_time(s);
    if (!is_awaiting(s))
        drop_prepared(s, true);
    takes_more = !s->stopped && s->arrived < s->options.backlog && find_room(s) && s->again_at == 0;
    if (takes_more != s->takes_more && poll_for(s, EPOLL_CTL_MOD, s->socket, takes_more ? EPOLLIN : 0) == 0)
        s->takes_more = takes_more;
    ready = s->arrived > 0 || s->failed < 0;
    if (ready != s->ready && /* neither can fail: it holds 0, or 1 */
        (ready ? eventfd_write(eventfd_of(s), 1) : eventfd_read(eventfd_of(s), &ignored)) == 0)
        s->ready = ready;
}

/* The keeper's. Who fails tries again after a while, or when the program accepts: the socket stays ready. */
static void attend(void *data)
{
    struct shm_listener *s = data;
    int r;

    (void)pthread_mutex_lock(&s->lock);
    r = work(s, s->options.backlog);
    if (r < 0) {
        s->failed = r;
        (void)snprintf(s->why, sizeof s->why, "%s", naru_explain());
        s->again_at = clock_now() + keeper_tries_again;
    }
    settle(s);
    (void)pthread_mutex_unlock(&s->lock);
}

static struct shm_arrival *take_arrival(struct shm_listener *s)
{
    struct shm_arrival *first;

    if (list_is_empty(&s->arrivals))
        return NULL;
    first = list_entry(s->arrivals.next, struct shm_arrival, node);
    list_remove(&first->node);
    s->arrived--;
    return first;
}

/* Who cannot be let in now stays: behind the others, as it may be for how large its own memory is. */
static int let_in(struct shm_listener *s, struct shm_arrival *arrival, struct naru_channel *ch)
{
    int r = shm_arrival_open(&arrival, &s->options, ch);

    if (arrival) {
        (void)pthread_mutex_lock(&s->lock);
        list_append(&s->arrivals, &arrival->node);
        s->arrived++;
        settle(s);
        (void)pthread_mutex_unlock(&s->lock);
    }
    return r;
}

int shm_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct shm_listener *s = l->state;
    struct shm_arrival *first;
    int r = 0;

    (void)pthread_mutex_lock(&s->lock);
    s->options.cpu = shm_sole_cpu(); /* what those who come from now on are told: it is this thread's peers */
    if (s->arrived == 0) {
        r = work(s, 1);
        if (r == 0) /* what the keeper was short of may be there again */
            s->again_at = 0;
        if (r == 0 && s->arrived == 0 && s->failed < 0) /* whom it sent away is not back yet */
            r = error_set(-s->failed, "%s", s->why);
        s->failed = 0;
    }
    first = take_arrival(s);
    settle(s);
    (void)pthread_mutex_unlock(&s->lock);
    if (first)
        return let_in(s, first, ch);
    return r < 0 ? r : -EAGAIN;
}

int shm_dispatch(struct naru_listener *l)
{
    struct shm_listener *s = l->state;
    int r;

    (void)pthread_mutex_lock(&s->lock);
    s->options.cpu = shm_sole_cpu(); /* as shm_accept() */
    s->failed = 0;
    r = work(s, s->options.backlog);
    settle(s);
    if (r == 0)
        r = (int)s->arrived;
    (void)pthread_mutex_unlock(&s->lock);
    return r;
}

/* Who has said HELLO by now is answered, who has not is hung up on, and finds nobody when it tries again. */
int shm_stop(struct naru_listener *l)
{
    struct shm_listener *s = l->state;
    int r = 0, told = 0;

    (void)pthread_mutex_lock(&s->lock);
    (void)epoll_ctl(epoll_of(s), EPOLL_CTL_DEL, s->socket, NULL); /* once shut, it is ready for ever */
    (void)shutdown(s->socket, SHUT_RD);                           /* who is in its queue stays there */
    s->stopped = true;
    s->takes_more = false;
    for (int i = 0; i < PENDING_MAX; i++) {
        if (s->pending[i].fd >= 0 && (r = advance(s, &s->pending[i])) < 0)
            told = r;
        if (s->pending[i].fd >= 0)
            drop(s, &s->pending[i]);
    }
    r = 0;
    while (r == 0) {
        r = take(s, &s->pending[0]);
        if (r == 0 && s->pending[0].fd >= 0)
            r = advance(s, &s->pending[0]);
        if (s->pending[0].fd >= 0)
            drop(s, &s->pending[0]);
    }
    settle(s);
    (void)pthread_mutex_unlock(&s->lock);
    return r == -EAGAIN ? told : r;
}

/* --- the listener --- */

/* On those who wait to be answered or to be let in. */
static void hang_up_on_all(struct shm_listener *s)
{
    int fd;

    for (int i = 0; i < PENDING_MAX; i++)
        if (s->pending[i].fd >= 0)
            s->pending[i].fd = handshake_hang_up(s->pending[i].fd);
    (void)shutdown(s->socket, SHUT_RD); /* nobody comes any more */
    while ((fd = accept4(s->socket, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED ||
           errno == EINTR)
        if (fd >= 0)
            (void)handshake_hang_up(fd);
}

static void free_listener(struct shm_listener *s, bool owner)
{
    struct shm_arrival *arrival;

    fork_hold();
    while ((arrival = take_arrival(s)))
        shm_arrival_drop(arrival, owner);
    drop_prepared(s, owner);
    if (owner)
        hang_up_on_all(s);
    fork_release();
    fork_guard_close(&s->pending_guard);
    fork_guard_close(&s->guard);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static struct shm_listener *new_listener(struct naru_listener *l, const char *what)
{
    struct shm_listener *s = calloc(1, sizeof *s);

    if (!s) {
        (void)error_set(ENOMEM, "%s: out of memory for a listener", what);
        return NULL;
    }
    s->l = l;
    s->socket = s->timer = s->inner_fd = -1;
    list_init(&s->arrivals);
    (void)pthread_mutex_init(&s->lock, NULL); /* cannot fail with default attributes */
    fork_guard_init(&s->guard);
    fork_guard_add(&s->guard, &s->socket);
    fork_guard_add(&s->guard, &s->timer);
    fork_guard_add(&s->guard, &s->inner_fd);
    fork_guard_init(&s->pending_guard);
    for (int i = 0; i < PENDING_MAX; i++) {
        s->pending[i].fd = -1;
        fork_guard_add(&s->pending_guard, &s->pending[i].fd);
    }
    return s;
}

/* What the listener's descriptors are made of. */
static int open_descriptors(struct naru_listener *l, struct shm_listener *s)
{
    int *epoll_place = s->manual ? &l->fd : &s->inner_fd;
    int *eventfd_place = s->manual ? &s->inner_fd : &l->fd;
    int r;

    s->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    *eventfd_place = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *epoll_place = epoll_create1(EPOLL_CLOEXEC);
    if (s->socket < 0 || s->timer < 0 || l->fd < 0 || s->inner_fd < 0)
        return error_set(errno, "%s: no descriptor for a listener: %s", l->url, error_text(errno));
    r = poll_for(s, EPOLL_CTL_ADD, s->socket, EPOLLIN);
    if (r == 0)
        r = poll_for(s, EPOLL_CTL_ADD, s->timer, EPOLLIN);
    if (r == 0 && s->manual)
        r = poll_for(s, EPOLL_CTL_ADD, eventfd_of(s), EPOLLIN);
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
    s = new_listener(l, url->text);
    if (!s)
        return -ENOMEM;
    s->options = options;
    s->manual = opt->service == NARU_SERVICE_MANUAL;
    r = open_descriptors(l, s);
    if (r == 0)
        r = unix_endpoint_open(l, s->socket, url, &name, opt->mode, &s->endpoint);
    /* Each link asks for it and deals with a refusal. The first time, in a process that has threads, the
     * kernel waits for all CPUs (some 10 ms): better here, and before there is a keeper, than in an accept.
     */
    (void)wakeup_register();
    if (r == 0 && !s->manual) {
        r = keeper_add(l->url, &s->task, epoll_of(s), attend, s);
        if (r < 0)
            s->endpoint = unix_endpoint_close(s->endpoint, l->lock_fd, true);
    }
    if (r < 0)
        free_listener(s, true);
    else
        l->state = s;
    return r;
}

void shm_unlisten(struct naru_listener *l, bool owner)
{
    struct shm_listener *s = l->state;

    keeper_remove(&s->task);
    s->endpoint = unix_endpoint_close(s->endpoint, l->lock_fd, owner);
    free_listener(s, owner);
    l->state = NULL;
}

int shm_remove(struct url *url)
{
    struct unix_name name;
    int r = shm_name_parse(url, false, &name);

    return r < 0 ? r : unix_endpoint_remove(url, &name, SOCK_SEQPACKET);
}
