/* SPDX-License-Identifier: MIT */
/*
 * Attempts on sockets that keep message boundaries.
 *
 * A message that is larger than the caller's room would be cut off by the kernel. So behind the caller's
 * pieces stands an overflow area (ch->kept, reserved once, untouched memory until it is needed); what lands
 * there is kept together with the beginning, and the next receive gets it.
 *
 * On a seqpacket socket 0 bytes are either an empty message or the end. With SO_PASSCRED every message comes
 * with SCM_CREDENTIALS, and the end with none: that tells them apart, and names the sender.
 */
#include "channel/datagram.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/socket-io.h"

enum { PIECES = 64, BATCH = 64 };

static int send_failed(struct naru_channel *ch, size_t length)
{
    bool network = ch->ops->row.capabilities & NARU_CAN_REACH_NETWORK;
    const struct datagram *d = ch->state;

    switch (errno) {
    case EAGAIN:
    case EINTR:
        return -errno;
    case ENOBUFS:
        return -EAGAIN; /* the device's queue is full: socket(7) and packet drivers say so for a moment */
    case EMSGSIZE:
        return channel_too_large(ch, length, ch->max_message, ch->limit_mend);
    case ENOTCONN:
        if (!network && !d->reply) /* a dead receiver is refused once, and then disconnected (unix(7)) */
            return channel_peer_gone(ch);
        /* fall through */
    case EDESTADDRREQ:
        return error_set(EDESTADDRREQ,
                         "%s: nobody to send to yet; receive first (replies go to the last sender) or set "
                         "message.address",
                         ch->url);
    case EPIPE:
    case ECONNRESET:
        socket_note_reset(ch, errno);
        return channel_peer_gone(ch);
    case ECONNREFUSED:
        if (!network)
            return channel_peer_gone(ch);
        return error_set(ECONNREFUSED,
                         "%s: nobody listens there (an earlier datagram was refused); start the receiver",
                         ch->url);
    case EACCES:
        if (network)
            return error_set(EACCES, "%s: this is a broadcast address; add ?broadcast if that is meant",
                             ch->url);
        /* fall through */
    default:
        return error_set(errno, "%s: send: %s", ch->url, socket_error_text(errno));
    }
}

/* sendmsg(2) says EMSGSIZE of too many pieces as well. */
static int send_message_failed(struct naru_channel *ch, const struct naru_message *m)
{
    if (errno == EMSGSIZE && m->iov_count > IOV_MAX)
        return error_set(EINVAL, "%s: a message of %zu pieces; the kernel takes %d", ch->url, m->iov_count,
                         IOV_MAX);
    return send_failed(ch, message_length(m));
}

/* Where replies go: the address of the last sender, which a receiving thread may be changing. */
static void get_reply_address(struct datagram *d, struct channel_address *ret_address)
{
    ret_address->length = 0;
    if (!d->reply)
        return;
    (void)pthread_mutex_lock(&d->lock);
    *ret_address = d->reply_to;
    (void)pthread_mutex_unlock(&d->lock);
}

static void set_reply_address(struct datagram *d, const struct channel_address *address)
{
    if (!d->reply)
        return;
    (void)pthread_mutex_lock(&d->lock);
    d->reply_to = *address;
    (void)pthread_mutex_unlock(&d->lock);
}

/* Fills the header for one message; the caller's memory is only read. */
static void put_header(const struct naru_message *m, struct channel_address *reply_to,
                       struct msghdr *ret_header)
{
    *ret_header = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = m->iov_count};
    if (m->address) {
        ret_header->msg_name = m->address;
        ret_header->msg_namelen = m->address_length;
    } else if (reply_to->length) {
        ret_header->msg_name = &reply_to->any;
        ret_header->msg_namelen = reply_to->length;
    }
}

struct datagram *datagram_new(const struct naru_channel *ch, size_t largest)
{
    struct datagram *d = calloc(1, sizeof *d);

    if (!d) {
        (void)error_set(ENOMEM, "%s: out of memory for a channel", ch->url);
        return NULL;
    }
    (void)pthread_mutex_init(&d->lock, NULL); /* never fails on Linux */
    d->largest = largest;
    return d;
}

