/* SPDX-License-Identifier: MIT */
/* Listeners: the public calls over a mechanism's listen and accept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/channel.h"

static struct naru_listener *listener_free(struct naru_listener *l)
{
    if (l->ops->unlisten)
        l->ops->unlisten(l, fork_guard_is_mine(&l->guard));
    fork_guard_close(&l->guard);
    free(l->url);
    free(l);
    return NULL;
}

/* No other thread forks between the opening of descriptors and their coming into the guarded fields. A name
 * server may have to be waited for: not with the others' forks held off; tcp: and udp: hold them themselves.
 */
static int listen_unforked(struct naru_listener *l, struct url *url)
{
    bool may_wait = l->ops->row.capabilities & NARU_CAN_REACH_NETWORK;
    int r;

    if (!may_wait)
        fork_hold();
    r = l->ops->listen(l, url, &l->options);
    if (!may_wait)
        fork_release();
    return r;
}

static int listen_url(struct url *url, const struct naru_options *opt, struct naru_listener **ret_l)
{
    const struct channel_ops *ops = channel_find(url);
    struct naru_options options;
    struct naru_listener *l;
    int r;

    if (!ops)
        return -EINVAL;
    if (!ops->listen)
        return error_set(ENOTSUP, "%s: %s cannot be listened on; use naru_connect() or naru_channel_pair()",
                         url->text, url->scheme);
    r = channel_options(url, opt, false, &options);
    if (r < 0)
        return r;
    l = calloc(1, sizeof *l);
    if (!l || !(l->url = strdup(url->text))) {
        free(l);
        return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
    }
    l->ops = ops;
    l->options = options;
    l->fd = l->lock_fd = l->name_fd = -1;
    fork_guard_init(&l->guard);
    fork_guard_add(&l->guard, &l->fd);
    fork_guard_add(&l->guard, &l->lock_fd);
    fork_guard_add(&l->guard, &l->name_fd);
    r = listen_unforked(l, url);
    if (r < 0) {
        fork_guard_close(&l->guard);
        free(l->url);
        free(l);
        return r;
    }
    r = url_check_unused(url);
    if (r < 0) {
        (void)listener_free(l);
        return r;
    }
    *ret_l = l;
    return 0;
}

int naru_listen(const char *url, const struct naru_options *opt, struct naru_listener **ret_l)
{
    struct url parsed;
    int r = url_parse(url, &parsed);

    if (r < 0)
        return r;
    r = listen_url(&parsed, opt, ret_l);
    url_deinit(&parsed);
    return r;
}

/* How often a waiting accept looks whether its name is still there, where nothing announces that it goes.
 * inotify(7) would, but a user has few instances of it (fs.inotify.max_user_instances: 128), and listeners
 * may be many. */
static const int64_t look_again = NARU_S(1);

static bool is_name_removed(const struct naru_listener *l)
{
    return l->name_fd >= 0 && fd_is_removed(l->name_fd);
}

static int name_removed(const struct naru_listener *l)
{
    return error_set(
        ENOENT,
        "%s: the name was removed or replaced, so that nobody can connect here any more; listen again",
        l->url);
}

/* Waits until an accept is worth it. 0, -ETIMEDOUT or another -errno. */
static int wait_listener(struct naru_listener *l, int64_t deadline, int64_t *step)
{
    struct pollfd fds = {.fd = l->fd, .events = POLLIN};
    int64_t until = l->name_fd >= 0 ? clock_now() + look_again : deadline;
    int r;

    if (l->fd < 0 && l->ops->await && deadline_left(deadline) > 0) {
        l->ops->await(l, deadline);
        return 0;
    }
    if (l->fd < 0)
        return backoff_sleep(step, deadline) ? 0 : error_expected(ETIMEDOUT);
    if (deadline_left(deadline) == 0) /* though fd may be ready, for peers who come to nothing one by one */
        return error_expected(ETIMEDOUT);
    r = fd_poll(&fds, 1, until < deadline ? until : deadline);
    if (r < 0)
        return error_set(-r, "%s: poll: %s", l->url, error_text(-r));
    return r || until < deadline ? 0 : error_expected(ETIMEDOUT);
}

