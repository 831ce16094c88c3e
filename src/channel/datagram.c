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

static int send_failed(struct naru_channel *ch, const struct naru_message *m)
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
        if (m->iov_count > IOV_MAX) /* sendmsg(2) says the same of both */
            return error_set(EINVAL, "%s: a message of %zu pieces; the kernel takes %d", ch->url,
                             m->iov_count, IOV_MAX);
        return channel_too_large(ch, message_length(m), ch->max_message, ch->limit_mend);
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
        return error_set(errno, "%s: send: %s", ch->url, error_text(errno));
    }
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
        return send(ch->wfd, m->iov->iov_base, m->iov->iov_len, flags) < 0 ? send_failed(ch, m) : 0;
    put_header(m, &reply_to, &header);
    socket_put_fds(&header, &control, m->fds, m->fd_count);
    if (sendmsg(ch->wfd, &header, flags) < 0)
        return send_failed(ch, m);
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
    return sent < 0 ? send_failed(ch, m) : sent;
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

int datagram_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    struct datagram *d = ch->state;
    struct iovec iov[PIECES + 1];
    union socket_control control;
    struct channel_address from;
    struct arrival arrival;
    struct msghdr header = {.msg_iov = iov, .msg_control = control.bytes};
    size_t room = message_length(m), length;
    ssize_t n;
    int count = put_pieces(ch, m, room, iov);

    if (count < 0)
        return count;
    header.msg_iovlen = (size_t)count;
    header.msg_controllen = sizeof control.bytes;
    if (d->reply || m->address) {
        header.msg_name = &from.any;
        header.msg_namelen = sizeof from.storage;
    }
    n = receive(ch, &header, MSG_TRUNC | MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
    if (n < 0)
        return receive_failed(ch);
    length = (size_t)n;
    take_control(ch, &header, m, &arrival);
    if (length == 0 && d->ends && !arrival.credentials)
        return channel_peer_gone(ch);
    from.length = header.msg_name ? header.msg_namelen : 0;
    if (from.length)
        set_reply_address(d, &from);
    if (length > room && length <= d->largest) {
        channel_keep_fds(ch, arrival.fds, arrival.fd_count);
        ch->kept.address = from;
        return channel_keep(ch, m, length);
    }
    channel_give_fds(ch, m, arrival.fds, arrival.fd_count);
    channel_give_address(m, &from);
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
