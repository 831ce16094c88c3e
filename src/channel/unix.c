/* SPDX-License-Identifier: MIT */
/*
 * unix: sockets on one machine (unix(7)), in three kinds: a byte stream, seqpacket (messages over a
 * connection) and dgram (messages without one). Under a path, or under an abstract name (unix:@name) that
 * vanishes with its owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/datagram.h"
#include "channel/socket-io.h"
#include "channel/stream.h"
#include "channel/table.h"
#include "channel/unix-connect.h"
#include "channel/unix-end.h"
#include "channel/unix-endpoint.h"

enum {
    LARGEST = 4 * 1024 * 1024, /* bytes; SO_SNDBUF's usual limit (net.core.wmem_max) doubled, and more */
    SNDBUF_OVERHEAD = 32       /* unix_dgram_sendmsg(): a message may have SO_SNDBUF - 32 bytes */
};

static int kind_of(const struct channel_ops *ops)
{
    return ops == &unix_stream_ops ? SOCK_STREAM : ops == &unix_seqpacket_ops ? SOCK_SEQPACKET : SOCK_DGRAM;
}

/* --- opening --- */

/* Lets each message say who sent it (datagram.c needs that); of a byte stream nobody asks. Before anything
 * can arrive: what is queued without credentials stays so. 0 or the explained -errno. */
static int set_passcred(const struct url *url, int fd, int kind)
{
    int on = 1;

    if (kind != SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return error_set(errno, "%s: SO_PASSCRED: %s", url->text, error_text(errno));
    return 0;
}

/* A socket that is not connected yet, non-blocking. The descriptor or the explained -errno. */
static int make_socket(const struct url *url, int kind)
{
    FD_CLEANUP int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return error_set(errno, "%s: socket: %s", url->text, error_text(errno));
    r = set_passcred(url, fd, kind);
    return r < 0 ? r : fd_steal(&fd);
}

/* The largest message that the send buffer takes. */
static void limit_message(struct naru_channel *ch, int fd)
{
    int bytes;
    socklen_t length = sizeof bytes;

    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length) < 0 || bytes <= SNDBUF_OVERHEAD)
        return; /* the kernel still checks each message */
    if (ch->max_message > (size_t)bytes - SNDBUF_OVERHEAD)
        ch->max_message = (size_t)bytes - SNDBUF_OVERHEAD;
    ch->limit_mend = "raise it with ?buffer= (up to /proc/sys/net/core/wmem_max), or use ?type=stream";
}

/* At the end of connect, pair and accept; fd is the channel's from here on. */
static int open_channel(struct naru_channel *ch, int fd, const struct naru_options *opt, bool reply)
{
    struct datagram *d;
    int r;

    ch->rfd = ch->wfd = fd;
    ch->direction = NARU_DIRECTION_BOTH;
    r = socket_set_buffer(ch->url, fd, opt);
    if (r < 0)
        return r;
    if (ch->ops == &unix_stream_ops)
        return channel_make_stream(ch, opt, NARU_FRAME_LEN32, false);
    d = datagram_new(ch, LARGEST);
    if (!d)
        return -ENOMEM;
    d->ends = ch->ops == &unix_seqpacket_ops;
    d->reply = reply;
    ch->state = d;
    limit_message(ch, fd);
    return 0;
}

/* A receiver of datagrams has its listener's socket, as long as there is one. */
static bool has_socket_of_its_own(const struct naru_channel *ch)
{
    return ch->ops != &unix_dgram_ops || !ch->listener;
}

/* What other processes may have as well, or may use some day, is left to whoever closes it last. */
static void unix_close(struct naru_channel *ch, bool owner)
{
    if (owner && ch->rfd >= 0 && ch->rfd == ch->wfd && fork_guard_generation(&ch->guard) != 0 &&
        !ch->keep_on_fork && has_socket_of_its_own(ch)) {
        fork_hold();
        ch->rfd = ch->wfd = unix_end(ch->rfd);
        fork_release();
    }
    free(ch->state);
}

static int unix_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt)
{
    int fds[2], r = 0;

    if (*url->target)
        return error_set(EINVAL, "%s: a pair has no name; expected unix: or unix:?type=...", url->text);
    if (socketpair(AF_UNIX, kind_of(ch[0]->ops) | SOCK_CLOEXEC, 0, fds) < 0)
        return error_set(errno, "%s: socketpair: %s", url->text, error_text(errno));
    for (int i = 0; i < 2; i++) {
        int one = open_channel(ch[i], fds[i], opt, false);

        if (one == 0)
            one = set_passcred(url, fds[i], kind_of(ch[i]->ops));
        r = r < 0 ? r : one;
    }
    for (int i = 0; i < 2 && r < 0; i++)
        unix_close(ch[i], true);
    return r;
}

