/* SPDX-License-Identifier: MIT */
/*
 * fifo: named pipes (fifo(7)). A listener makes the FIFO, or takes one that lies there, and reads; whoever
 * connects writes. Either side may be a program that never heard of naru (`echo hello > /path`).
 *
 * A FIFO has no connections, so they are made of what the kernel does have:
 *
 * One reader. Two readers would take each other's bytes, so a listener holds a flock(2) on the FIFO itself.
 * It needs no file of its own, no probing, and a killed holder's lock is gone with it.
 *
 * Waiting for a writer. poll(2) does not tell that a writer has opened a FIFO and is still silent. inotify
 * tells of the open, and tee(2) tells whether a writer is there without taking any bytes: it gives 0 when
 * there is neither a writer nor data, and EAGAIN when there is a writer but no data.
 *
 * A read end for each accepted channel. POLLHUP on a read end that was opened while there was no writer
 * begins only after a writer has come (fifo_open() in fs/pipe.c), which is what a channel wants; on one that
 * has seen a writer go it stays, which is what a listener must not poll. So the listener keeps a read end of
 * its own (which also keeps what is in the FIFO alive between channels) and one opened in advance for the
 * next channel.
 *
 * Waiting for a reader. An open for writing without O_NONBLOCK would wait without a limit; with it, ENXIO
 * says that nobody reads (open(2)), and inotify tells when somebody opens (fifo-connect.c).
 */
#include "channel/fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/holder.h"
#include "base/watch.h"
#include "channel/pipe-io.h"
#include "channel/stream.h"
#include "channel/table.h"

enum { TAKE_ATTEMPTS = 100 }; /* against others who make and remove the FIFO at the same time */

/* A listener's own; l->fd is the inotify instance, l->lock_fd the locked read end. */
struct fifo {
    char *path;
    struct watch watch;
    int next_fd;  /* the read end of the next channel */
    int probe[2]; /* tee(2) needs a pipe to copy to */
    struct fifo_options options;
    struct fork_guard guard; /* closes them in children */
};

/* --- listening --- */

/* Makes the FIFO with just these permission bits, whatever the umask. 1: made; 0: something is there already;
 * or -errno. */
static int make_fifo(const struct url *url, unsigned mode)
{
    if (mkfifo(url->target, mode) < 0) {
        if (errno == EEXIST)
            return 0;
        return error_set(errno, "%s: cannot make the FIFO: %s%s", url->text, error_text(errno),
                         errno == ENOENT                     ? "; the directory must exist"
                         : errno == EACCES || errno == EROFS ? "; the directory must let you write"
                         : errno == ENOSPC                   ? "; `df` and `df -i` show what is used up"
                                                             : "");
    }
    return 1;
}

