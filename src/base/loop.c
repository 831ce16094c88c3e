/* SPDX-License-Identifier: MIT */
/*
 * The event loop: epoll(7) for descriptors, one timerfd for all timers, one eventfd for whatever comes from
 * other threads and signal handlers.
 *
 * The timerfd, instead of a timeout computed for each wait, makes the epoll descriptor tell everything by
 * itself, so that it can be nested in another loop; it is set only when the earliest deadline changes, and
 * never read (setting it anew clears it).
 *
 * Invariants
 * I1  A source that epoll knows is allocated: epoll hands back pointers. A removed source is taken out of
 *     epoll at once, but freed only after the batch of events it may stand in (`ending`). If epoll will not
 *     take it out (the caller closed the descriptor first, and a duplicate may live on), it stays allocated
 *     until the loop ends (`haunting`).
 * I2  A dead source is never called.
 * I3  The timers' heap has room for every timer, so that setting one cannot fail.
 * I4  Outside naru_loop_run_once(), the timerfd is set to the earliest deadline.
 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/list.h"
#include "base/timers.h"

enum { BATCH = 64, NS_PER_S = 1000000000 };

_Static_assert((int)EPOLLIN == (int)NARU_IN && (int)EPOLLOUT == (int)NARU_OUT &&
                   (int)EPOLLERR == (int)NARU_ERROR && (int)EPOLLHUP == (int)NARU_HANGUP,
               "epoll's events are handed on as they are");

struct naru_source {
    struct naru_loop *loop;
    struct list node;    /* in loop->sources, ending or haunting */
    struct list wanting; /* in loop->wanting, if hooks->want */
    bool dead;
    naru_loop_call *call;
    void *data;

    int fd;          /* -1: a timer */
    uint32_t events; /* as epoll knows them; 0: epoll does not know the descriptor */
    const struct source_hooks *hooks;
    void *state;

    struct timer timer;
    int64_t interval;
};

struct deferred {
    struct list node;
    int (*call)(void *data);
    void *data;
};

struct naru_loop {
    int epoll_fd, timer_fd, wake_fd;
    struct fork_guard guard;
    bool running;
    _Atomic bool stopped;
    struct list sources, ending, haunting, wanting;

    struct timers timers;
    size_t timer_count;   /* timers that exist, set or not */
    int64_t timer_fd_set; /* the deadline that timer_fd is set to; NARU_FOREVER: none */

    pthread_mutex_t lock; /* of the list below */
    struct list deferred;
};

static const struct source_hooks plain;

/* epoll's data for our own two descriptors; other values are sources. */
static char wake_tag, timer_tag;

static int watch(int epoll_fd, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct naru_loop *loop)
{
    int r;

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->timer_fd < 0)
        return error_set(errno, "making an event loop: %s; it needs three descriptors (ulimit -n)",
                         error_text(errno));
    r = watch(loop->epoll_fd, loop->wake_fd, &wake_tag);
    if (r == 0)
        r = watch(loop->epoll_fd, loop->timer_fd, &timer_tag);
    return r < 0 ? error_set(-r, "making an event loop: epoll_ctl: %s", error_text(-r)) : 0;
}

int naru_loop_new(struct naru_loop **ret_loop)
{
    struct naru_loop *loop = calloc(1, sizeof *loop);
    int r;

    if (!loop)
        return error_set(ENOMEM, "making an event loop: out of memory");
    list_init(&loop->sources);
    list_init(&loop->ending);
    list_init(&loop->haunting);
    list_init(&loop->wanting);
    list_init(&loop->deferred);
    loop->timer_fd_set = NARU_FOREVER;
    (void)pthread_mutex_init(&loop->lock, NULL); /* cannot fail with default attributes */
    fork_guard_init(&loop->guard);
    r = open_descriptors(loop);
    if (r < 0) {
        naru_loop_free(loop);
        return r;
    }
    /* A child shares the epoll instance itself: what it changed there would change here. */
    fork_guard_add(&loop->guard, &loop->epoll_fd);
    fork_guard_add(&loop->guard, &loop->wake_fd);
    fork_guard_add(&loop->guard, &loop->timer_fd);
    *ret_loop = loop;
    return 0;
}

static void end_sources(struct list *sources)
{
    while (!list_is_empty(sources)) {
        struct naru_source *source = list_entry(sources->next, struct naru_source, node);

        list_remove(&source->node);
        if (source->hooks->end)
            source->hooks->end(source->state);
        free(source);
    }
}

