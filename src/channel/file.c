/* SPDX-License-Identifier: MIT */
/*
 * file: a regular file as a log. Whoever connects appends records; whoever listens (or connects to receive)
 * follows the file as it grows, each reader from a position of its own, so all of them get everything.
 *
 * Appending. A record is one writev(2) with O_APPEND: the kernel puts it behind everything else in one piece,
 * also among several writers (write(2), O_APPEND). What a full disk or a size limit cuts short is taken away
 * again, so that no reader ever meets half a record.
 *
 * Following. A regular file is always "ready", at its end too (poll(2)), so inotify tells when there is more.
 * I1  `at_end` is set only by a read of 0 bytes that came after the inotify queue was emptied. So whatever is
 *     appended later makes the inotify descriptor readable, and as long as at_end is not set
 * naru_channel_fd() is held readable by file_holds(): no event loop sleeps in front of unread records. I2 The
 * end of the file is not the end of the stream: a record of which a part is missing is waited for (by
 * ?follow=no alone, end is end). What was read of it is forgotten and read again, as its writer may take it
 * back: so at the end `offset` is always that of a record. I3  Only at the end is the file itself looked at:
 * cut short, removed, replaced. So everything that was written is delivered first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/watch.h"
#include "channel/file-io.h"
#include "channel/file-position.h"
#include "channel/stream.h"
#include "channel/table.h"

enum {
    PIECES_AT_ONCE = 60,   /* of a message, that stream.c certainly puts into one write */
    WRITE_MAX = 0x7ffff000 /* bytes that one write takes (write(2), Notes) */
};

/* A writer's or reader's own. The watch lends its descriptor to ch->poll_fd, which closes it. */
struct file {
    bool sync;      /* writer: fdatasync(2) after each record */
    bool unlimited; /* writer: RLIMIT_FSIZE is none of our worries */
    bool follow;    /* reader */
    bool at_end;    /* reader: see I1 */
    int64_t offset; /* reader: of the next byte to read */
    char *path;
    struct watch watch;
};

/* A listener's own, until its one channel takes it over. */
struct follower {
    struct file_start start;
    bool follow, unlink;
    char *path;
    struct watch watch;
};

static struct file *file_free(struct file *f)
{
    if (f) {
        watch_deinit(&f->watch);
        free(f->path);
    }
    free(f);
    return NULL;
}

static struct file *file_new(const char *path)
{
    struct file *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->watch.fd = -1;
    f->path = strdup(path);
    return f->path ? f : file_free(f);
}

static int no_memory(const char *url)
{
    return error_set(ENOMEM, "%s: out of memory for a channel", url);
}

static int check_path(const struct url *url)
{
    if (*url->target)
        return 0;
    return error_set(EINVAL, "%s: expected the path of a file, as in file:///var/log/my.log", url->text);
}

static int refuse(const char *url, unsigned type)
{
    if (type == S_IFDIR)
        return error_set(EISDIR, "%s: that is a directory; name a file in it", url);
    return error_set(EEXIST, "%s: that is %s, not a regular file; %s", url,
                     type == S_IFIFO    ? "a FIFO"
                     : type == S_IFSOCK ? "a socket"
                                        : "a device",
                     type == S_IFIFO    ? "use fifo:"
                     : type == S_IFSOCK ? "use unix:"
                                        : "open it and use fd:");
}

static int open_failed(const char *url, const char *path, const char *what)
{
    int code = errno;
    struct stat status;

    /* ENXIO: a socket, or a FIFO that nobody reads. */
    if ((code == ENXIO || code == EISDIR) && stat(path, &status) == 0)
        return refuse(url, status.st_mode & S_IFMT);
    return error_set(code, "%s: cannot open the file to %s: %s%s", url, what, error_text(code),
                     code == ENOENT ? "; the directory must exist" : "");
}

/* --- writing --- */