static int unix_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    struct sockaddr_un autobind = {.sun_family = AF_UNIX};
    struct unix_name name;
    int fd, r = unix_name_parse(url, &name);

    if (r == 0)
        r = url_check_unused(url); /* before a long wait */
    if (r < 0)
        return r;
    /* Non-blocking for the connect(2) alone: where the backlog is full it would sleep past the deadline. */
    fork_hold();
    fd = make_socket(url, kind_of(ch->ops));
    if (fd >= 0)
        ch->rfd = ch->wfd = fd;
    fork_release();
    if (fd < 0)
        return fd;
    /* A datagram's receiver can answer only to an address: take one that the kernel chooses (unix(7),
     * Autobind). */
    if (ch->ops == &unix_dgram_ops && bind(fd, (struct sockaddr *)&autobind, sizeof autobind.sun_family) < 0)
        return error_set(errno, "%s: bind: %s", url->text, error_text(errno));
    r = unix_connect_until(fd, url, &name, deadline);
    if (r < 0)
        return r;
    r = fd_set_nonblocking(fd, false);
    if (r < 0)
        return error_set(-r, "%s: fcntl: %s", url->text, error_text(-r));
    if (ch->ops != &unix_dgram_ops)
        channel_learn_peer(ch, fd);
    return open_channel(ch, fd, opt, false);
}

/* --- listening --- */

static int unix_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct unix_endpoint *endpoint;
    struct unix_name name;
    FD_CLEANUP int fd = -1;
    int r = unix_name_parse(url, &name);

    if (r < 0)
        return r;
    fd = make_socket(url, kind_of(l->ops)); /* what it accepts inherits SO_PASSCRED */
    if (fd < 0)
        return fd;
    r = unix_endpoint_open(l, fd, url, &name, opt->mode, &endpoint);
    if (r < 0)
        return r;
    l->fd = fd_steal(&fd);
    l->state = endpoint;
    return 0;
}

static void unix_unlisten(struct naru_listener *l, bool owner)
{
    l->state = unix_endpoint_close(l->state, l->lock_fd, owner);
    if (!owner)
        return;
    fork_hold();
    if (l->ops != &unix_dgram_ops)
        unix_end_waiting(l->fd);
    else if (!l->taken) /* or a channel has the socket, too */
        l->fd = unix_end(l->fd);
    fork_release();
}

static int unix_stop(struct naru_listener *l)
{
    return shutdown(l->fd, SHUT_RD) < 0 ? error_set(errno, "%s: shutdown: %s", l->url, error_text(errno)) : 0;
}

static int unix_accept(struct naru_listener *l, struct naru_channel *ch)
{
    bool connectionless = l->ops == &unix_dgram_ops;
    int fd = connectionless ? fcntl(l->fd, F_DUPFD_CLOEXEC, 0) : accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return -errno;
        if (errno == ECONNABORTED)
            return -EAGAIN;
        return error_set(errno, "%s: accept: %s", l->url, error_text(errno));
    }
    if (connectionless && fd_set_nonblocking(fd, false) < 0) {
        (void)fd_close(fd);
        return error_set(errno, "%s: fcntl: %s", l->url, error_text(errno));
    }
    if (!connectionless)
        channel_learn_peer(ch, fd);
    return open_channel(ch, fd, &l->options, connectionless);
}

static int unix_remove(struct url *url)
{
    struct unix_name name;
    int r = unix_name_parse(url, &name);

    return r < 0 ? r : unix_endpoint_remove(url, &name, kind_of(channel_find(url)));
}

/* A peer that closes takes what it had not read out of the count, as if it had read it: only the ECONNRESET
 * that the kernel leaves behind tells the difference (unix_release_sock() in net/unix/af_unix.c). */
