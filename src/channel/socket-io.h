/* SPDX-License-Identifier: MIT */
/* Attempts on stream sockets, with descriptors (SCM_RIGHTS) where the socket passes them; and addresses. */
#ifndef NARU_CHANNEL_SOCKET_IO_H
#define NARU_CHANNEL_SOCKET_IO_H

#include "channel/channel.h"

/* The write and read of unix:?type=stream and tcp:. */
ssize_t socket_io_write(struct naru_channel *ch, const struct iovec *iov, int count,
                        const struct stream_fds *fds, bool block);
ssize_t socket_io_read(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                       bool block);

/* Their short ways: see channel_ops. */
int socket_io_send_bytes(struct naru_channel *ch, const void *data, size_t length);
ssize_t socket_io_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns);

/* In a row of channel_ops. */
#define SOCKET_IO                                                                                            \
    .write = socket_io_write, .read = socket_io_read, .send_bytes = socket_io_send_bytes,                    \
    .recv_bytes = socket_io_recv_bytes

/* Room for one SCM_RIGHTS of CHANNEL_FDS_MAX descriptors and, received before it, one SCM_CREDENTIALS;
 * aligned as cmsg(3) wants it. */
union socket_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/* Puts descriptors into header, using control; nothing if there are none. */
void socket_put_fds(struct msghdr *header, union socket_control *control, const int *fds, size_t count);

/* sendmsg(2) of a header with descriptors, over ch->wfd, a unix socket. Of a user the kernel lets so many be
 * on their way as RLIMIT_NOFILE of who sends (unix(7): ETOOMANYREFS). Where some of what this socket sent was
 * not received, which gives room, that is EAGAIN, and channel_wait_poll() waits by the clock: poll(2) minds
 * bytes only. */
ssize_t socket_send_fds(struct naru_channel *ch, const struct msghdr *header, int flags);

/* error_text(), which knows what to do about ETOOMANYREFS. */
const char *socket_error_text(int code);

/* Takes the descriptors out of what recvmsg(2) filled in: at most CHANNEL_FDS_MAX. Returns how many. What the
 * kernel closed for want of room (here, or in the process: RLIMIT_NOFILE) counts as one dropped; it does not
 * say how many they were. */
size_t socket_take_fds(struct naru_channel *ch, const struct msghdr *header, int *fds);

/* Likewise where none are wanted. */
void socket_count_lost_fds(struct naru_channel *ch, const struct msghdr *header);

/* Remembers an ECONNRESET of a unix socket, which the kernel says only once: see unread_lost in channel.h. */
void socket_note_reset(struct naru_channel *ch, int code);

/* opt->buffer as SO_SNDBUF and SO_RCVBUF, if it is set. 0 or an explained -errno. */
int socket_set_buffer(const char *url, int fd, const struct naru_options *opt);

#endif