struct naru_loop *naru_loop_free(struct naru_loop *loop)
{
    if (!loop)
        return NULL;
    fork_guard_deinit(&loop->guard);
    fd_close(loop->epoll_fd);
    fd_close(loop->wake_fd);
    fd_close(loop->timer_fd);
    end_sources(&loop->sources);
    end_sources(&loop->ending);
    end_sources(&loop->haunting);
    while (!list_is_empty(&loop->deferred)) {
        struct deferred *deferred = list_entry(loop->deferred.next, struct deferred, node);

        list_remove(&deferred->node);
        free(deferred);
    }
    timers_deinit(&loop->timers);
    if (fork_guard_is_mine(&loop->guard)) /* in a child a thread that did not survive may hold it */
        (void)pthread_mutex_destroy(&loop->lock);
    free(loop);
    return NULL;
}

/* Tells epoll what to watch a source's descriptor for. */
static int set_events(struct naru_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    int operation = source->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;

    if (events == source->events)
        return 0;
    if (epoll_ctl(source->loop->epoll_fd, operation, source->fd, &event) < 0) {
        if (errno == EPERM)
            return error_set(EPERM,
                             "descriptor %d cannot be waited for: it is a regular file or a directory, which "
                             "is always ready; read it directly, or use file:",
                             source->fd);
        if (errno == EEXIST)
            return error_set(EEXIST,
                             "descriptor %d is watched by this loop already; use naru_source_set_events()",
                             source->fd);
        return error_set(errno, "watching descriptor %d: epoll_ctl: %s", source->fd, error_text(errno));
    }
    source->events = events;
    return 0;
}

static int check_events(uint32_t events)
{
    if (events & ~(uint32_t)(NARU_IN | NARU_OUT))
        return error_set(EINVAL, "events 0x%x: expected NARU_IN, NARU_OUT, both or 0", events);
    return 0;
}

static struct naru_source *source_new(struct naru_loop *loop, int fd, const struct source_hooks *hooks,
                                      void *state, naru_loop_call *call, void *data)
{
    struct naru_source *source = calloc(1, sizeof *source);

    if (!source) {
        (void)error_set(ENOMEM, "adding to an event loop: out of memory");
        return NULL;
    }
    source->loop = loop;
    source->fd = fd;
    source->hooks = hooks;
    source->state = state;
    source->call = call;
    source->data = data;
    list_init(&source->node);
    list_init(&source->wanting);
    return source;
}

int loop_add_source(struct naru_loop *loop, int fd, uint32_t events, const struct source_hooks *hooks,
                    void *state, naru_loop_call *call, void *data, struct naru_source **ret_source)
{
    struct naru_source *source;
    int r = fork_guard_enter(&loop->guard);

    if (r < 0)
        return r;
    source = source_new(loop, fd, hooks, state, call, data);
    if (!source)
        return -ENOMEM;
    r = set_events(source, events);
    if (r < 0) {
        free(source);
        return r;
    }
    list_append(&loop->sources, &source->node);
    if (hooks->want)
        list_append(&loop->wanting, &source->wanting);
    if (ret_source)
        *ret_source = source;
    return 0;
}

int naru_loop_add_fd(struct naru_loop *loop, int fd, uint32_t events, naru_loop_call *call, void *data,
                     struct naru_source **ret_source)
{
    int r = check_events(events);

    return r < 0 ? r : loop_add_source(loop, fd, events, &plain, NULL, call, data, ret_source);
}

int naru_source_set_events(struct naru_source *source, uint32_t events)
{
    int r = fork_guard_enter(&source->loop->guard);

    if (r == 0)
        r = check_events(events);
    if (r < 0)
        return r;
    if (source->dead || source->fd < 0 || source->hooks != &plain)
        return error_set(EINVAL, "only a live source of naru_loop_add_fd() has events to set");
    return set_events(source, events);
}

/* Keeps I4. A deadline that has passed makes the timerfd readable at once. */
static void set_timer_fd(struct naru_loop *loop)
{
    const struct timer *first = timers_first(&loop->timers);
    int64_t deadline = first ? first->deadline : NARU_FOREVER;
    struct itimerspec when = {0};

    if (loop->running || deadline == loop->timer_fd_set)
        return;
    if (first) {
        when.it_value.tv_sec = deadline / NS_PER_S;
        when.it_value.tv_nsec = deadline % NS_PER_S;
    }
    /* Cannot fail: the descriptor is ours and the time is valid (timerfd_create(2), ERRORS). */
    (void)timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    loop->timer_fd_set = deadline;
}