static int64_t unix_untaken(struct naru_channel *ch)
{
    int bytes, code = 0;
    socklen_t length = sizeof code;

    if (ioctl(ch->wfd, SIOCOUTQ, &bytes) < 0)
        return error_set(errno, "%s: SIOCOUTQ: %s", ch->url, error_text(errno));
    if (bytes > 0)
        return bytes;
    if (getsockopt(ch->wfd, SOL_SOCKET, SO_ERROR, &code, &length) == 0)
        socket_note_reset(ch, code);
    return atomic_load_explicit(&ch->unread_lost, memory_order_relaxed) ? channel_peer_gone(ch) : 0;
}

/* poll(2) minds the queue of the peer that a socket is connected to. Answers go to whoever sent last, and
 * while that one's queue is full (max_dgram_qlen; unless it is connected to us) the socket counts as writable
 * all the same: unix_dgram_poll() in net/unix/af_unix.c. To wait by poll(2) alone would then be to spin. */
static int dgram_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    const struct datagram *d = ch->state;
    struct pollfd room = {.fd = ch->wfd, .events = POLLOUT};

    if (event == NARU_OUT && d->reply && fd_poll(&room, 1, NARU_NOWAIT) > 0)
        return channel_wait_backoff(ch, event, deadline);
    return channel_wait_poll(ch, event, deadline);
}

#define UNIX_COMMON                                                                                          \
    .pair = unix_pair, .connect = unix_connect, .listen = unix_listen, .accept = unix_accept,                \
    .stop = unix_stop, .unlisten = unix_unlisten, .remove = unix_remove, .untaken = unix_untaken,            \
    .close = unix_close
#define UNIX_CAPABILITIES                                                                                    \
    (NARU_CAN_DUPLEX | NARU_CAN_PAIR | NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_FDS |                   \
     NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL |                \
     NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN | NARU_CAN_CREDENTIALS)
#define UNIX_CONNECTED (NARU_CAN_ACCEPT_MANY | NARU_CAN_KNOW_DEATH | NARU_CAN_SEE_CLOSE)

const struct channel_ops unix_stream_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-stream",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock",
            .also = "unix:relative/path, unix:@name (abstract: no file)",
            .title = "unix socket, stream",
            .use_when = "programs on one machine talk both ways; the usual choice",
            .medium = "kernel socket buffer",
            .direction = "both ways",
            .unit = "byte stream",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "208 KiB buffered; SO_SNDBUF up to /proc/sys/net/core/wmem_max",
            .wait = "blocking send or recv, poll",
            .options = "type=stream|seqpacket|dgram\twhich kind of socket (stream)\n" CHANNEL_OPTIONS_STREAM(
                "len32") CHANNEL_OPTION_BUFFER CHANNEL_OPTION_MODE,
            .capabilities = UNIX_CAPABILITIES | UNIX_CONNECTED | NARU_CAN_FRAME},
    .variant = "stream",
    STREAM_MESSAGES,
    SOCKET_IO,
    UNIX_COMMON,
};

const struct channel_ops unix_seqpacket_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-seqpacket",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock?type=seqpacket",
            .title = "unix socket, seqpacket",
            .use_when = "as stream, and the kernel shall keep the messages apart",
            .medium = "kernel socket buffer",
            .direction = "both ways",
            .unit = "message",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "message up to SO_SNDBUF (208 KiB), /proc/sys/net/core/wmem_max",
            .wait = "blocking send or recv, poll",
            .options = "type=seqpacket\tthe kernel keeps the messages apart\n" CHANNEL_OPTION_BUFFER
                CHANNEL_OPTION_MODE,
            .capabilities = UNIX_CAPABILITIES | UNIX_CONNECTED,
            .max_message = 212960},
    .variant = "seqpacket",
    DATAGRAM_MESSAGES,
    UNIX_COMMON,
};

const struct channel_ops unix_dgram_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-dgram",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock?type=dgram",
            .title = "unix socket, datagram",
            .use_when = "many senders, one receiver, no connections (a log)",
            .medium = "kernel socket buffer",
            .direction = "both ways (replies to the last sender)",
            .unit = "message",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "/proc/sys/net/unix/max_dgram_qlen messages wait, each up to SO_SNDBUF",
            .wait = "blocking send or recv, poll",
            .options =
                "type=dgram\tthe kernel keeps the messages apart, without connections\n" CHANNEL_OPTION_BUFFER
                    CHANNEL_OPTION_MODE,
            .capabilities = UNIX_CAPABILITIES,
            .max_message = 212960},
    .variant = "dgram",
    DATAGRAM_MESSAGES,
    .wait = dgram_wait,
    UNIX_COMMON,
};