int datagram_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    int flags = MSG_NOSIGNAL | (block ? 0 : MSG_DONTWAIT);
    struct channel_address reply_to;
    union socket_control control;
    struct msghdr header;

    get_reply_address(ch->state, &reply_to);
    /* Where bytes are all there is to say, send(2) says it for less: the kernel fetches no header (140 ns).
     */
    if (m->iov_count == 1 && !m->fd_count && !m->address && !reply_to.length)
        return send(ch->wfd, m->iov->iov_base, m->iov->iov_len, flags) < 0 ? send_message_failed(ch, m) : 0;
    put_header(m, &reply_to, &header);
    socket_put_fds(&header, &control, m->fds, m->fd_count);
    if ((m->fd_count ? socket_send_fds(ch, &header, flags) : sendmsg(ch->wfd, &header, flags)) < 0)
        return send_message_failed(ch, m);
    return 0;
}

ssize_t datagram_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    struct channel_address reply_to;
    struct mmsghdr headers[BATCH];
    unsigned count = 0;
    int sent;

    get_reply_address(ch->state, &reply_to);
    for (; count < n && count < BATCH && message_at(m, count)->fd_count == 0; count++) {
        headers[count].msg_len = 0;
        put_header(message_at(m, count), &reply_to, &headers[count].msg_hdr);
    }
    if (count <= 1) {
        int r = datagram_send(ch, m, block);

        return r < 0 ? r : 1;
    }
    sent = sendmmsg(ch->wfd, headers, count, MSG_NOSIGNAL | (block ? 0 : MSG_DONTWAIT));
    return sent < 0 ? send_message_failed(ch, m) : sent;
}

/* What came beside the bytes. */
struct arrival {
    bool credentials;
    size_t fd_count;
    int fds[CHANNEL_FDS_MAX];
};

static void take_control(struct naru_channel *ch, struct msghdr *header, struct naru_message *m,
                         struct arrival *arrival)
{
    struct datagram *d = ch->state;

    arrival->credentials = false;
    arrival->fd_count = 0;
    if (header->msg_controllen == 0 && !(header->msg_flags & MSG_CTRUNC))
        return;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;

            memcpy(&who, CMSG_DATA(cmsg), sizeof who);
            arrival->credentials = true;
            if (who.pid > 0)
                m->sender = (struct naru_peer){who.pid, who.uid, who.gid};
        } else if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SO_RXQ_OVFL) {
            uint32_t overflows;

            memcpy(&overflows, CMSG_DATA(cmsg), sizeof overflows);
            /* The count runs on and may wrap. A second channel on the socket begins with what the count is
             * by then, which datagrams that had been waiting do not know of yet. */
            if ((int32_t)(overflows - d->overflows) > 0) {
                channel_count_dropped(ch, CHANNEL_RECEIVING, overflows - d->overflows);
                d->overflows = overflows;
            }
        }
    }
    arrival->fd_count = socket_take_fds(ch, header, arrival->fds);
}

/* The caller's pieces and the overflow area behind them. The number, or -errno. */
static int put_pieces(struct naru_channel *ch, const struct naru_message *m, size_t room, struct iovec *iov)
{
    const struct datagram *d = ch->state;
    int count = (int)m->iov_count;

    if (m->iov_count > PIECES)
        return error_set(EINVAL, "%s: %zu pieces to receive into; %d at most", ch->url, m->iov_count, PIECES);
    if (m->iov_count) /* without any the pointer may be NULL */
        memcpy(iov, m->iov, m->iov_count * sizeof *iov);
    if (room < d->largest) {
        if (channel_keep_reserve(ch, d->largest) < 0)
            return -ENOMEM;
        iov[count].iov_base = ch->kept.data + room;
        iov[count++].iov_len = d->largest - room;
    }
    return count;
}

static int receive_failed(struct naru_channel *ch)
{
    if (errno == EAGAIN || errno == EINTR)
        return -errno;
    if (errno == ECONNREFUSED)
        return error_set(ECONNREFUSED, "%s: nobody listens there (a datagram sent earlier was refused)",
                         ch->url);
    return error_set(errno, "%s: receive: %s", ch->url, error_text(errno));
}

/* recvmsg(2), where a unix socket says ECONNRESET before the messages it still holds: ask once more, then
 * they come. */
static ssize_t receive(struct naru_channel *ch, struct msghdr *header, int flags)
{
    size_t controllen = header->msg_controllen;
    socklen_t namelen = header->msg_namelen;
    ssize_t n = recvmsg(ch->rfd, header, flags);

    if (n < 0 && errno == ECONNRESET) {
        socket_note_reset(ch, ECONNRESET);
        header->msg_controllen = controllen;
        header->msg_namelen = namelen;
        n = recvmsg(ch->rfd, header, flags);
    }
    return n;
}

/* What one recvmsg(2) fills in. */
struct reception {
    struct msghdr header;
    struct channel_address from;
    union socket_control control; /* last, as struct cmsghdr ends in a flexible array */
};