/* Opens for appending and creates, with just these permission bits whatever the umask. */
static int open_append(const struct url *url, unsigned mode, int *ret_fd)
{
    const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK; /* a FIFO must not make us wait */
    FD_CLEANUP int fd = -1;

    for (;;) {
        fd = open(url->target, flags);
        if (fd >= 0 || errno != ENOENT)
            break;
        fd = open(url->target, flags | O_CREAT | O_EXCL, mode);
        if (fd >= 0 && fchmod(fd, mode) < 0)
            return error_set(errno, "%s: cannot set the file's mode to %04o: %s", url->text, mode,
                             error_text(errno));
        if (fd >= 0 || errno != EEXIST)
            break;
        /* Somebody else made it between the two: it can be opened now. A link that leads nowhere cannot. */
        if (access(url->target, F_OK) < 0)
            return error_set(ENOENT, "%s: a symbolic link that leads nowhere", url->text);
    }
    if (fd < 0)
        return open_failed(url->text, url->target, "append to it");
    if (fd_type(fd) != S_IFREG)
        return refuse(url->text, fd_type(fd));
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int connect_writer(struct naru_channel *ch, struct url *url, const struct naru_options *opt)
{
    static const char *const words[] = {"none", "each", NULL};
    int sync = 0;
    int r = url_option_word(url, "sync", words, &sync);
    struct file *f;

    if (r == 0)
        r = url_check_unused(url); /* before a file is made */
    if (r == 0)
        r = open_append(url, opt->mode, &ch->wfd);
    if (r == 0)
        r = channel_make_stream(ch, opt, NARU_FRAME_LINE, false);
    if (r < 0)
        return r;
    f = file_new(url->target);
    if (!f)
        return no_memory(url->text);
    f->sync = sync == 1;
    f->unlimited = file_io_unlimited();
    ch->state = f;
    ch->direction = NARU_DIRECTION_SEND;
    return 0;
}

/* A record was cut short after n bytes: takes them away, and says why. Another writer's record may stand
 * behind it by now; then the piece has to stay. (Between fstat and ftruncate another one can still slip in;
 * on a full disk hardly, and no lock that every appending program heeds exists.) */
static int undo(struct naru_channel *ch, ssize_t n)
{
    off_t end = lseek(ch->wfd, 0, SEEK_CUR); /* O_APPEND leaves the position behind what was written */
    int code = file_io_why_short(end);
    struct stat status;

    if (end >= n && fstat(ch->wfd, &status) == 0 && status.st_size == end && ftruncate(ch->wfd, end - n) == 0)
        return error_set(code, "%s: %s: nothing of the message was kept", ch->url,
                         code == EFBIG ? "the file has reached this process's limit (ulimit -f)"
                                       : "the disk, or the quota, is full");
    return error_set(
        code, "%s: %s, and %zd bytes of the message stay in the file, because another writer's follow them",
        ch->url, error_text(code), n);
}

static ssize_t total_of(const struct iovec *iov, int count)
{
    ssize_t total = 0;

    for (int i = 0; i < count; i++)
        total += (ssize_t)iov[i].iov_len;
    return total;
}

static ssize_t file_write(struct naru_channel *ch, const struct iovec *iov, int count,
                          const struct stream_fds *fds, bool block)
{
    const struct file *f = ch->state;
    ssize_t total = total_of(iov, count);
    ssize_t n;

    (void)fds;
    (void)block; /* a regular file takes it or refuses it, and never makes one wait for room */
    if (total > WRITE_MAX)
        return channel_too_large(ch, (size_t)total, WRITE_MAX, "");
    n = file_io_write(ch->wfd, iov, count, f->unlimited);
    if (n == -EINTR)
        return n;
    if (n == -EFBIG)
        return error_set(EFBIG,
                         "%s: the file has reached this process's limit (ulimit -f): nothing of the message "
                         "was kept",
                         ch->url);
    if (n < 0)
        return error_set((int)-n, "%s: write: %s", ch->url, error_text((int)-n));
    if (n < total)
        return undo(ch, n);
    if (f->sync && fdatasync(ch->wfd) < 0)
        return error_set(
            errno, "%s: the message is in the file, but fdatasync says that the disk may not have it: %s",
            ch->url, error_text(errno));
    return n;
}

/* So many pieces that stream.c would need more than one write are put together first: a record is one write.
 */
static int file_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct naru_message whole = *m;
    struct iovec piece;
    int r;

    if (m->iov_count <= PIECES_AT_ONCE)
        return stream_send(ch, m, block);
    piece.iov_len = message_length(m);
    piece.iov_base = malloc(piece.iov_len ? piece.iov_len : 1);
    if (!piece.iov_base)
        return error_set(ENOMEM, "%s: out of memory to put %zu pieces together", ch->url, m->iov_count);
    (void)message_gather(m, piece.iov_base, piece.iov_len);
    whole.iov = &piece;
    whole.iov_count = 1;
    r = stream_send(ch, &whole, block);
    free(piece.iov_base);
    return r;
}

