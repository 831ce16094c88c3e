/* SPDX-License-Identifier: MIT */
/* The sources of an event loop: adding, changing and removing them. */
#include "base/loop-state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/error.h"

enum { NS_PER_S = 1000000000 };

static const struct source_hooks plain;

void source_end_all(struct list *sources)
{
    while (!list_is_empty(sources)) {
        struct naru_source *source = list_entry(sources->next, struct naru_source, node);

        list_remove(&source->node);
        if (source->hooks->end)
            source->hooks->end(source->state);
        free(source);
    }
}

int source_set_events(struct naru_source *source, uint32_t events)
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

int loop_check_call(bool there_is_one)
{
    return there_is_one ? 0 : error_set(EINVAL, "an event loop was given no function to call (NULL)");
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

    if (r == 0)
        r = loop_check_call(call || hooks->ready);
    if (r < 0)
        return r;
    source = source_new(loop, fd, hooks, state, call, data);
    if (!source)
        return -ENOMEM;
    r = source_set_events(source, events);
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
    return source_set_events(source, events);
}

void loop_set_timer_fd(struct naru_loop *loop)
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
    loop_set_timer_fd(source->loop);
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
    if (r == 0)
        r = loop_check_call(call);
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
        loop_set_timer_fd(loop);
    } else if (source_set_events(source, 0) < 0) {
        to = &loop->haunting; /* I1 */
    }
    list_remove(&source->wanting);
    list_remove(&source->node);
    list_append(to, &source->node);
    if (!loop->running)
        source_end_all(&loop->ending);
    return NULL;
}
