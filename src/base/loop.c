/* SPDX-License-Identifier: MIT */
/*
 * The event loop: epoll(7) for descriptors, one timerfd for all timers, one eventfd for whatever comes from
 * other threads and signal handlers.
 *
 * The timerfd, instead of a timeout computed for each wait, makes the epoll descriptor tell everything by
 * itself, so that it can be nested in another loop; it is set only when the earliest deadline changes, and
 * never read (setting it anew clears it). loop-state.h has the invariants.
 */
#include "base/loop-state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

enum { BATCH = 64 };

_Static_assert((int)EPOLLIN == (int)NARU_IN && (int)EPOLLOUT == (int)NARU_OUT &&
                   (int)EPOLLERR == (int)NARU_ERROR && (int)EPOLLHUP == (int)NARU_HANGUP,
               "epoll's events are handed on as they are");

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
    loop->epoll_fd = loop->wake_fd = loop->timer_fd = -1;
    /* A child shares the epoll instance itself: what it changed there would change here. */
    fork_guard_init(&loop->guard);
    fork_guard_add(&loop->guard, &loop->epoll_fd);
    fork_guard_add(&loop->guard, &loop->wake_fd);
    fork_guard_add(&loop->guard, &loop->timer_fd);
    fork_hold();
    r = open_descriptors(loop);
    fork_release();
    if (r < 0) {
        naru_loop_free(loop);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

struct naru_loop *naru_loop_free(struct naru_loop *loop)
{
    if (!loop)
        return NULL;
    fork_guard_close(&loop->guard);
    source_end_all(&loop->sources);
    source_end_all(&loop->ending);
    source_end_all(&loop->haunting);
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

int naru_loop_defer(struct naru_loop *loop, int (*call)(void *data), void *data)
{
    struct deferred *deferred;
    int r = fork_guard_enter(&loop->guard);

    if (r == 0)
        r = loop_check_call(call);
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

        r = source_set_events(source, source->hooks->want(source->state));
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
    source_end_all(&loop->ending);
    loop_set_timer_fd(loop);
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