static ssize_t file_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    int r;

    if (m->iov_count <= PIECES_AT_ONCE)
        return stream_send_batch(ch, m, n, block);
    r = file_send(ch, m, block);
    return r < 0 ? r : 1;
}

/* --- reading --- */

/* One attempt to open for reading: -EAGAIN if the file is not there yet. */
static int open_reader(const char *url, const char *path, int *ret_fd)
{
    FD_CLEANUP int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : open_failed(url, path, "read it");
    if (fd_type(fd) != S_IFREG)
        return refuse(url, fd_type(fd));
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int parse_reader_options(struct url *url, struct file_start *start, bool *follow)
{
    int r = check_path(url);

    *follow = true;
    if (r == 0)
        r = file_start_option(url, start);
    return r < 0 ? r : url_option_flag(url, "follow", follow);
}

/* Makes the channel of an opened file; takes over the watch. */
static int become_reader(struct naru_channel *ch, const char *path, const struct file_start *start,
                         bool follow, const struct naru_options *opt, struct watch *watch)
{
    struct file *f;
    int r = channel_make_stream(ch, opt, NARU_FRAME_LINE, false);

    if (r < 0)
        return r;
    f = file_new(path);
    if (!f)
        return no_memory(ch->url);
    r = file_start_offset(ch->url, ch->rfd, start, stream_frame(ch->stream), ch->max_message, &f->offset);
    if (r < 0) {
        (void)file_free(f);
        return r;
    }
    f->follow = follow;
    f->watch = *watch;
    *watch = (struct watch){.fd = -1};
    if (f->watch.weak) /* a descriptor that does not show everything is none to poll */
        f->watch.fd = fd_close(f->watch.fd);
    ch->poll_fd = f->watch.fd;
    ch->state = f;
    ch->direction = NARU_DIRECTION_RECEIVE;
    return 0;
}

static int connect_reader(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                          int64_t deadline)
{
    struct file_start start;
    struct watch watch;
    bool follow;
    int r = parse_reader_options(url, &start, &follow);

    if (r == 0)
        r = watch_init_events(&watch, url->target, WATCH_CHANGES);
    if (r < 0)
        return r;
    do
        r = open_reader(url->text, url->target, &ch->rfd);
    while (r == -EAGAIN && (r = watch_wait(&watch, deadline)) == 0);
    if (r == -ETIMEDOUT)
        r = error_set(ETIMEDOUT, "%s: there is no such file; it is made when something is sent to it",
                      url->text);
    if (r == 0)
        r = become_reader(ch, url->target, &start, follow, opt, &watch);
    watch_deinit(&watch);
    return r;
}

static int file_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    int r = check_path(url);

    if (r < 0)
        return r;
    if (opt->direction == NARU_DIRECTION_BOTH)
        return error_set(ENOTSUP, "%s: a file is appended to or followed, not both by one channel; open two",
                         url->text);
    return opt->direction == NARU_DIRECTION_RECEIVE ? connect_reader(ch, url, opt, deadline)
                                                    : connect_writer(ch, url, opt);
}

static struct follower *follower_free(struct follower *w)
{
    watch_deinit(&w->watch);
    free(w->path);
    free(w);
    return NULL;
}

static int file_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    FD_CLEANUP int fd = -1;
    struct follower *w;
    int r;

    if (opt->direction & NARU_DIRECTION_SEND)
        return error_set(ENOTSUP, "%s: whoever listens on a file receives; connect to append to it",
                         url->text);
    w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(url->target))) {
        free(w);
        return no_memory(url->text);
    }
    w->watch.fd = -1;
    r = parse_reader_options(url, &w->start, &w->follow);
    if (r == 0)
        r = url_option_flag(url, "unlink", &w->unlink);
    if (r == 0)
        r = watch_init_events(&w->watch, w->path, WATCH_ALL);
    if (r == 0)
        r = open_reader(url->text, w->path, &fd); /* what can never be read is refused now */
    if (r < 0 && r != -EAGAIN) {
        (void)follower_free(w);
        return r;
    }
    /* Our own open is an event, so the listener shows itself ready if the file is there. Where inotify cannot
     * see, the accept looks by back-off. */
    if (!w->watch.weak)
        l->fd = fd_steal(&w->watch.fd);
    l->state = w;
    return 0;
}

static void file_unlisten(struct naru_listener *l, bool owner)
{
    struct follower *w = l->state;

    if (owner && w->unlink)
        (void)unlink(w->path); /* if it cannot be removed, it stays, as without ?unlink=yes */
    (void)follower_free(w);
}