static int accept_until(struct naru_listener *l, int64_t timeout_ns, struct naru_channel *ch)
{
    int64_t deadline = deadline_after(timeout_ns), step = 0;
    bool removed = false;

    for (;;) {
        int r;

        fork_hold(); /* an attempt does not wait */
        r = l->ops->accept(l, ch);
        fork_release();
        if (r != -EAGAIN && r != -EINTR)
            return r;
        if (r == -EAGAIN && removed)
            return name_removed(l);
        if (r == -EAGAIN && (removed = is_name_removed(l)))
            continue; /* who connected before that is still accepted */
        if (r == -EAGAIN && timeout_ns <= 0)
            return error_expected(EAGAIN);
        r = r == -EINTR ? 0 : wait_listener(l, deadline, &step);
        if (r == -ETIMEDOUT && l->ops->say_nobody)
            return l->ops->say_nobody(l);
        if (r < 0)
            return r;
    }
}

/* Of a finished listener: whoever had connected is there, or nobody is. */
static int accept_rest(struct naru_listener *l, struct naru_channel *ch)
{
    int r = accept_until(l, NARU_NOWAIT, ch);

    return r == -EAGAIN || r == -EINVAL || r == -ENOENT
               ? error_set(ENOTCONN, "%s: all who had connected before naru_listener_finish() are accepted",
                           l->url)
               : r;
}

int naru_accept(struct naru_listener *l, int64_t timeout_ns, struct naru_channel **ret_ch)
{
    bool many = l->ops->row.capabilities & NARU_CAN_ACCEPT_MANY;
    struct naru_channel *ch;
    int r = fork_guard_enter(&l->guard);

    if (r < 0)
        return r;
    if (!many && l->taken)
        return error_set(
            EBUSY, "%s: %s has no connections: the one channel that receives from everybody is open already",
            l->url, l->ops->row.name);
    r = channel_new_owned(l->ops, l->url, &l->options, &ch);
    if (r < 0)
        return r;
    r = l->finished ? accept_rest(l, ch) : accept_until(l, timeout_ns, ch);
    if (r < 0) {
        channel_abandon(ch);
        return r;
    }
    if (!many) {
        l->taken = ch;
        ch->listener = l;
    }
    *ret_ch = ch;
    return 0;
}

int naru_listener_finish(struct naru_listener *l)
{
    int r = fork_guard_enter(&l->guard);

    if (r < 0 || l->finished)
        return r;
    if (!l->ops->stop || !(l->ops->row.capabilities & NARU_CAN_ACCEPT_MANY))
        return error_set(ENOTSUP, "%s: on %s nobody can be kept from connecting but by naru_listener_close()",
                         l->url, l->ops->row.name);
    l->finished = true;
    fork_hold(); /* it does not wait */
    r = l->ops->stop(l);
    fork_release();
    return r;
}

int naru_listener_dispatch(struct naru_listener *l)
{
    int r = fork_guard_enter(&l->guard);

    if (r < 0 || !l->ops->dispatch)
        return r;
    fork_hold(); /* it does not wait */
    r = l->ops->dispatch(l);
    fork_release();
    return r;
}

int naru_listener_fd(struct naru_listener *l)
{
    int r = fork_guard_enter(&l->guard);

    if (r < 0)
        return r;
    return l->fd >= 0 ? l->fd
                      : error_set(ENOTSUP, "%s: %s has no descriptor to poll", l->url, l->ops->row.name);
}

int naru_listener_want(struct naru_listener *l)
{
    (void)l;
    return NARU_IN;
}

const char *naru_listener_url(const struct naru_listener *l)
{
    return l->url;
}

struct naru_listener *naru_listener_close(struct naru_listener *l)
{
    if (!l)
        return NULL;
    if (l->taken)
        l->taken->listener = NULL;
    return listener_free(l);
}

int naru_remove(const char *url)
{
    const struct channel_ops *ops;
    struct url parsed;
    int r = url_parse(url, &parsed);

    if (r < 0)
        return r;
    ops = channel_find(&parsed);
    if (!ops)
        r = -EINVAL;
    else if (!ops->remove)
        r = error_set(ENOTSUP, "%s: %s leaves nothing behind that could be removed", url, parsed.scheme);
    else
        r = ops->remove(&parsed);
    url_deinit(&parsed);
    return r;
}
