/* SPDX-License-Identifier: MIT */
/*
 * file: the reading side. A reader follows the file as it grows, from a position of its own.
 *
 * A regular file is always "ready", at its end too (poll(2)), so inotify tells when there is more.
 * I1  `at_end` is set only by a look at the file (a read of 0 bytes, or its size) that came after the inotify
 *     queue was emptied. So whatever is appended later makes the inotify descriptor readable, and as long as
 *     at_end is not set naru_channel_fd() is held readable by file_holds(): no event loop sleeps in front of
 *     unread records.
 * I2  The end of the file is not the end of the stream: a record of which a part is missing is waited for
 *     (by ?follow=no alone, end is end). What was read of it is forgotten and read again, as its writer may
 *     take it back: so at the end `offset` is always that of a record.
 * I3  Only at the end is the file itself looked at: cut short, removed, replaced. So everything that was
 *     written is delivered first. A file that is cut short and grows beyond our position before we look
 *     cannot be told from one that grew.
 */
#include "channel/file-follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/watch.h"
#include "channel/stream.h"

/* A reader's own. The watch lends its descriptor to ch->poll_fd, with which it is closed. */
struct follower {
    bool follow, at_end;
    int64_t offset; /* of the next byte to read */
    char *path;
    struct watch watch;
};

/* A listener's own. */
struct file_listener {
    struct file_options options;
    char *path;
    struct watch watch;
};

/* What became of an open file. */
enum fate {
    FATE_GOOD,
    FATE_UNKNOWN, /* errno says why */
    FATE_CUT,     /* it ends before our position */
    FATE_GONE,    /* its name leads nowhere */
    FATE_REPLACED /* its name leads to another file */
};

static int no_memory(const char *url)
{
    return error_set(ENOMEM, "%s: out of memory to follow the file", url);
}

static struct follower *follower_free(struct follower *f)
{
    if (f) {
        watch_deinit(&f->watch);
        free(f->path);
    }
    free(f);
    return NULL;
}

static struct follower *follower_new(const char *path)
{
    struct follower *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->watch.fd = -1;
    f->path = strdup(path);
    return f->path ? f : follower_free(f);
}

/* --- at the end --- */

static enum fate fate_of(const struct naru_channel *ch, const struct follower *f, int64_t *ret_size)
{
    struct stat opened, named;

    if (fstat(ch->rfd, &opened) < 0)
        return FATE_UNKNOWN;
    *ret_size = opened.st_size;
    if (opened.st_size < f->offset)
        return FATE_CUT;
    if (stat(f->path, &named) < 0)
        return FATE_GONE;
    return named.st_dev == opened.st_dev && named.st_ino == opened.st_ino ? FATE_GOOD : FATE_REPLACED;
}

/* Whether more may come here. 0, or the explained reason why not. */
static int examine(const struct naru_channel *ch, const struct follower *f)
{
    int64_t size = 0;

    switch (fate_of(ch, f, &size)) {
    case FATE_GOOD:
        return 0;
    case FATE_CUT:
        return error_set(ESTALE,
                         "%s: the file was cut to %" PRId64 " bytes, and %" PRId64
                         " were read already; open it "
                         "again to read what it holds now",
                         ch->url, size, f->offset);
    case FATE_GONE:
        return error_set(ENOENT, "%s: the file was removed or renamed; all that it held has been received",
                         ch->url);
    case FATE_REPLACED:
        return error_set(ENOENT,
                         "%s: the file was replaced by another one of that name; all that it held has been "
                         "received, open it again to read the new one",
                         ch->url);
    default:
        return error_set(errno, "%s: fstat: %s", ch->url, error_text(errno));
    }
}

/* Whether a receive is worth a call, asked while the stream holds no whole message. */
bool file_holds(struct naru_channel *ch)
{
    struct follower *f = ch->state;
    int64_t size = 0;

    if (f->at_end)
        return false;
    (void)watch_drain(&f->watch);
    f->at_end = fate_of(ch, f, &size) == FATE_GOOD && size == f->offset;
    return !f->at_end;
}

/* --- reading --- */

static ssize_t read_on(struct naru_channel *ch, struct follower *f, const struct iovec *iov, int count)
{
    ssize_t n = preadv(ch->rfd, iov, count, f->offset);

    if (n < 0)
        return errno == EINTR ? -EINTR : error_set(errno, "%s: read: %s", ch->url, error_text(errno));
    f->offset += n;
    f->at_end = false;
    return n;
}

ssize_t file_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                  bool block)
{
    struct follower *f = ch->state;
    ssize_t n = read_on(ch, f, iov, count);
    int r;

    (void)fds;
    (void)block; /* nothing here sleeps: file_wait() does */
    if (n != 0)
        return n;
    if (!f->follow) {
        r = examine(ch, f);
        return r == -ESTALE ? r : 0; /* that the name is gone does not matter to who wants no more */
    }
    (void)watch_drain(&f->watch);
    n = read_on(ch, f, iov, count); /* what came before the queue was emptied */
    if (n != 0)
        return n;
    f->offset -= (int64_t)stream_forget(ch->stream);
    r = examine(ch, f);
    if (r < 0)
        return r;
    f->at_end = true;
    return -EAGAIN;
}