static void set_timer(struct naru_source *source, int64_t delay_ns, int64_t interval_ns)
{
    int64_t deadline = delay_ns == 0 ? clock_now() : deadline_after(delay_ns);

    source->interval = interval_ns;
    if (deadline == NARU_FOREVER)
        timers_unset(&source->loop->timers, &source->timer);
    else
        timers_set(&source->loop->timers, &source->timer, deadline);
    set_timer_fd(source->loop);
}

static int check_times(int64_t delay_ns, int64_t interval_ns)
{
    if (delay_ns < 0 || interval_ns < 0)
        return error_set(EINVAL, "a timer's delay and interval must not be negative");
    return 0;
}

int naru_loop_add_timer(struct naru_loop *loop, int64_t delay_ns, int64_t interval_ns, naru_loop_call *call,
                        void *data, struct naru_source **ret_source)
{
    struct naru_source *source;
    int r = fork_guard_enter(&loop->guard);

    if (r == 0)
        r = check_times(delay_ns, interval_ns);
    if (r < 0)
        return r;
    if (timers_reserve(&loop->timers, loop->timer_count + 1) < 0)
        return error_set(ENOMEM, "adding a timer: out of memory");
    source = source_new(loop, -1, &plain, NULL, call, data);
    if (!source)
        return -ENOMEM;
    loop->timer_count++;
    list_append(&loop->sources, &source->node);
    set_timer(source, delay_ns, interval_ns);
    if (ret_source)
        *ret_source = source;
    return 0;
}

int naru_source_set_timer(struct naru_source *source, int64_t delay_ns, int64_t interval_ns)
{
    int r = fork_guard_enter(&source->loop->guard);

    if (r == 0)
        r = check_times(delay_ns, interval_ns);
    if (r < 0)
        return r;
    if (source->dead || source->fd >= 0)
        return error_set(EINVAL, "only a live source of naru_loop_add_timer() can be set as a timer");
    set_timer(source, delay_ns, interval_ns);
    return 0;
}

bool source_is_dead(const struct naru_source *source)
{
    return source->dead;
}

struct naru_loop *naru_source_loop(const struct naru_source *source)
{
    return source->loop;
}

struct naru_source *naru_source_remove(struct naru_source *source)
{
    struct naru_loop *loop;
    struct list *to;

    if (!source || source->dead)
        return NULL;
    loop = source->loop;
    to = &loop->ending;
    source->dead = true;
    if (source->fd < 0) {
        timers_unset(&loop->timers, &source->timer);
        loop->timer_count--;
        set_timer_fd(loop);
    } else if (set_events(source, 0) < 0) {
        to = &loop->haunting; /* I1 */
    }
    list_remove(&source->wanting);
    list_remove(&source->node);
    list_append(to, &source->node);
    if (!loop->running)
        end_sources(&loop->ending);
    return NULL;
}

int naru_loop_defer(struct naru_loop *loop, int (*call)(void *data), void *data)
{
    struct deferred *deferred;
    int r = fork_guard_enter(&loop->guard);

    if (r < 0)
        return r;
    deferred = malloc(sizeof *deferred);
    if (!deferred)
        return error_set(ENOMEM, "deferring a call: out of memory");
    deferred->call = call;
    deferred->data = data;
    (void)pthread_mutex_lock(&loop->lock);
    list_append(&loop->deferred, &deferred->node);
    (void)pthread_mutex_unlock(&loop->lock);
    naru_loop_wake(loop);
    return 0;
}

void naru_loop_wake(struct naru_loop *loop)
{
    static const uint64_t one = 1;
    int saved = errno;
    ssize_t written = write(loop->wake_fd, &one, sizeof one);

    (void)written; /* EAGAIN: 2^64 - 2 wake-ups are waiting; it is readable, which is all that is wanted */
    errno = saved;
}

void naru_loop_stop(struct naru_loop *loop)
{
    /* [P1] release: pairs with [C1]; who sees the stop also sees what was done before it. */
    atomic_store_explicit(&loop->stopped, true, memory_order_release);
    naru_loop_wake(loop);
}

static struct deferred *take_deferred(struct naru_loop *loop)
{
    struct deferred *deferred = NULL;

    (void)pthread_mutex_lock(&loop->lock);
    if (!list_is_empty(&loop->deferred)) {
        deferred = list_entry(loop->deferred.next, struct deferred, node);
        list_remove(&deferred->node);
    }
    (void)pthread_mutex_unlock(&loop->lock);
    return deferred;
}

/* Makes the deferred calls, those included that they defer themselves up to one batch, so that a call that
 * always defers itself starves nobody. */