/* Opens the FIFO for reading; what is not one is not opened (opening a device may do things). */
static int open_reader(const struct url *url, bool made, unsigned mode, int *ret_fd)
{
    FD_CLEANUP int fd = -1;
    struct stat status;

    if (stat(url->target, &status) < 0)
        return errno == ENOENT ? -EAGAIN : fifo_open_failed(url, "read from it");
    if (!S_ISFIFO(status.st_mode))
        return fifo_is_none(url->text, url->target);
    fd = open(url->target, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : fifo_open_failed(url, "read from it");
    if (fd_type(fd) != S_IFIFO)
        return fifo_is_none(url->text, url->target);
    /* mkfifo(3) heeds the umask, which is the process's and not ours to change. */
    if (made && fchmod(fd, mode) < 0)
        return error_set(errno, "%s: cannot set the FIFO's mode to %04o: %s", url->text, mode,
                         error_text(errno));
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* Makes or takes the FIFO, opens and locks it. 0, -EAGAIN if it vanished meanwhile, or -errno. */
static int take_fifo(const struct url *url, unsigned mode, bool many, int *ret_fd)
{
    FD_CLEANUP int fd = -1;
    int made = make_fifo(url, mode), r;

    if (made < 0)
        return made;
    r = open_reader(url, made, mode, &fd);
    if (r < 0)
        return r;
    if (flock(fd, (many ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return error_set(EADDRINUSE,
                             "%s: another process reads this FIFO already, and two would take each "
                             "other's bytes; end it, or choose another path",
                             url->text);
        return error_set(errno, "%s: cannot lock the FIFO: %s", url->text, error_text(errno));
    }
    if (!fd_is_path(fd, url->target)) /* another listener with ?unlink=yes removed it in between */
        return -EAGAIN;
    *ret_fd = fd_steal(&fd);
    return 0;
}

enum { PROC_LINK = 32 };

static void proc_link(int fd, char ret_link[static PROC_LINK])
{
    (void)snprintf(ret_link, PROC_LINK, "/proc/self/fd/%d", fd);
}

/* Another read end of the FIFO that was opened as fd, whatever its path leads to by now. */
static int reopen(int fd, int flags)
{
    char link[PROC_LINK];
    int other;

    proc_link(fd, link);
    other = open(link, flags | O_NONBLOCK | O_CLOEXEC);
    return other < 0 ? -errno : other;
}

static int cannot_reopen(const char *url, int code)
{
    return error_set(code, "%s: cannot open the FIFO once more: %s%s", url, error_text(code),
                     code == ENOENT ? "; that goes by way of /proc, which must be mounted" : "");
}

static struct fifo *fifo_free(struct fifo *f)
{
    fork_guard_close(&f->guard);
    watch_deinit(&f->watch);
    free(f->path);
    free(f);
    return NULL;
}

static struct fifo *fifo_new(const struct url *url)
{
    struct fifo *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->next_fd = f->probe[0] = f->probe[1] = f->watch.fd = -1;
    fork_guard_init(&f->guard);
    fork_guard_add(&f->guard, &f->next_fd);
    fork_guard_add(&f->guard, &f->probe[0]);
    fork_guard_add(&f->guard, &f->probe[1]);
    f->path = strdup(url->target);
    return f->path ? f : fifo_free(f);
}

int fifo_parse_options(struct url *url, const struct naru_options *opt, struct fifo_options *ret_options)
{
    static const char *const words[] = {"one", "many", NULL};
    struct fifo_options options = {0};
    int readers = 0;
    int r = url_option_word(url, "readers", words, &readers);

    if (r == 0)
        r = url_option_flag(url, "keep", &options.keep);
    if (r == 0)
        r = url_option_flag(url, "unlink", &options.unlink);
    if (r < 0)
        return r;
    if (readers == 1 && opt->frame != NARU_FRAME_RAW)
        return error_set(EINVAL,
                         "%s: several readers would tear messages apart, so ?readers=many needs "
                         "?frame=raw; to share out whole messages use posixmq:, sysvmq: or unix: with "
                         "?type=dgram",
                         url->text);
    options.many = readers == 1;
    *ret_options = options;
    return 0;
}

static int open_listener(struct naru_listener *l, struct fifo *f, const struct url *url, unsigned mode)
{
    int r, attempts = 0;

    /* Before our own opens, whose events make l->fd readable: a writer may be there already, and that is how
     * an event loop comes to make the first attempt. */
    /* Not writes: an event for each of them would cost every writer a third of a microsecond. */
    r = watch_init_events(&f->watch, f->path, IN_OPEN | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF);
    if (r < 0)
        return r;
    do
        r = take_fifo(url, mode, f->options.many, &l->lock_fd);
    while (r == -EAGAIN && ++attempts < TAKE_ATTEMPTS);
    if (r == -EAGAIN)
        return error_set(
            ENOENT, "%s: the path vanishes as soon as it is made, or is a symbolic link that leads nowhere",
            url->text);
    if (r < 0)
        return r;
    f->next_fd = reopen(l->lock_fd, O_RDONLY);
    if (f->next_fd < 0)
        return cannot_reopen(url->text, -f->next_fd);
    if (pipe2(f->probe, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set(errno, "%s: pipe: %s", url->text, error_text(errno));
    return 0;
}

static int fifo_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct fifo *f;
    int r = fifo_check_path(url);

    if (r < 0)
        return r;
    if (opt->direction & NARU_DIRECTION_SEND)
        return fifo_wrong_direction(url, "listens", "receives");
    f = fifo_new(url);
    if (!f)
        return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
    r = fifo_parse_options(url, opt, &f->options);
    if (r == 0)
        r = url_check_unused(url); /* before anything is made */
    if (r == 0)
        r = open_listener(l, f, url, opt->mode);
    if (r == 0)
        r = pipe_io_set_buffer(url->text, f->next_fd, opt);
    if (r < 0) {
        l->lock_fd = fd_close(l->lock_fd);
        (void)fifo_free(f);
        return r;
    }
    l->state = f;
    /* Without inotify (a user's instances are used up) the accept looks by back-off. */
    if (!f->watch.weak)
        l->fd = fd_steal(&f->watch.fd);
    return 0;
}

static void fifo_unlisten(struct naru_listener *l, bool owner)
{
    struct fifo *f = l->state;

    if (owner && f->options.unlink && fd_is_path(l->lock_fd, f->path))
        (void)unlink(f->path); /* if it cannot be removed, it lies there, as without ?unlink=yes */
    (void)fifo_free(f);
}

/* Whether a writer has the FIFO open, or has left something in it. */
static bool has_writer(struct fifo *f, int fd)
{
    char byte;
    ssize_t n = tee(fd, f->probe[1], 1, SPLICE_F_NONBLOCK);

    if (n > 0 && read(f->probe[0], &byte, 1) != 1)
        return true; /* cannot be: the byte was put there just now */
    return n > 0 || (n < 0 && errno == EAGAIN);
}

/* Does something to the watch, whose descriptor is the listener's. */
static void with_watch(struct naru_listener *l, void (*act)(struct watch *))
{
    struct fifo *f = l->state;

    f->watch.fd = l->fd;
    act(&f->watch);
    f->watch.fd = -1;
}

/* So that l->fd is readable again only after another open. */
static void drain(struct watch *watch)
{
    (void)watch_drain(watch);
}

static int name_removed(const struct naru_listener *l)
{
    return error_set(
        ENOENT, "%s: the FIFO was removed or replaced, so that nobody can open it any more; listen again",
        l->url);
}

static int fifo_accept(struct naru_listener *l, struct naru_channel *ch)
{
    struct fifo *f = l->state;
    int next, keep = -1, r;

    if (!has_writer(f, l->lock_fd)) {
        bool removed;

        with_watch(l, drain);
        removed = fd_is_removed(l->lock_fd); /* which wakes the listener: the watch tells of link counts */
        if (!has_writer(f, l->lock_fd)) /* one that came before the queue was emptied, or the name removed */
            return removed ? name_removed(l) : -EAGAIN;
    }
    next = reopen(l->lock_fd, O_RDONLY);
    if (next >= 0 && f->options.keep)
        keep = reopen(l->lock_fd, O_WRONLY);
    if (next < 0 || (f->options.keep && keep < 0)) {
        int code = next < 0 ? -next : -keep;

        (void)fd_close(next);
        return cannot_reopen(l->url, code);
    }
    ch->rfd = f->next_fd;
    f->next_fd = next;
    ch->wfd = keep; /* nothing is written there, but it lives and is closed in children as long as rfd */
    ch->direction = NARU_DIRECTION_RECEIVE;
    ch->io[CHANNEL_RECEIVING].nonblocking = true;
    r = channel_make_stream(ch, &l->options, NARU_FRAME_LEN32, true);
    if (r == 0)
        with_watch(l, watch_pause); /* nobody else is accepted while this channel is open */
    return r;
}

/* The next writer may be accepted, and may have come already, or the name may have gone: l->fd is made
 * readable by an open of our own, which is watched for on the FIFO itself. */
static void fifo_close(struct naru_channel *ch, bool owner)
{
    struct naru_listener *l = ch->listener;
    char link[PROC_LINK];

    if (!owner || !l || l->fd < 0)
        return;
    with_watch(l, watch_resume);
    proc_link(l->lock_fd, link);
    (void)inotify_add_watch(l->fd, link, IN_OPEN | IN_MASK_ADD); /* without /proc: at the next accept */
    fork_hold();                                                 /* a child with a copy would be a reader */
    (void)fd_close(reopen(l->lock_fd, O_RDONLY));
    fork_release();
}

/* --- removing --- */

/* One that may only be written: its write end sees the same lock, and cannot be had where nobody reads. */
static int open_writer_to_look(const struct url *url, int *ret_fd)
{
    FD_CLEANUP int fd = open(url->target, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno == ENXIO ? 0 : fifo_open_failed(url, "read from it, or write to it");
    if (fd_type(fd) != S_IFIFO)
        return fifo_is_none(url->text, url->target);
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int remove_unread(const struct url *url)
{
    char holder[HOLDER_NAME];
    FD_CLEANUP int fd = -1;
    int r = fifo_check_path(url);

    if (r == 0)
        r = open_reader(url, false, 0, &fd);
    if (r == -EACCES)
        r = open_writer_to_look(url, &fd);
    if (r == -EAGAIN)
        return error_set(ENOENT, "%s: there is no such FIFO", url->text);
    if (r == -EEXIST)
        return error_set(EEXIST, "%s: %s is not a FIFO, and is left alone", url->text, url->target);
    if (r < 0)
        return r;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return error_set(EBUSY, "%s: %s listens there; end it first", url->text,
                         holder_of_lock_name(url->target, holder));
    if (unlink(url->target) < 0)
        return error_set(errno, "%s: cannot remove the FIFO: %s", url->text, error_text(errno));
    return 0;
}

static int fifo_remove(struct url *url)
{
    int r;

    fork_hold(); /* a child with a copy of the lock would look like a listener */
    r = remove_unread(url);
    fork_release();
    return r;
}

const struct channel_ops fifo_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "fifo",
            .scheme = "fifo",
            .example = "fifo:///tmp/naru.fifo",
            .title = "named pipe (FIFO)",
            .use_when = "unrelated programs, also shell scripts, share a pipe by its path",
            .medium = "kernel pipe buffer; the file is only the name",
            .direction = "one way",
            .unit = "byte stream",
            .scope = "one machine, by file permissions",
            .persistence = "the name until it is removed; the bytes until the last end is closed",
            .limit = "64 KiB buffered (F_SETPIPE_SZ); above PIPE_BUF, 4 KiB, several writers' messages mix",
            .wait = "blocking open, read or write; poll",
            .options = "keep=yes\tthe reader stays when the last writer has closed\n"
                       "readers=one|many\tmany: several may read, raw, each getting some of the bytes (one)\n"
                       "unlink=yes\tthe reader removes the FIFO at its end\n" CHANNEL_OPTIONS_STREAM("len32")
                           CHANNEL_OPTION_BUFFER CHANNEL_OPTION_MODE,
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_SEE_CLOSE | NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE |
                            NARU_CAN_POLL | NARU_CAN_FRAME | NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK |
                            NARU_CAN_TELL_TAKEN},
    .connect = fifo_connect,
    .listen = fifo_listen,
    .accept = fifo_accept,
    .unlisten = fifo_unlisten,
    .remove = fifo_remove,
    STREAM_MESSAGES,
    PIPE_IO,
    .close = fifo_close,
    .untaken = pipe_io_untaken,
};