int file_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    const struct follower *f = ch->state;

    return f->watch.fd < 0 || f->watch.weak ? channel_wait_backoff(ch, event, deadline)
                                            : channel_wait_poll(ch, event, deadline);
}

void file_unfollow(struct naru_channel *ch)
{
    struct follower *f = ch->state;

    f->watch.fd = -1; /* it is ch->poll_fd */
    (void)follower_free(f);
}

/* --- opening --- */

/* Makes the channel of an opened file; takes over the watch. */
static int become_follower(struct naru_channel *ch, const char *path, const struct file_options *options,
                           const struct naru_options *opt, struct watch *watch)
{
    struct follower *f;
    int r = channel_make_stream(ch, opt, NARU_FRAME_LINE, false);

    if (r < 0)
        return r;
    f = follower_new(path);
    if (!f)
        return no_memory(ch->url);
    r = file_start_offset(ch->url, ch->rfd, &options->start, stream_frame(ch->stream), ch->max_message,
                          &f->offset);
    if (r < 0) {
        (void)follower_free(f);
        return r;
    }
    f->follow = options->follow;
    watch_move(watch, &f->watch);
    if (f->watch.weak) /* a descriptor that does not show everything is none to poll */
        fork_close(&f->watch.fd);
    ch->poll_fd = f->watch.fd;
    ch->state = f;
    ch->direction = NARU_DIRECTION_RECEIVE;
    return 0;
}

static int try_reader(struct naru_channel *ch, const struct url *url)
{
    int r;

    fork_hold();
    r = file_open_reader(url->text, url->target, &ch->rfd);
    fork_release();
    return r;
}

int file_follow(struct naru_channel *ch, struct url *url, const struct file_options *options,
                const struct naru_options *opt, int64_t deadline)
{
    struct watch watch;
    int r = watch_init_events(&watch, url->target, WATCH_CHANGES);

    if (r < 0)
        return r;
    do
        r = try_reader(ch, url);
    while (r == -EAGAIN && (r = watch_wait(&watch, deadline)) == 0);
    if (r == -ETIMEDOUT)
        r = error_set(ETIMEDOUT, "%s: there is no such file; it is made when something is sent to it",
                      url->text);
    if (r == 0)
        r = become_follower(ch, url->target, options, opt, &watch);
    watch_deinit(&watch);
    return r;
}

/* --- listening --- */

static struct file_listener *listener_free(struct file_listener *w)
{
    if (w) {
        watch_deinit(&w->watch);
        free(w->path);
    }
    free(w);
    return NULL;
}

/* What can never be read is refused at once; what is not there is made, or waited for in the accept; but who
 * reads to the end and no further has nothing to wait for, and a name he mistyped is not made. */
static int make_or_look(const struct url *url, const struct file_options *options, unsigned mode)
{
    FD_CLEANUP int fd = -1;
    FD_CLEANUP int made = -1;
    int r = file_open_reader(url->text, url->target, &fd);

    if (r == -EAGAIN && !options->follow)
        return error_set(ENOENT, "%s: there is no such file, and ?follow=no waits for none", url->text);
    if (r == -EAGAIN && options->create)
        r = file_create(url->text, url->target, mode, &made);
    return r == -EAGAIN ? 0 : r;
}

int file_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct file_options options;
    struct file_listener *w;
    int r = file_parse(url, &options);

    if (r < 0)
        return r;
    if (opt->direction & NARU_DIRECTION_SEND)
        return error_set(ENOTSUP, "%s: whoever listens on a file receives; connect to append to it",
                         url->text);
    w = calloc(1, sizeof *w);
    if (!w)
        return no_memory(url->text);
    w->options = options;
    w->watch.fd = -1;
    w->path = strdup(url->target);
    r = w->path ? watch_init(&w->watch, w->path) : no_memory(url->text);
    if (r == 0)
        r = make_or_look(url, &options, opt->mode);
    if (r < 0) {
        (void)listener_free(w);
        return r;
    }
    /* Our own open is an event, so the listener shows itself ready if the file is there. Where inotify cannot
     * see, the accept looks by back-off. */
    if (!w->watch.weak)
        l->fd = fd_steal(&w->watch.fd);
    l->state = w;
    return 0;
}

void file_unlisten(struct naru_listener *l, bool owner)
{
    struct file_listener *w = l->state;

    if (owner && w->options.unlink)
        (void)unlink(w->path); /* if it cannot be removed, it stays, as without ?unlink=yes */
    (void)listener_free(w);
}

int file_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct file_listener *w = l->state;
    struct watch watch;
    int r;

    if (l->fd >= 0) {
        w->watch.fd = l->fd;
        (void)watch_drain(&w->watch);
        w->watch.fd = -1;
    }
    r = file_open_reader(ch->url, w->path, &ch->rfd);
    if (r == 0)
        r = watch_init_events(&watch, w->path, WATCH_CHANGES);
    if (r < 0)
        return r;
    r = become_follower(ch, w->path, &w->options, &l->options, &watch);
    watch_deinit(&watch);
    return r;
}
