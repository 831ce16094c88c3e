/* SPDX-License-Identifier: MIT */
/*
 * Connecting a unix socket to a listener that may be yet to come. inotify tells when a path comes into being;
 * that somebody listens behind it, and that a backlog has room again, nothing tells, so there one looks
 * again.
 */
#include "channel/unix-connect.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/watch.h"

static int nobody_listens(const struct url *url, const struct unix_name *name)
{
    /* A name of shm: is a path that another user, or another environment, makes another one of. */
    bool hidden = name->path && !strstr(url->text, name->path);

    return error_set(ETIMEDOUT, "%s: nobody listens there%s%s; start the listener, or wait longer for it%s",
                     url->text, hidden ? ", at " : "", hidden ? name->path : "",
                     hidden ? "; a name is each user's own: two users meet at a path, as in shm:///path"
                            : "");
}

/* connect(2) said code, for good or when the time was up. */
static int connect_failed(const struct url *url, const struct unix_name *name, int code)
{
    switch (code) {
    case EAGAIN:
        return error_set(ETIMEDOUT,
                         "%s: the listener is there and its queue of connections is full; it must accept "
                         "some, or wait longer for it",
                         url->text);
    case EACCES:
    case EPERM:
        return error_set(
            code,
            "%s: permission denied; the socket's mode must let you write to it (?mode= where it is "
            "created) and its directories let you pass",
            url->text);
    case EPROTOTYPE: /* of shm: that means messages of another type */
        return strcmp(url->scheme, "unix") == 0
                   ? error_set(code,
                               "%s: a socket of another type listens there; try ?type=stream, seqpacket or "
                               "dgram",
                               url->text)
                   : error_set(EPROTO, "%s: a socket of another type listens there; connect to it by unix:",
                               url->text);
    case ENOTDIR:
        return error_set(code, "%s: a part of the path is not a directory", url->text);
    case ENOTSOCK:
        return error_set(code, "%s: something that is not a socket is there; choose another path", url->text);
    case ENAMETOOLONG:
        return unix_name_needs_proc(url, name);
    case ENOENT:
    case ECONNREFUSED:
        return nobody_listens(url, name);
    default:
        return error_set(code, "%s: cannot connect: %s", url->text, error_text(code));
    }
}

/* Why connect(2) failed. It says ECONNREFUSED of a file or directory too, which no wait makes a socket. */
static int why_refused(const struct unix_name *name)
{
    int code = errno;
    struct stat st;

    if (code == ECONNREFUSED && name->path && stat(name->path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return ENOTSOCK;
    return code;
}

/* Waits for what may let the next connect(2) succeed. 0, -ETIMEDOUT or -errno. */
static int wait_for_listener(struct watch *watch, bool *watching, const struct unix_name *name, int code,
                             int64_t *step, int64_t deadline)
{
    int64_t look_again = clock_now() + NARU_MS(100);
    int r;

    if (!name->path || code == EAGAIN)
        return backoff_sleep(step, deadline) ? 0 : -ETIMEDOUT;
    if (!*watching) {
        r = watch_init(watch, name->path);
        *watching = r == 0;
        return r; /* look once more before waiting */
    }
    if (code == ENOENT)
        return watch_wait(watch, deadline);
    /* ECONNREFUSED: bound, but listen(2) gives no event; naru's own listeners make one by chmod(2), others do
     * not. */
    r = watch_wait(watch, look_again < deadline ? look_again : deadline);
    return r == -ETIMEDOUT && deadline_left(deadline) > 0 ? 0 : r;
}

int unix_connect_until(int fd, const struct url *url, const struct unix_name *name, int64_t deadline)
{
    struct watch watch;
    bool watching = false;
    int64_t step = 0;
    int code = 0, r = 0;

    while (unix_name_connect(fd, name) < 0) {
        code = why_refused(name);
        if (code == EINTR)
            continue;
        /* EAGAIN: its backlog is full (connect(2)). The others: not yet, or not any more. */
        if (code != ENOENT && code != ECONNREFUSED && code != EAGAIN)
            r = connect_failed(url, name, code);
        else if (deadline_left(deadline) == 0)
            r = -ETIMEDOUT;
        else
            r = wait_for_listener(&watch, &watching, name, code, &step, deadline);
        if (r < 0)
            break;
    }
    if (watching)
        watch_deinit(&watch);
    return r == -ETIMEDOUT ? connect_failed(url, name, code) : r;
}
