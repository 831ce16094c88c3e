/* SPDX-License-Identifier: MIT */
/*
 * fd:N and -: descriptors that this process was given: a shell's redirections, a pipe from a parent, a
 * terminal.
 *
 * The descriptor is duplicated, so closing the channel leaves the caller's open; but the open file
 * description behind it is shared with whoever gave it, so its flags are never changed: a shell whose
 * terminal was left with O_NONBLOCK is broken. See pipe-io.c for how not to sleep without it.
 *
 * Reading ahead. What is behind fd: may well be read by others afterwards, so nothing is: a message is read
 * by its length, and a line byte by byte. On - that would make every filter slow, so it reads ahead as all
 * filters do (`(head -n 1; cat)` shows the same on a pipe), and -?read-ahead=no turns it off. On a regular
 * file what was read ahead is given back when the channel closes (POSIX.1-2017 XCU 1.4, "Input files", asks
 * that of every utility).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file-io.h"
#include "channel/pipe-io.h"
#include "channel/socket-io.h"
#include "channel/stream.h"
#include "channel/table.h"

/* What stands behind rfd and wfd: S_IFREG, S_IFSOCK, S_IFIFO, S_IFCHR ... */
struct inherited {
    unsigned in, out;
};

/* The directions in which a descriptor was opened, or -errno. */
static int directions_of(const struct naru_channel *ch, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return error_set(EBADF, "%s: descriptor %d is not open in this process", ch->url, fd);
    if (flags & O_PATH)
        return error_set(
            EBADF, "%s: descriptor %d was opened with O_PATH: it names a file and cannot read or write it",
            ch->url, fd);
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return NARU_DIRECTION_RECEIVE;
    case O_WRONLY:
        return NARU_DIRECTION_SEND;
    default:
        return NARU_DIRECTION_BOTH;
    }
}

/* Refuses what is no byte stream. */
static int check_kind(const struct naru_channel *ch, int fd)
{
    unsigned type = fd_type(fd);

    if (type == S_IFDIR)
        return error_set(EISDIR, "%s: descriptor %d is a directory", ch->url, fd);
    if (type != S_IFSOCK)
        return 0;
    if (fd_socket_option(fd, SO_ACCEPTCONN) > 0)
        return error_set(ENOTSUP,
                         "%s: descriptor %d is a listening socket: it has connections to accept, and nothing "
                         "to read",
                         ch->url, fd);
    if (fd_socket_option(fd, SO_TYPE) != SOCK_STREAM)
        return error_set(ENOTSUP,
                         "%s: descriptor %d is a socket with messages of its own, which a byte stream would "
                         "tear; use unix: or udp: with its address",
                         ch->url, fd);
    return 0;
}

/* Duplicates fd, above the standard streams. */
static int duplicate(const struct naru_channel *ch, int fd, int *ret_fd)
{
    int r = check_kind(ch, fd), copy;

    if (r < 0)
        return r;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0)
        return error_set(errno, "%s: cannot duplicate descriptor %d: %s", ch->url, fd, error_text(errno));
    *ret_fd = copy;
    return 0;
}

/* Takes `in` for receiving and `out` for sending, either of them -1. */
static int inherit(struct naru_channel *ch, int in, int out, const struct naru_options *opt, bool shared)
{
    struct inherited *kinds;
    int r;

    fork_hold();
    r = in >= 0 ? duplicate(ch, in, &ch->rfd) : 0;
    if (r == 0 && in == out)
        ch->wfd = ch->rfd;
    else if (r == 0 && out >= 0)
        r = duplicate(ch, out, &ch->wfd);
    fork_release();
    ch->direction =
        (enum naru_direction)((in >= 0 ? NARU_DIRECTION_RECEIVE : 0) | (out >= 0 ? NARU_DIRECTION_SEND : 0));
    ch->foreign = true;
    if (r == 0)
        r = channel_make_stream(ch, opt, NARU_FRAME_LINE, shared);
    if (r < 0)
        return r;
    kinds = calloc(1, sizeof *kinds);
    if (!kinds)
        return error_set(ENOMEM, "%s: out of memory for a channel", ch->url);
    kinds->in = in >= 0 ? fd_type(in) : 0;
    kinds->out = out >= 0 ? fd_type(out) : 0;
    ch->state = kinds;
    return 0;
}

static int fd_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                      int64_t deadline)
{
    int64_t number = -1;
    int can, use, fd;
    int r = url_target_number(url, "an open file descriptor", 0, INT_MAX, &number);

    (void)deadline; /* nothing to wait for */
    if (r < 0)
        return r;
    fd = (int)number;
    can = directions_of(ch, fd);
    if (can < 0)
        return can;
    use = opt->direction ? can & (int)opt->direction : can;
    if (use == 0)
        return error_set(ENOTSUP, "%s: descriptor %d is open for %s only", ch->url, fd,
                         can == NARU_DIRECTION_RECEIVE ? "reading" : "writing");
    return inherit(ch, use & NARU_DIRECTION_RECEIVE ? fd : -1, use & NARU_DIRECTION_SEND ? fd : -1, opt,
                   true);
}

