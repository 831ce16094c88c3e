/* SPDX-License-Identifier: MIT */
/*
 * file: a regular file as a log. Whoever connects appends records; whoever listens (or connects to receive)
 * follows the file as it grows, each reader from a position of its own, so all of them get everything.
 *
 * A record is one writev(2) with O_APPEND: the kernel puts it behind everything else in one piece, also among
 * several writers (write(2), O_APPEND). What a full disk or a size limit cuts short is taken away again, and
 * a reader does not keep what it saw of an incomplete record (file-follow.c): nobody ever receives a part.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "channel/file-follow.h"
#include "base/file-io.h"
#include "channel/file-open.h"
#include "channel/stream.h"
#include "channel/table.h"

enum {
    PIECES_AT_ONCE = 60,   /* of a message, that stream.c certainly puts into one write */
    WRITE_MAX = 0x7ffff000 /* bytes that one write takes (write(2), Notes) */
};

/* A writer's own. */
struct appender {
    bool sync;      /* fdatasync(2) after each record */
    bool unlimited; /* RLIMIT_FSIZE is none of our worries */
};

/* --- writing --- */

/* Opens what is there, or makes it; again if another process makes or removes it in between. */
static int open_or_make(const struct url *url, const struct file_options *options, unsigned mode, int *ret_fd)
{
    for (;;) {
        int r = file_open_appender(url->text, url->target, ret_fd);

        if (r == -EAGAIN && !options->create)
            return error_set(ENOENT, "%s: there is no such file, and ?create=no forbids to make it",
                             url->text);
        if (r == -EAGAIN)
            r = file_create(url->text, url->target, mode, ret_fd);
        if (r != -EAGAIN)
            return r;
    }
}

static int connect_appender(struct naru_channel *ch, const struct url *url,
                            const struct file_options *options, const struct naru_options *opt)
{
    struct appender *a;
    int r;

    fork_hold();
    r = open_or_make(url, options, opt->mode, &ch->wfd);
    fork_release();
    if (r == 0)
        r = channel_make_stream(ch, opt, NARU_FRAME_LINE, false);
    if (r < 0)
        return r;
    a = calloc(1, sizeof *a);
    if (!a)
        return error_set(ENOMEM, "%s: out of memory for a channel", url->text);
    a->sync = options->sync;
    a->unlimited = file_io_unlimited();
    ch->state = a;
    ch->direction = NARU_DIRECTION_SEND;
    return 0;
}

static int file_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    struct file_options options;
    int r = file_parse(url, &options);

    if (r < 0)
        return r;
    if (opt->direction == NARU_DIRECTION_BOTH)
        return error_set(ENOTSUP, "%s: a file is appended to or followed, not both by one channel; open two",
                         url->text);
    return opt->direction == NARU_DIRECTION_RECEIVE ? file_follow(ch, url, &options, opt, deadline)
                                                    : connect_appender(ch, url, &options, opt);
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

/* The kernel took nothing at all. */
static int refused(const struct naru_channel *ch, int code)
{
    if (code == EFBIG)
        return error_set(code,
                         "%s: the file has reached this process's limit (ulimit -f): nothing of the message "
                         "was kept",
                         ch->url);
    if (code == ENOSPC || code == EDQUOT)
        return error_set(code, "%s: the disk, or the quota, is full: nothing of the message was kept",
                         ch->url);
    return error_set(code, "%s: write: %s", ch->url, error_text(code));
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
    const struct appender *a = ch->state;
    ssize_t total = total_of(iov, count);
    ssize_t n;

    (void)fds;
    (void)block; /* a regular file takes it or refuses it, and never makes one wait for room */
    if (total > WRITE_MAX)
        return channel_too_large(ch, (size_t)total, WRITE_MAX, "");
    n = file_io_write(ch->wfd, iov, count, a->unlimited);
    if (n == -EINTR)
        return n;
    if (n < 0)
        return refused(ch, (int)-n);
    if (n < total)
        return undo(ch, n);
    if (a->sync && fdatasync(ch->wfd) < 0)
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

/* --- ending --- */

static void file_close(struct naru_channel *ch, bool owner)
{
    (void)owner;
    if (ch->direction == NARU_DIRECTION_RECEIVE)
        file_unfollow(ch);
    else
        free(ch->state);
}

static int file_remove(struct url *url)
{
    struct stat status;

    if (!*url->target)
        return error_set(EINVAL, "%s: expected the path of a file, as in file:///var/log/my.log", url->text);
    if (lstat(url->target, &status) < 0)
        return error_set(errno, "%s: %s", url->text, error_text(errno));
    if (!S_ISREG(status.st_mode))
        return file_refuse(url->text, status.st_mode & S_IFMT);
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
            .unit = "byte stream (lines)",
            .scope = "one machine, by file permissions",
            .persistence = "until removed; through a power cut with ?sync=each",
            .limit = "disk space; RLIMIT_FSIZE (ulimit -f)",
            .wait = "inotify; a read never sleeps",
            .options =
                "from=start|end|OFFSET\twhere a reader begins (start)\n"
                "follow=yes|no\ta reader waits at the end for more, or for a file that is not there (yes)\n"
                "sync=each|none\teach: a message is on the disk when it is sent (none)\n"
                "create=yes|no\tmake it if it does not exist (yes)\n"
                "unlink=yes\tthe reader removes it at its end\n" CHANNEL_OPTIONS_STREAM("line")
                    CHANNEL_OPTION_MODE,
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