static int run_deferred(struct naru_loop *loop, int *calls)
{
    struct deferred *deferred;
    uint64_t ignored;
    int r = 0;

    if (read(loop->wake_fd, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
        return error_set(errno, "reading the loop's eventfd: %s", error_text(errno));
    for (int i = 0; i < BATCH && r >= 0 && (deferred = take_deferred(loop)); i++) {
        r = deferred->call(deferred->data);
        free(deferred);
        ++*calls;
    }
    (void)pthread_mutex_lock(&loop->lock);
    if (!list_is_empty(&loop->deferred))
        naru_loop_wake(loop);
    (void)pthread_mutex_unlock(&loop->lock);
    return r < 0 ? r : 0;
}

/* The first point of the grid deadline + n * interval that is still to come. */
static int64_t next_deadline(int64_t deadline, int64_t interval, int64_t now)
{
    int64_t next = now - (now - deadline) % interval;

    return __builtin_add_overflow(next, interval, &next) ? NARU_FOREVER - 1 : next;
}

static int run_timers(struct naru_loop *loop, int *calls)
{
    int64_t now = clock_now();
    struct timer *first;
    int r = 0;

    while (r >= 0 && (first = timers_first(&loop->timers)) && first->deadline <= now) {
        struct naru_source *source = list_entry(first, struct naru_source, timer);

        if (source->interval)
            timers_set(&loop->timers, first, next_deadline(first->deadline, source->interval, now));
        else
            timers_unset(&loop->timers, first);
        r = source->call(source, 0, source->data);
        ++*calls;
    }
    return r < 0 ? r : 0;
}

/* Asks the sources whose wishes change. */
static int ask_wants(struct naru_loop *loop)
{
    struct list *node;
    int r = 0;

    for (node = loop->wanting.next; node != &loop->wanting && r >= 0; node = node->next) {
        struct naru_source *source = list_entry(node, struct naru_source, wanting);

        r = set_events(source, source->hooks->want(source->state));
    }
    return r;
}

/* Waits for events. Only a finite wait needs the second system call: epoll_wait() counts in milliseconds, and
 * epoll_pwait2() came with Linux 5.11. */
static int wait_events(struct naru_loop *loop, int64_t deadline, struct epoll_event *events)
{
    int count;

    if (deadline != 0 && deadline != NARU_FOREVER) {
        struct pollfd pollfd = {.fd = loop->epoll_fd, .events = POLLIN};

        count = fd_poll(&pollfd, 1, deadline);
        if (count <= 0)
            return count;
    }
    do
        count = epoll_wait(loop->epoll_fd, events, BATCH, deadline == NARU_FOREVER ? -1 : 0);
    while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

static int run_source(struct naru_source *source, uint32_t events, int *calls)
{
    if (source->dead)
        return 0;
    ++*calls;
    if (source->hooks->ready)
        return source->hooks->ready(source, source->state, events);
    return source->call(source, events, source->data);
}

static int run_events(struct naru_loop *loop, const struct epoll_event *events, int count, int *calls)
{
    int r = 0;

    for (int i = 0; i < count && r >= 0; i++) {
        if (events[i].data.ptr == &wake_tag)
            r = run_deferred(loop, calls);
        else if (events[i].data.ptr == &timer_tag)
            r = run_timers(loop, calls);
        else
            r = run_source(events[i].data.ptr, events[i].events, calls);
    }
    return r;
}

int naru_loop_run_once(struct naru_loop *loop, int64_t timeout_ns)
{
    struct epoll_event events[BATCH];
    int calls = 0, r = fork_guard_enter(&loop->guard);

    if (r < 0)
        return r;
    if (loop->running)
        return error_set(EBUSY, "the loop is running: a callback cannot run it again");
    r = ask_wants(loop);
    if (r < 0)
        return r;
    r = wait_events(loop, deadline_after(timeout_ns), events);
    if (r < 0)
        return error_set(-r, "waiting for events: %s", error_text(-r));
    loop->running = true;
    r = run_events(loop, events, r, &calls);
    loop->running = false;
    end_sources(&loop->ending);
    set_timer_fd(loop);
    if (r >= 0)
        r = ask_wants(loop); /* for a loop around this one, see naru_loop_fd() */
    return r < 0 ? r : calls;
}

int naru_loop_run(struct naru_loop *loop)
{
    int r;

    /* [C1] acquire: pairs with [P1]. The exchange takes the stop, so that the loop can be run again. */
    while (!atomic_exchange_explicit(&loop->stopped, false, memory_order_acquire)) {
        r = naru_loop_run_once(loop, NARU_FOREVER);
        if (r < 0)
            return r;
    }
    return 0;
}

int naru_loop_fd(struct naru_loop *loop)
{
    int r = fork_guard_enter(&loop->guard);

    return r < 0 ? r : loop->epoll_fd;
}
