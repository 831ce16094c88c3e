/* SPDX-License-Identifier: MIT */
#include "cli/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/now.h"
#include "cli/quantity.h"
#include "cli/report.h"

/* Until then, and not NARU_NOWAIT, which may leave it to the first message whether anybody answers. */
static int64_t left_until(int64_t deadline)
{
    int64_t left = deadline == NARU_FOREVER ? NARU_FOREVER : deadline - now();

    return left > 0 ? left : 1;
}

/* A wait that can be ended by a signal: naru_connect() has no channel to interrupt yet. */
static int connect_in_slices(struct endpoint *e, const char *url, const struct naru_options *opt,
                             int64_t deadline)
{
    for (;;) {
        int64_t left = left_until(deadline);
        bool last = left <= NARU_MS(200);
        int r = naru_connect(url, opt, last ? left : NARU_MS(200), &e->channel);

        if (r == -ETIMEDOUT && interrupt_signal())
            return -ECANCELED;
        if (r != -ETIMEDOUT || last)
            return r;
    }
}

/* Somebody who sits before the terminal learns why nothing happens. */
int endpoint_connect(struct endpoint *e, const char *url, const struct naru_options *opt, int64_t timeout_ns)
{
    bool tell = isatty(STDERR_FILENO) == 1 && timeout_ns > NARU_S(1);
    int64_t deadline = timeout_ns == NARU_FOREVER ? NARU_FOREVER : now() + timeout_ns;
    int r = -ETIMEDOUT;

    *e = (struct endpoint){0};
    if (tell)
        r = naru_connect(url, opt, NARU_MS(500), &e->channel);
    if (tell && r == -ETIMEDOUT && !interrupt_signal())
        report_note("%s; waiting for that", naru_explain());
    if (r == -ETIMEDOUT && interrupt_fd() >= 0)
        r = connect_in_slices(e, url, opt, deadline);
    else if (r == -ETIMEDOUT)
        r = naru_connect(url, opt, left_until(deadline), &e->channel);
    if (r == 0)
        interrupt_watch(e->channel);
    return r;
}

/* "tcp://:0", "udp://host:0?x=y" */
bool endpoint_is_port_chosen(const char *url)
{
    size_t length = strcspn(url, "?");

    return length > 2 && strncmp(url + length - 2, ":0", 2) == 0 && strchr(url, '/');
}

/* Whoever lets the kernel choose a port must learn which it is. */
int endpoint_listen(struct endpoint *e, const char *url, const struct naru_options *opt)
{
    int r;

    *e = (struct endpoint){0};
    r = interrupt_graceful();
    if (r == 0)
        r = naru_listen(url, opt, &e->listener);
    if (r == 0 && endpoint_is_port_chosen(url))
        report_note("listening on %s", naru_listener_url(e->listener));
    return r;
}

/* Waits for fd or a signal. 1: ready, 0: the time is up, -errno. */
static int wait_for(int fd, short events, int64_t timeout_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = interrupt_fd(), .events = POLLIN}};
    int64_t deadline = timeout_ns == NARU_FOREVER ? NARU_FOREVER : now() + timeout_ns;

    for (;;) {
        int64_t left = deadline == NARU_FOREVER ? NARU_FOREVER : deadline - now();
        struct timespec limit;
        int n;

        left = left < 0 ? 0 : left;
        limit = (struct timespec){.tv_sec = left / NARU_S(1), .tv_nsec = left % NARU_S(1)};
        n = ppoll(fds, 2, left == NARU_FOREVER ? NULL : &limit, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (fds[1].revents)
            return -ECANCELED;
        return n;
    }
}

/* Not all that ends a listener shows in its descriptor (naru_listener_fd(3)), and some have none: it is tried
 * this often. */
static const int64_t try_again_with_fd = NARU_S(1), try_again_without = NARU_MS(10);