static int file_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct follower *w = l->state;
    struct watch watch;
    int r;

    if (l->fd >= 0) {
        w->watch.fd = l->fd;
        (void)watch_drain(&w->watch);
        w->watch.fd = -1;
    }
    r = open_reader(ch->url, w->path, &ch->rfd);
    if (r == 0)
        r = watch_init_events(&watch, w->path, WATCH_CHANGES);
    if (r < 0)
        return r;
    r = become_reader(ch, w->path, &w->start, w->follow, &l->options, &watch);
    watch_deinit(&watch);
    return r;
}

/* The end was reached (I3): whether more may come here. 0, or the explained reason why not. */
static int examine(const struct naru_channel *ch, const struct file *f)
{
    struct stat opened, named;

    if (fstat(ch->rfd, &opened) < 0)
        return error_set(errno, "%s: fstat: %s", ch->url, error_text(errno));
    if (opened.st_size < f->offset)
        return error_set(ESTALE,
                         "%s: the file was cut to %" PRId64 " bytes, and %" PRId64
                         " were read already; open it again to "
                         "read what it holds now",
                         ch->url, (int64_t)opened.st_size, f->offset);
    if (stat(f->path, &named) < 0)
        return error_set(ENOENT, "%s: the file was removed or renamed; all that it held has been received",
                         ch->url);
    if (named.st_dev != opened.st_dev || named.st_ino != opened.st_ino)
        return error_set(ENOENT,
                         "%s: the file was replaced by another one of that name; all that it held has been "
                         "received, open it again to read the new one",
                         ch->url);
    return 0;
}

static ssize_t read_on(struct naru_channel *ch, struct file *f, const struct iovec *iov, int count)
{
    ssize_t n = preadv(ch->rfd, iov, count, f->offset);

    if (n < 0)
        return errno == EINTR ? -EINTR : error_set(errno, "%s: read: %s", ch->url, error_text(errno));
    f->offset += n;
    f->at_end = false;
    return n;
}

static ssize_t file_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                         bool block)
{
    struct file *f = ch->state;
    ssize_t n = read_on(ch, f, iov, count);
    int r;

    (void)fds;
    (void)block; /* nothing here sleeps: file_wait() does */
    if (n != 0)
        return n;
    if (!f->follow) {
        f->at_end = true;
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

static int file_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    const struct file *f = ch->state;

    return f->watch.fd < 0 || f->watch.weak ? channel_wait_backoff(ch, event, deadline)
                                            : channel_wait_poll(ch, event, deadline);
}

static bool file_holds(const struct naru_channel *ch)
{
    const struct file *f = ch->state;

    return !f->at_end;
}

/* --- ending --- */

static void file_close(struct naru_channel *ch, bool owner)
{
    struct file *f = ch->state;

    (void)owner;
    f->watch.fd = -1; /* it is ch->poll_fd */
    (void)file_free(f);
}

static int file_remove(struct url *url)
{
    struct stat status;
    int r = check_path(url);

    if (r < 0)
        return r;
    if (lstat(url->target, &status) < 0)
        return error_set(errno, "%s: %s", url->text, error_text(errno));
    if (!S_ISREG(status.st_mode))
        return refuse(url->text, status.st_mode & S_IFMT);
    if (unlink(url->target) < 0)
        return error_set(errno, "%s: cannot remove the file: %s", url->text, error_text(errno));
    return 0;
}

const struct channel_ops file_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "file",
            .scheme = "file",
            .example = "file:///tmp/naru.log",
            .title = "regular file",
            .use_when = "messages must outlive the programs, or be read again, later and by many",
            .medium = "page cache, then disk",
            .direction = "one way: appended to, followed",
            .unit = "byte stream; lines by default",
            .scope =
                "one machine, by file permissions; others over a shared file system without notice of change",
            .persistence = "until removed; through a power cut with ?sync=each",
            .limit = "disk space; RLIMIT_FSIZE (ulimit -f)",
            .wait = "inotify; a read never sleeps",
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_PERSIST | NARU_CAN_FRAME |
                            NARU_CAN_SEND_EMPTY | NARU_CAN_BROADCAST},
    .connect = file_connect,
    .listen = file_listen,
    .accept = file_accept,
    .unlisten = file_unlisten,
    .remove = file_remove,
    .send = file_send,
    .send_batch = file_send_batch,
    .recv = stream_recv,
    .write = file_write,
    .read = file_read,
    .wait = file_wait,
    .holds = file_holds,
    .close = file_close,
};