/* Whether a standard stream is open in the direction it is meant for. */
static bool is_usable(int fd, int accmode)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && !(flags & O_PATH) &&
           ((flags & O_ACCMODE) == accmode || (flags & O_ACCMODE) == O_RDWR);
}

static int stdio_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                         int64_t deadline)
{
    int wanted = opt->direction ? (int)opt->direction : NARU_DIRECTION_BOTH;
    int in = (wanted & NARU_DIRECTION_RECEIVE) && is_usable(STDIN_FILENO, O_RDONLY) ? STDIN_FILENO : -1;
    int out = (wanted & NARU_DIRECTION_SEND) && is_usable(STDOUT_FILENO, O_WRONLY) ? STDOUT_FILENO : -1;

    (void)url;
    (void)deadline;
    if (in < 0 && out < 0)
        return error_set(EBADF, "%s: %s not open", ch->url,
                         wanted == NARU_DIRECTION_RECEIVE ? "standard input is"
                         : wanted == NARU_DIRECTION_SEND  ? "standard output is"
                                                          : "standard input and output are");
    return inherit(ch, in, out, opt, false);
}

static ssize_t fd_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                       bool block)
{
    const struct inherited *kinds = ch->state;

    if (kinds->in == S_IFSOCK)
        return socket_io_read(ch, iov, count, NULL, block);
    /* A regular file is always ready (poll(2)), but RWF_NOWAIT would say EAGAIN of what is not in memory. */
    return pipe_io_read(ch, iov, count, fds, block || kinds->in == S_IFREG);
}

static ssize_t fd_write(struct naru_channel *ch, const struct iovec *iov, int count,
                        const struct stream_fds *fds, bool block)
{
    const struct inherited *kinds = ch->state;
    ssize_t n;

    if (kinds->out == S_IFSOCK)
        return socket_io_write(ch, iov, count, NULL, block);
    if (kinds->out != S_IFREG)
        return pipe_io_write(ch, iov, count, fds, block);
    n = file_io_write(ch->wfd, iov, count, false);
    return n < 0 && n != -EINTR ? error_set((int)-n, "%s: write: %s", ch->url, error_text((int)-n)) : n;
}

static void fd_finish(struct naru_channel *ch, bool owner)
{
    struct inherited *kinds = ch->state;
    off_t held = owner ? (off_t)stream_held(ch->stream) : 0;

    /* If it cannot seek after all (a file of /proc may not), then nobody else can either. */
    if (kinds->in == S_IFREG && held > 0)
        (void)lseek(ch->rfd, -held, SEEK_CUR);
    free(kinds);
}

enum {
    CAPABILITIES = NARU_CAN_DUPLEX | NARU_CAN_CONNECT | NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_CLOSE |
                   NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_FRAME |
                   NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK
};

const struct channel_ops fd_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "fd",
            .scheme = "fd",
            .example = "fd:0",
            .title = "inherited file descriptor",
            .use_when = "a parent or the shell has already opened the pipe, socket, terminal or file",
            .medium = "whatever the descriptor stands for",
            .direction = "as it was opened",
            .unit = "byte stream (lines)",
            .scope = "processes that share the descriptor",
            .persistence = "as long as anybody has it open",
            .limit = "that of what it stands for; RLIMIT_NOFILE descriptors a process",
            .wait = "poll, or blocking read or write",
            .options = CHANNEL_OPTIONS_STREAM("line"),
            .capabilities = CAPABILITIES},
    .connect = fd_connect,
    STREAM_MESSAGES,
    .write = fd_write,
    .read = fd_read,
    .close = fd_finish,
};

const struct channel_ops stdio_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "stdio",
            .scheme = "-",
            .example = "-",
            .title = "standard input and output",
            .use_when = "a program is a filter: what feeds it and what it feeds is the shell's choice",
            .medium = "whatever the shell connected: a pipe, a file, a terminal",
            .direction = "both ways: input is received, output sent",
            .unit = "byte stream (lines)",
            .scope = "whatever the shell connected",
            .persistence = "as long as the process",
            .limit = "that of what they stand for; 64 KiB buffered in a shell's pipe",
            .wait = "poll, or blocking read or write",
            .options = CHANNEL_OPTIONS_STREAM("line"),
            .capabilities = CAPABILITIES},
    .connect = stdio_connect,
    STREAM_MESSAGES,
    .write = fd_write,
    .read = fd_read,
    .close = fd_finish,
};