static void prepare(struct reception *rx, struct iovec *iov, int count, bool with_address)
{
    rx->header = (struct msghdr){.msg_iov = iov,
                                 .msg_iovlen = (size_t)count,
                                 .msg_control = rx->control.bytes,
                                 .msg_controllen = sizeof rx->control.bytes};
    rx->from.length = 0;
    if (with_address) {
        rx->header.msg_name = &rx->from.any;
        rx->header.msg_namelen = sizeof rx->from.storage;
    }
}

/* A message of length bytes has been received into m's pieces and the overflow area. */
static int arrived(struct naru_channel *ch, struct naru_message *m, struct reception *rx, size_t length)
{
    struct datagram *d = ch->state;
    struct arrival arrival;
    size_t room = message_length(m);

    take_control(ch, &rx->header, m, &arrival);
    if (length == 0 && d->ends && !arrival.credentials)
        return channel_peer_gone(ch);
    rx->from.length = rx->header.msg_name ? rx->header.msg_namelen : 0;
    if (rx->from.length)
        set_reply_address(d, &rx->from);
    if (length > room && length <= d->largest) {
        channel_keep_fds(ch, arrival.fds, arrival.fd_count);
        ch->kept.address = rx->from;
        return channel_keep(ch, m, length);
    }
    channel_give_fds(ch, m, arrival.fds, arrival.fd_count);
    channel_give_address(m, &rx->from);
    if (length > room) {
        channel_count_dropped(ch, CHANNEL_RECEIVING, 1);
        return error_set(EBADMSG,
                         "%s: a message of %zu bytes was cut off by the kernel and is lost; the largest was "
                         "expected to have %zu",
                         ch->url, length, d->largest);
    }
    m->length = length;
    return 0;
}

int datagram_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    const struct datagram *d = ch->state;
    struct iovec iov[PIECES + 1];
    struct reception rx;
    int count = put_pieces(ch, m, message_length(m), iov);
    ssize_t n;

    if (count < 0)
        return count;
    prepare(&rx, iov, count, d->reply || m->address);
    n = receive(ch, &rx.header, MSG_TRUNC | MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
    return n < 0 ? receive_failed(ch) : arrived(ch, m, &rx, (size_t)n);
}

static int try_to_send(struct naru_channel *ch, const void *data, size_t length)
{
    const struct datagram *d = ch->state;
    struct channel_address to;
    ssize_t n;

    if (d->reply) {
        get_reply_address(ch->state, &to);
        if (!to.length)
            return 0;
        n = sendto(ch->wfd, data, length, MSG_NOSIGNAL, &to.any, to.length);
    } else {
        n = send(ch->wfd, data, length, MSG_NOSIGNAL);
    }
    return n < 0 ? send_failed(ch, length) : 1;
}

int datagram_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    return channel_sent(ch, data, length, try_to_send(ch, data, length));
}

/* Whether the sender's credentials are all that came beside the bytes, or nothing. */
static bool came_alone(struct msghdr *header)
{
    const struct cmsghdr *first = CMSG_FIRSTHDR(header);

    return !(header->msg_flags & MSG_CTRUNC) &&
           (!first || (header->msg_controllen == CMSG_SPACE(sizeof(struct ucred)) &&
                       first->cmsg_type == SCM_CREDENTIALS && first->cmsg_level == SOL_SOCKET));
}

static int try_to_recv(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    struct datagram *d = ch->state;
    struct iovec iov[2] = {{buf, capacity}, {NULL, 0}};
    struct naru_message m;
    struct reception rx;
    ssize_t n;
    int r;

    if (capacity < d->largest) {
        if (ch->kept.capacity < d->largest)
            return 0;
        iov[1] = (struct iovec){ch->kept.data + capacity, d->largest - capacity};
    }
    prepare(&rx, iov, capacity < d->largest ? 2 : 1, d->reply);
    n = receive(ch, &rx.header, MSG_TRUNC | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return receive_failed(ch);
    if (n > 0 && (size_t)n <= capacity && came_alone(&rx.header)) {
        rx.from.length = rx.header.msg_namelen;
        if (rx.from.length)
            set_reply_address(d, &rx.from);
        *ret_length = (size_t)n;
        return 1;
    }
    m = (struct naru_message){.size = sizeof m, .iov = iov, .iov_count = 1};
    r = arrived(ch, &m, &rx, (size_t)n);
    *ret_length = m.length;
    return r < 0 ? r : 1;
}

ssize_t datagram_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    size_t length = 0;
    int r = try_to_recv(ch, buf, capacity, &length);

    return channel_received(ch, buf, capacity, timeout_ns, r, length);
}
