/* SPDX-License-Identifier: MIT */
/*
 * Attempts on descriptors that are written with write(2).
 *
 * Not to sleep: O_NONBLOCK belongs to the open file description, which a process that inherited it shares
 * with its parent's shell, so it must not be set there. RWF_NOWAIT asks for one call only (preadv2(2); on
 * pipes since Linux 6.5). Where the kernel refuses it, a description of our own gets O_NONBLOCK, switched
 * when the kind of wait changes, and a foreign one is polled first and then written at most PIPE_BUF bytes at
 * a time, which poll(2)'s POLLOUT promises room for.
 *
 * No SIGPIPE: a library may neither die of it nor touch its disposition. RWF_NOSIGNAL (Linux 6.18) asks for
 * EPIPE alone; before that the signal is held back (base/quiet-write.h). Either costs a small write a sixth
 * of its time. A program that ignores SIGPIPE anyway, as most servers do, is spared it: the disposition is
 * looked at when a channel first writes, and relied on from then on.
 */
#include "channel/pipe-io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/quiet-write.h"
#include "channel/stream-plain.h"

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100 /* include/uapi/linux/fs.h; Debian 12's headers are older */
#endif

/* Keeps a foreign or old description from sleeping. 1: go on with a plain call; 0: it would wait; or -errno.
 */
static int prepare_nonblocking(struct naru_channel *ch, int fd, int direction, int event)
{
    struct pollfd poll_fd = {.fd = fd, .events = (short)event};
    int r;

    if (ch->foreign)
        return fd_poll(&poll_fd, 1, NARU_NOWAIT);
    if (!ch->io[direction].nonblocking) {
        r = fd_set_nonblocking(fd, true);
        if (r < 0)
            return r;
        ch->io[direction].nonblocking = true;
    }
    return 1;
}

/* Before a call that may sleep. 0 or -errno. */
static int prepare_blocking(struct naru_channel *ch, int fd, int direction)
{
    int r;

    if (!ch->io[direction].nonblocking)
        return 0;
    r = fd_set_nonblocking(fd, false);
    if (r == 0)
        ch->io[direction].nonblocking = false;
    return r;
}

static int read_failed(struct naru_channel *ch)
{
    if (errno == EAGAIN || errno == EINTR)
        return -errno;
    return error_set(errno, "%s: read: %s", ch->url, error_text(errno));
}

ssize_t pipe_io_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                     bool block)
{
    bool *no_nowait = &ch->io[CHANNEL_RECEIVING].no_rwf_nowait;
    ssize_t n;
    int r;

    (void)fds;
    if (block) {
        r = prepare_blocking(ch, ch->rfd, CHANNEL_RECEIVING);
        n = r < 0        ? (errno = -r, -1)
            : count == 1 ? read(ch->rfd, iov->iov_base, iov->iov_len)
                         : readv(ch->rfd, iov, count);
        return n < 0 ? read_failed(ch) : n;
    }
    if (!*no_nowait) {
        n = preadv2(ch->rfd, iov, count, -1, RWF_NOWAIT);
        if (n >= 0 || (errno != EOPNOTSUPP && errno != EINVAL))
            return n < 0 ? read_failed(ch) : n;
        *no_nowait = true;
    }
    r = prepare_nonblocking(ch, ch->rfd, CHANNEL_RECEIVING, POLLIN);
    if (r <= 0)
        return r < 0 ? error_set(-r, "%s: %s", ch->url, error_text(-r)) : -EAGAIN;
    n = readv(ch->rfd, iov, count);
    return n < 0 ? read_failed(ch) : n;
}

/* Without read-ahead: the length, then the payload where it is wanted. What comes in parts the long way
 * completes. */
static int recv_singly(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    struct stream *s = ch->stream;
    ssize_t n = read(ch->rfd, s->buffer, sizeof(uint32_t));
    size_t length;

    if (n < 0)
        return read_failed(ch);
    s->tail = (size_t)n;
    s->ended = n == 0;
    length = plain_announced(ch, capacity);
    if (length == 0)
        return 0;
    n = read(ch->rfd, buf, length);
    if (n < 0)
        return read_failed(ch);
    s->direct = (size_t)n;
    s->ended = n == 0;
    if (s->direct < length)
        return 0;
    stream_consume(s, sizeof(uint32_t));
    s->consumed += length;
    *ret_length = length;
    return 1;
}

static int try_to_recv(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    struct stream *s = ch->stream;
    ssize_t n;

    if (plain_take(ch, buf, capacity, ret_length))
        return 1;
    if (!plain_can_fill(s) || ch->io[CHANNEL_RECEIVING].nonblocking)
        return 0;
    if (!s->read_ahead)
        return recv_singly(ch, buf, capacity, ret_length);
    if (s->large)
        return stream_recv_large(ch, buf, capacity, ret_length);
    n = read(ch->rfd, s->buffer, s->capacity);
    if (n < 0)
        return read_failed(ch);
    s->tail = (size_t)n;
    s->ended = n == 0;
    return plain_take(ch, buf, capacity, ret_length);
}

ssize_t pipe_io_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    size_t length = 0;
    int r = try_to_recv(ch, buf, capacity, &length);

    return channel_received(ch, buf, capacity, timeout_ns, r, length);
}

