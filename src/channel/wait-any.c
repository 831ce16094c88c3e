/* SPDX-License-Identifier: MIT */
/*
 * Waiting for any of several things. Every channel and listener has one honest descriptor for event loops, so
 * this is one poll(2) of them all; and of each channel's interruption, which such a loop would not see.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/channel.h"
#include "naru/wait.h"

enum { ON_STACK = 32, EVENTS = NARU_IN | NARU_OUT };

static struct naru_wait *item_at(struct naru_wait *items, size_t i)
{
    return (struct naru_wait *)(void *)((char *)items + i * items->size);
}

/* The channel whose interruption ends the wait as well; NULL: it has none. */
static struct naru_channel *interruptible(const struct naru_wait *item)
{
    struct naru_channel *ch = item->channel;

    return ch && ch->interrupt_fd[CHANNEL_RECEIVING] >= 0 ? ch : NULL;
}

/* One entry an item for what makes it ready, and behind those of all items, from *count on, one for what
 * interrupts it, if anything does: poll(2) takes no more entries than there may be descriptors
 * (RLIMIT_NOFILE). 0 or an explained -errno. */
static int put(struct naru_wait *item, size_t number, struct pollfd *fds, size_t *count)
{
    int fd = item->fd, events = item->events;

    if (item->channel ? item->listener != NULL : !item->listener && (fd < 0 || events == 0))
        return error_set(
            EINVAL, "item %zu: expected a channel, or a listener, or an fd with NARU_IN, NARU_OUT or both",
            number);
    if (!item->channel && !item->listener && (events & ~EVENTS) != 0)
        return error_set(EINVAL, "item %zu: events is %#x; expected NARU_IN, NARU_OUT or both", number,
                         (unsigned)events);
    if (item->channel)
        fd = naru_channel_fd(item->channel);
    else if (item->listener)
        fd = naru_listener_fd(item->listener);
    if (fd < 0)
        return fd;
    fds[number] =
        (struct pollfd){.fd = fd, .events = (short)(item->channel || item->listener ? NARU_IN : events)};
    if (interruptible(item))
        fds[(*count)++] =
            (struct pollfd){.fd = item->channel->interrupt_fd[CHANNEL_RECEIVING], .events = POLLIN};
    return 0;
}

/* What poll(2) found. The number of ready items, or an explained -errno. */
static ssize_t take(struct naru_wait *items, size_t n, struct pollfd *fds)
{
    const struct pollfd *interrupt = fds + n;
    ssize_t ready = 0;

    for (size_t i = 0; i < n; i++) {
        struct naru_wait *item = item_at(items, i);
        int found = fds[i].revents;

        if (interruptible(item) && interrupt++->revents &&
            channel_take_interruption(item->channel, CHANNEL_RECEIVING))
            return error_expected(ECANCELED);
        if (found & POLLNVAL)
            return error_set(EBADF, "item %zu: descriptor %d is not open", i, fds[i].fd);
        if (item->channel || item->listener)
            item->ready = found ? NARU_IN : 0;
        else
            item->ready =
                found & ~EVENTS ? item->events : found; /* hung up, or in error: whatever it does, it says */
        ready += item->ready != 0;
    }
    return ready;
}

ssize_t naru_wait_any(struct naru_wait *items, size_t n, int64_t timeout_ns)
{
    struct pollfd on_stack[2 * ON_STACK], *fds = on_stack;
    int64_t deadline = deadline_after(timeout_ns);
    size_t count = n;
    ssize_t r = 0;

    if (n == 0)
        return error_set(EINVAL, "nothing to wait for: n is 0");
    for (size_t i = 0; i < n; i++)
        if (item_at(items, i)->size < sizeof *items || item_at(items, i)->size != items->size)
            return error_set(EINVAL,
                             "items[%zu].size is not sizeof(struct naru_wait); start from NARU_INIT()", i);
    if (n > ON_STACK && !(fds = calloc(n, 2 * sizeof *fds)))
        return error_set(ENOMEM, "out of memory to wait for %zu things", n);
    for (size_t i = 0; i < n && r == 0; i++)
        r = put(item_at(items, i), i, fds, &count);
    if (r == 0) {
        int ready = fd_poll(fds, count, deadline);

        r = ready > 0    ? take(items, n, fds)
            : ready == 0 ? error_expected(timeout_ns <= 0 ? EAGAIN : ETIMEDOUT)
            : ready == -EINVAL
                ? error_set(EINVAL,
                            "poll: %zu descriptors are more than RLIMIT_NOFILE, which has to be raised "
                            "(`ulimit -n`)",
                            count)
                : error_set(-ready, "poll: %s", error_text(-ready));
    }
    if (fds != on_stack)
        free(fds);
    return r;
}
