/* SPDX-License-Identifier: MIT */
/* The writing side of a FIFO, which waits for somebody to read; and what both sides say. */
#include "channel/fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/watch.h"
#include "channel/pipe-io.h"
#include "channel/stream.h"

int fifo_is_none(const char *url, const char *path)
{
    return error_set(EEXIST, "%s: %s exists and is not a FIFO; remove it, or choose another path", url, path);
}

int fifo_check_path(const struct url *url)
{
    if (*url->target)
        return 0;
    return error_set(EINVAL, "%s: expected the path of a FIFO, as in fifo:///run/my.fifo", url->text);
}

int fifo_wrong_direction(const struct url *url, const char *call, const char *does)
{
    return error_set(ENOTSUP, "%s: a FIFO goes one way: the side that %s %s", url->text, call, does);
}

int fifo_open_failed(const struct url *url, const char *what)
{
    int code = errno;

    if (code == EACCES)
        return error_set(
            code, "%s: permission denied to %s; the FIFO's mode, or that of a directory above, forbids it",
            url->text, what);
    return error_set(code, "%s: cannot open the FIFO to %s: %s", url->text, what, error_text(code));
}

/* One attempt to open for writing: 0, -EAGAIN if there is no FIFO or no reader yet, or -errno. */
static int open_writer(const struct url *url, int *ret_fd, bool *ret_exists)
{
    FD_CLEANUP int fd = -1;
    struct stat status;

    *ret_exists = false;
    if (stat(url->target, &status) < 0)
        return errno == ENOENT ? -EAGAIN : fifo_open_failed(url, "write to it");
    *ret_exists = true;
    if (!S_ISFIFO(status.st_mode))
        return fifo_is_none(url->text, url->target);
    fd = open(url->target, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENXIO || errno == ENOENT ? -EAGAIN : fifo_open_failed(url, "write to it");
    if (fd_type(fd) != S_IFIFO)
        return fifo_is_none(url->text, url->target);
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* Until a look is worth it. A reader that is not naru sleeps inside its open(2) until a writer comes, and
 * inotify tells of an open only when it is done: once the FIFO exists, look from time to time as well. */
static int wait_for_change(struct watch *watch, bool exists, int64_t *step, int64_t deadline)
{
    int64_t look;
    int r;

    if (!exists)
        return watch_wait(watch, deadline);
    *step = *step ? *step * 2 : NARU_MS(1);
    if (*step > NARU_MS(50))
        *step = NARU_MS(50);
    look = clock_now() + *step;
    r = watch_wait(watch, look < deadline ? look : deadline);
    return r == -ETIMEDOUT && deadline_left(deadline) > 0 ? 0 : r;
}

static int try_writer(struct naru_channel *ch, const struct url *url, bool *ret_exists)
{
    int r;

    fork_hold();
    r = open_writer(url, &ch->wfd, ret_exists);
    fork_release();
    return r;
}

static int wait_for_reader(struct naru_channel *ch, const struct url *url, int64_t deadline)
{
    struct watch watch;
    bool exists = false;
    int64_t step = 0;
    int r = watch_init(&watch, url->target);

    if (r < 0)
        return r;
    do
        r = try_writer(ch, url, &exists);
    while (r == -EAGAIN && (r = wait_for_change(&watch, exists, &step, deadline)) == 0);
    watch_deinit(&watch);
    if (r == -ETIMEDOUT)
        return error_set(ETIMEDOUT, "%s: %s; start the reader first, or wait longer", url->text,
                         exists ? "nobody has the FIFO open to read from it" : "there is no such FIFO");
    return r;
}

int fifo_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt, int64_t deadline)
{
    struct fifo_options unused;
    int r = fifo_check_path(url);

    if (r < 0)
        return r;
    if (opt->direction & NARU_DIRECTION_RECEIVE)
        return fifo_wrong_direction(url, "connects", "sends");
    r = fifo_parse_options(url, opt, &unused);
    if (r == 0)
        r = url_check_unused(url); /* before a long wait */
    if (r < 0)
        return r;
    r = wait_for_reader(ch, url, deadline);
    if (r < 0)
        return r;
    ch->direction = NARU_DIRECTION_SEND;
    ch->io[CHANNEL_SENDING].nonblocking = true;
    r = pipe_io_set_buffer(ch->url, ch->wfd, opt);
    return r < 0 ? r : channel_make_stream(ch, opt, NARU_FRAME_LEN32, true);
}
