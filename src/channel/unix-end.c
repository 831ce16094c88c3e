/* SPDX-License-Identifier: MIT */
/*
 * What a unix socket holds unreceived the kernel drops when it is closed, and close(2) waits for it: of a
 * socket that lingers (socket(7), SO_LINGER) whose last descriptor was on its way, as long as its owner said.
 * So what stands there is looked at first, and where such a one is among it a thread closes (base/discard.h).
 *
 * Looked at, and not received: that something stays unread is how its sender is told that it was lost. What
 * is looked at comes as descriptors of ours, though: they are closed again, which is not the last time.
 */
#include "channel/unix-end.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/discard.h"
#include "base/fd.h"
#include "channel/socket-io.h"

enum { LOOK = 4096 }; /* bytes of a stream, at which a look ends where it finds no descriptors before */

/* Or holds one that does. */
static bool lingers(int fd)
{
    struct linger linger = {0, 0};
    socklen_t length = sizeof linger;

    return discard_may_hold_others(fd) ||
           (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length) == 0 && linger.l_onoff);
}

/* Of what one look found. What there was no room for in this process may linger as well. */
static bool has_lingering(const struct msghdr *header)
{
    bool found = header->msg_flags & MSG_CTRUNC;
    int fds[CHANNEL_FDS_MAX];
    size_t count = fd_received(header, fds);

    for (size_t i = 0; i < count; i++)
        found = found || lingers(fds[i]);
    discard_shared_fds(fds, count);
    return found;
}

/* Nothing more comes. With SO_PEEK_OFF (socket(7)) each look begins where the one before ended. */
static bool holds_lingering(int fd)
{
    union socket_control control;
    bool found = false;
    char bytes[LOOK];
    int offset = 0;

    for (int resets = 0; !found && resets < 2;) {
        struct iovec iov = {bytes, sizeof bytes};
        struct msghdr header = {.msg_iov = &iov,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = sizeof control.bytes};
        ssize_t n;

        if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) < 0)
            break;
        n = recvmsg(fd, &header, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno != ECONNRESET && errno != EINTR)
            break;
        if (n < 0) {
            resets += errno == ECONNRESET;
            continue;
        }
        if (n == 0 && header.msg_controllen == 0) /* an empty message has credentials at least */
            break;
        found = has_lingering(&header);
        offset += (int)n;
    }
    return found;
}

int unix_end(int fd)
{
    (void)shutdown(fd, SHUT_RD); /* nothing more comes */
    if (!holds_lingering(fd))
        return fd_close(fd);
    (void)shutdown(fd, SHUT_RDWR); /* the peer is told now */
    discard_by_thread(fd);
    return -1;
}

void unix_end_waiting(int fd)
{
    int accepted;

    (void)shutdown(fd, SHUT_RD); /* nobody comes any more */
    while ((accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED || errno == EINTR)
        if (accepted >= 0)
            (void)unix_end(accepted);
}