/* Whether the program ignores SIGPIPE, as it did when the channel first wrote. */
static bool ignores_sigpipe(struct naru_channel *ch)
{
    struct sigaction action;

    if (ch->io[CHANNEL_SENDING].sigpipe == SIGPIPE_UNKNOWN) {
        bool ignored = sigaction(SIGPIPE, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
                       action.sa_handler == SIG_IGN;

        ch->io[CHANNEL_SENDING].sigpipe = ignored ? SIGPIPE_IGNORED : SIGPIPE_KILLS;
    }
    return ch->io[CHANNEL_SENDING].sigpipe == SIGPIPE_IGNORED;
}

/* pwritev2 with as many of the flags as this kernel knows for this file. -1 with EOPNOTSUPP: without
 * RWF_NOWAIT, please. */
static ssize_t write_flags(struct naru_channel *ch, const struct iovec *iov, int count, int nowait)
{
    bool *no_nosignal = &ch->io[CHANNEL_SENDING].no_rwf_nosignal;
    ssize_t n;

    if (!nowait && ignores_sigpipe(ch))
        return count == 1 ? write(ch->wfd, iov->iov_base, iov->iov_len) : writev(ch->wfd, iov, count);
    if (!*no_nosignal) {
        n = pwritev2(ch->wfd, iov, count, -1, nowait | RWF_NOSIGNAL);
        if (n >= 0 || (errno != EOPNOTSUPP && errno != EINVAL) || nowait)
            return n;
        *no_nosignal = true;
    }
    return quiet_write(ch->wfd, iov, count, SIGPIPE, EPIPE);
}

static int write_failed(struct naru_channel *ch)
{
    if (errno == EAGAIN || errno == EINTR)
        return -errno;
    if (errno == EPIPE)
        return channel_peer_gone(ch);
    return error_set(errno, "%s: write: %s", ch->url, error_text(errno));
}

ssize_t pipe_io_write(struct naru_channel *ch, const struct iovec *iov, int count,
                      const struct stream_fds *fds, bool block)
{
    bool *no_nowait = &ch->io[CHANNEL_SENDING].no_rwf_nowait;
    struct iovec part;
    ssize_t n;
    int r;

    (void)fds;
    if (block) {
        r = prepare_blocking(ch, ch->wfd, CHANNEL_SENDING);
        n = r < 0 ? (errno = -r, -1) : write_flags(ch, iov, count, 0);
        return n < 0 ? write_failed(ch) : n;
    }
    if (!*no_nowait && !ch->io[CHANNEL_SENDING].no_rwf_nosignal) {
        n = write_flags(ch, iov, count, RWF_NOWAIT);
        if (n >= 0 || (errno != EOPNOTSUPP && errno != EINVAL))
            return n < 0 ? write_failed(ch) : n;
        *no_nowait = true;
    }
    r = prepare_nonblocking(ch, ch->wfd, CHANNEL_SENDING, POLLOUT);
    if (r <= 0)
        return r < 0 ? error_set(-r, "%s: %s", ch->url, error_text(-r)) : -EAGAIN;
    if (ch->foreign && iov->iov_len > PIPE_BUF) {
        part = (struct iovec){iov->iov_base, PIPE_BUF};
        iov = &part;
    }
    if (ch->foreign)
        count = 1;
    n = write_flags(ch, iov, count, 0);
    return n < 0 ? write_failed(ch) : n;
}

static int try_to_send(struct naru_channel *ch, const void *data, size_t length)
{
    uint8_t frame[STREAM_COPY_MAX];
    ssize_t n;

    if (!plain_can_send(ch->stream, length) || ch->io[CHANNEL_SENDING].nonblocking ||
        ch->io[CHANNEL_SENDING].sigpipe != SIGPIPE_IGNORED)
        return 0;
    n = write(ch->wfd, frame, plain_frame(frame, data, length));
    return n < 0 ? write_failed(ch) : plain_sent(ch->stream, length, (size_t)n);
}

int pipe_io_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    return channel_sent(ch, data, length, try_to_send(ch, data, length));
}

int64_t pipe_io_untaken(struct naru_channel *ch)
{
    struct pollfd pipe = {.fd = ch->wfd, .events = 0};
    /* POLLERR at a write end: nobody has the other one open (poll(2)). Looked at first: what is in the pipe
     * after the last reader has gone, nobody takes. */
    bool abandoned = fd_poll(&pipe, 1, NARU_NOWAIT) > 0 && (pipe.revents & POLLERR);
    int bytes;

    if (ioctl(ch->wfd, FIONREAD, &bytes) < 0)
        return error_set(errno, "%s: FIONREAD: %s", ch->url, error_text(errno));
    return bytes > 0 && abandoned ? channel_peer_gone(ch) : bytes;
}

int pipe_io_set_buffer(const char *url, int fd, const struct naru_options *opt)
{
    if (opt->buffer && fcntl(fd, F_SETPIPE_SZ, (int)opt->buffer) < 0)
        return error_set(
            errno, "%s: cannot make the pipe's buffer %zu bytes: %s; /proc/sys/fs/pipe-max-size is the limit",
            url, opt->buffer, error_text(errno));
    return 0;
}
