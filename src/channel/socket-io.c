/* SPDX-License-Identifier: MIT */
/*
 * Attempts on stream sockets. MSG_DONTWAIT and MSG_NOSIGNAL say per call what a pipe needs tricks for
 * (pipe-io.c). A control buffer is always offered on sockets that can carry descriptors: the kernel closes
 * what finds no room.
 */
#include "channel/socket-io.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/stream-plain.h"

void socket_put_fds(struct msghdr *header, union socket_control *control, const int *fds, size_t count)
{
    struct cmsghdr *cmsg;

    if (count == 0)
        return;
    header->msg_control = control->bytes;
    header->msg_controllen = CMSG_SPACE(count * sizeof *fds);
    memset(control->bytes, 0, header->msg_controllen); /* also what lies behind them, for alignment */
    cmsg = CMSG_FIRSTHDR(header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(cmsg), fds, count * sizeof *fds);
}

static bool is_something_unreceived(const struct naru_channel *ch)
{
    int left = 0;

    return ioctl(ch->wfd, SIOCOUTQ, &left) == 0 && left > 0;
}

ssize_t socket_send_fds(struct naru_channel *ch, const struct msghdr *header, int flags)
{
    ssize_t n = sendmsg(ch->wfd, header, flags);

    ch->congested = false;
    if (n >= 0 || errno != ETOOMANYREFS)
        return n;
    ch->congested = is_something_unreceived(ch);
    if (!ch->congested) /* or not any more */
        return sendmsg(ch->wfd, header, flags);
    errno = EAGAIN;
    return -1;
}

const char *socket_error_text(int code)
{
    return code == ETOOMANYREFS
               ? "the descriptors that this user's programs have sent and nobody received are more than "
                 "`ulimit -n` here allows; raise it, or have them received"
               : error_text(code);
}

void socket_count_lost_fds(struct naru_channel *ch, const struct msghdr *header)
{
    if (header->msg_flags & MSG_CTRUNC)
        channel_count_dropped(ch, CHANNEL_RECEIVING, 1);
}

size_t socket_take_fds(struct naru_channel *ch, const struct msghdr *header, int *fds)
{
    socket_count_lost_fds(ch, header);
    return fd_received(header, fds);
}

void socket_note_reset(struct naru_channel *ch, int code)
{
    if (code == ECONNRESET) /* relaxed: publishes nothing but itself */
        atomic_store_explicit(&ch->unread_lost, true, memory_order_relaxed);
}

int socket_set_buffer(const char *url, int fd, const struct naru_options *opt)
{
    int bytes = (int)opt->buffer;

    if (opt->buffer == 0)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0)
        return error_set(errno, "%s: cannot set a buffer of %d bytes: %s", url, bytes, error_text(errno));
    return 0;
}

/* fd: may have been given any kind of stream socket. */
static bool is_network(const struct naru_channel *ch, int fd)
{
    int domain = AF_UNIX;
    socklen_t length = sizeof domain;

    if (ch->foreign)
        (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length); /* cannot fail: it is a socket */
    return domain != AF_UNIX || (ch->ops->row.capabilities & NARU_CAN_REACH_NETWORK);
}

static int reset_by_peer(const struct naru_channel *ch)
{
    return error_set(ECONNRESET,
                     "%s: the peer reset the connection: it ended with data unread, or was told to", ch->url);
}

static int write_failed(struct naru_channel *ch, int code)
{
    bool network = is_network(ch, ch->wfd);

    if (code == EAGAIN || code == EINTR)
        return -code;
    socket_note_reset(ch, code);
    /* A unix socket says ECONNRESET once when the peer closed with unread data, then EPIPE: the same event.
     */
    if (code == EPIPE || (code == ECONNRESET && !network))
        return channel_peer_gone(ch);
    if (code == ECONNRESET)
        return reset_by_peer(ch);
    return error_set(code, "%s: send: %s", ch->url, socket_error_text(code));
}

ssize_t socket_io_write(struct naru_channel *ch, const struct iovec *iov, int count,
                        const struct stream_fds *fds, bool block)
{
    int flags = MSG_NOSIGNAL | (block ? 0 : MSG_DONTWAIT);
    union socket_control control;
    struct msghdr header = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    ssize_t n;

    if (fds)
        socket_put_fds(&header, &control, fds->fds, fds->count);
    if (count == 1 && !fds)
        n = send(ch->wfd, iov->iov_base, iov->iov_len, flags);
    else
        n = fds ? socket_send_fds(ch, &header, flags) : sendmsg(ch->wfd, &header, flags);
    return n < 0 ? write_failed(ch, errno) : n;
}

static int read_failed(struct naru_channel *ch, int code)
{
    bool network = is_network(ch, ch->rfd);

    if (code == EAGAIN || code == EINTR)
        return -code;
    socket_note_reset(ch, code);
    if (code == ECONNRESET && !network)
        return 0; /* closed with data of ours unread; what the peer sent has been received by now */
    if (code == ECONNRESET)
        return reset_by_peer(ch);
    return error_set(code, "%s: receive: %s", ch->url, error_text(code));
}

ssize_t socket_io_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                       bool block)
{
    int flags = block ? 0 : MSG_DONTWAIT;
    bool passes_fds = ch->ops->row.capabilities & NARU_CAN_FDS;
    union socket_control control;
    struct msghdr header = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    ssize_t n;

    if (!passes_fds && count == 1) {
        n = recv(ch->rfd, iov->iov_base, iov->iov_len, flags);
        return n < 0 ? read_failed(ch, errno) : n;
    }
    if (fds) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        flags |= MSG_CMSG_CLOEXEC;
    }
    n = recvmsg(ch->rfd, &header, flags);
    if (n < 0)
        return read_failed(ch, errno);
    if (fds)
        fds->count = socket_take_fds(ch, &header, fds->fds);
    else
        socket_count_lost_fds(ch, &header);
    return n;
}

static int try_to_send(struct naru_channel *ch, const void *data, size_t length)
{
    uint8_t frame[STREAM_COPY_MAX];
    ssize_t n;

    if (!plain_can_send(ch->stream, length))
        return 0;
    n = send(ch->wfd, frame, plain_frame(frame, data, length), MSG_NOSIGNAL);
    return n < 0 ? (int)write_failed(ch, errno) : plain_sent(ch->stream, length, (size_t)n);
}

int socket_io_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    return channel_sent(ch, data, length, try_to_send(ch, data, length));
}

static int try_to_recv(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    struct stream *s = ch->stream;
    struct iovec all = {s->buffer, s->capacity};
    ssize_t n;

    if (plain_take(ch, buf, capacity, ret_length))
        return 1;
    if (!plain_can_fill(s) || !s->read_ahead)
        return 0;
    if (s->large)
        return stream_recv_large(ch, buf, capacity, ret_length);
    n = stream_read(ch, &all, 1, true);
    if (n < 0)
        return (int)n;
    s->tail = (size_t)n;
    return plain_take(ch, buf, capacity, ret_length);
}

ssize_t socket_io_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    size_t length = 0;
    int r = try_to_recv(ch, buf, capacity, &length);

    return channel_received(ch, buf, capacity, timeout_ns, r, length);
}