int endpoint_accept(struct endpoint *e, int64_t timeout_ns)
{
    int64_t deadline = timeout_ns == NARU_FOREVER ? NARU_FOREVER : now() + timeout_ns;
    int fd = naru_listener_fd(e->listener); /* negative: it has none, and poll(2) leaves it out */
    int64_t try_again = fd < 0 ? try_again_without : try_again_with_fd;
    int r;

    interrupt_unwatch(e->channel);
    e->channel = naru_channel_close(e->channel);
    do {
        int64_t left;

        r = naru_accept(e->listener, NARU_NOWAIT, &e->channel);
        if (r != -EAGAIN)
            break;
        left = deadline == NARU_FOREVER ? NARU_FOREVER : deadline - now();
        r = wait_for(fd, (short)naru_listener_want(e->listener), left < try_again ? left : try_again);
        if (r == 0 && left <= try_again)
            return naru_accept(e->listener, NARU_US(1), &e->channel); /* which explains that time is up */
    } while (r >= 0);
    if (r == 0)
        interrupt_watch(e->channel);
    return r;
}

void endpoint_close(struct endpoint *e)
{
    interrupt_unwatch(e->channel);
    e->channel = naru_channel_close(e->channel);
    e->listener = naru_listener_close(e->listener);
}

static bool is_type(const char *url, const char *variant)
{
    const char *query = strchr(url, '?');
    size_t length = strlen(variant);

    for (; query; query = strchr(query + 1, '&'))
        if (strncmp(query + 1, "type=", 5) == 0)
            return strncmp(query + 6, variant, length) == 0 &&
                   (query[6 + length] == '&' || !query[6 + length]);
    return false;
}

/* Rows of one scheme are named scheme-type, as "unix-seqpacket"; the first of them is the default. */
const struct naru_mechanism *endpoint_mechanism(const char *url)
{
    const struct naru_mechanism *row = NULL, *first = NULL;
    size_t length = url[0] == '-' ? 1 : strcspn(url, ":");

    while ((row = naru_mechanism_next(row))) {
        const char *dash = strchr(row->name, '-');

        if (strlen(row->scheme) != length || strncmp(row->scheme, url, length) != 0)
            continue;
        if (!first)
            first = row;
        if (dash && is_type(url, dash + 1))
            return row;
    }
    return first;
}

bool endpoint_should_listen(const char *url, bool asked)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);
    uint32_t roles = row ? row->capabilities & (NARU_CAN_LISTEN | NARU_CAN_CONNECT) : 0;

    return roles == NARU_CAN_LISTEN || (asked && roles != NARU_CAN_CONNECT);
}

/* fd:N names what this command was started with. What it opened itself (or will, before N is looked at)
 * closes on exec, which no inherited descriptor does, and is nobody's business. */
static bool is_not_inherited(const char *url)
{
    int64_t fd;
    int flags;

    if (strncmp(url, "fd:", 3) != 0 || !parse_number(url + 3, &fd) || fd < 0 || fd > INT_MAX)
        return false;
    flags = fcntl((int)fd, F_GETFD);
    return flags < 0 || (flags & FD_CLOEXEC);
}

int endpoint_check(const char *url, bool listens)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);

    if (is_not_inherited(url))
        return report(NARU_EXIT_FAILED, "%s: this command was started without that descriptor", url);

    if (row && !(row->capabilities & (NARU_CAN_LISTEN | NARU_CAN_CONNECT)))
        return report(NARU_EXIT_USAGE,
                      "%s: %s has no name under which another program could find it; "
                      "use fifo: or unix:, or exec: for a command",
                      url, row->name);
    if (row && listens && !(row->capabilities & NARU_CAN_LISTEN))
        return report(NARU_EXIT_USAGE, "%s: nobody can connect to %s; leave out --listen", url, row->name);
    return NARU_EXIT_OK;
}

char *endpoint_add_option(const char *url, const char *key, const char *value)
{
    char *longer;

    if (asprintf(&longer, "%s%c%s=%s", url, strchr(url, '?') ? '&' : '?', key, value) < 0)
        return NULL;
    return longer;
}
