/* SPDX-License-Identifier: MIT */
/* tcp: connections between machines (tcp(7)). Nothing listens beyond this machine unless told: an empty host
 * is loopback, "*" all addresses. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/address.h"
#include "channel/socket-io.h"
#include "channel/stream.h"
#include "channel/table.h"

enum { BACKLOG = 128 };

/* At the end of connect and accept: fd is the channel's. */
static int open_channel(struct naru_channel *ch, int fd, const struct naru_options *opt)
{
    int on = 1, r;

    ch->rfd = ch->wfd = fd;
    ch->direction = NARU_DIRECTION_BOTH;
    /* A message is never delayed behind the caller's back: no Nagle (tcp(7), TCP_NODELAY). */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        return error_set(errno, "%s: TCP_NODELAY: %s", ch->url, error_text(errno));
    r = socket_set_buffer(ch->url, fd, opt);
    return r < 0 ? r : channel_make_stream(ch, opt, NARU_FRAME_LEN32, false);
}

/*
 * Whether a loopback connection has connected to itself: when nobody listens on a port of the range that the
 * kernel chooses local ports from, it may choose that very port, and the two ends of the handshake meet in
 * one socket.
 */
static bool is_self(int fd)
{
    struct address here = {.length = sizeof here.v6}, there = {.length = sizeof there.v6};

    return getsockname(fd, &here.any, &here.length) == 0 && getpeername(fd, &there.any, &there.length) == 0 &&
           here.length == there.length && memcmp(&here.v6, &there.v6, here.length) == 0;
}

/* The channel's guard closes it in children from now on: the connection may be long in coming. 0 or -errno.
 */
static int make_socket(struct naru_channel *ch, int family)
{
    int code;

    fork_hold();
    ch->rfd = ch->wfd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    code = errno;
    fork_release();
    return ch->rfd < 0 ? -code : 0;
}

static void close_socket(struct naru_channel *ch)
{
    fork_hold();
    (void)fd_close(ch->rfd);
    ch->rfd = ch->wfd = -1;
    fork_release();
}

/* 0 or -errno (not explained). */
static int connect_until(int fd, const struct address *address, int64_t deadline)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    socklen_t length = sizeof(int);
    int error = 0, r;

    if (connect(fd, &address->any, address->length) < 0) {
        if (errno != EINPROGRESS && errno != EINTR)
            return -errno;
        r = fd_poll(&ready, 1, deadline);
        if (r <= 0)
            return r < 0 ? r : -ETIMEDOUT;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
            return -errno;
        if (error)
            return -error;
    }
    return is_self(fd) ? -ECONNREFUSED : fd_set_nonblocking(fd, false);
}

/* One try at one address, without waiting past the deadline. 0: ch->rfd is connected; or -errno (not
 * explained). */
static int try_address(struct naru_channel *ch, const struct address *address, int64_t deadline)
{
    int r = make_socket(ch, address->family);

    if (r < 0)
        return r;
    r = connect_until(ch->rfd, address, deadline);
    if (r < 0)
        close_socket(ch);
    return r;
}

/* Errors that a listener's arrival can end. */
static bool may_pass(int r)
{
    return r == -ECONNREFUSED || r == -ETIMEDOUT || r == -EHOSTUNREACH || r == -ENETUNREACH || r == -EAGAIN;
}

static int connect_failed(const struct naru_channel *ch, int r)
{
    if (r == -ECONNREFUSED)
        return error_set(ETIMEDOUT, "%s: nobody listens there; start the listener, or wait longer for it",
                         ch->url);
    if (r == -ETIMEDOUT)
        return error_set(ETIMEDOUT, "%s: no answer in time", ch->url);
    return error_set(-r, "%s: cannot connect: %s", ch->url, error_text(-r));
}

/* One try at each address: 0; or what the last of those said that a listener's arrival can
 * change (a machine without IPv6 has no ::1, and still a 127.0.0.1 to wait for), or the last of all. */
static int try_addresses(struct naru_channel *ch, const struct addresses *addresses, int64_t deadline)
{
    int result = 0;

    for (size_t i = 0; i < addresses->count; i++) {
        int r = try_address(ch, &addresses->list[i], deadline);

        if (r == 0)
            return 0;
        if (result == 0 || may_pass(r) || !may_pass(result))
            result = r;
    }
    return result;
}

static int tcp_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                       int64_t deadline)
{
    struct addresses addresses;
    int64_t step = 0;
    int r = url_check_unused(url); /* before a long wait */

    if (r == 0)
        r = addresses_resolve(url, SOCK_STREAM, false, &addresses);
    if (r < 0)
        return r;
    do
        r = try_addresses(ch, &addresses, deadline);
    while (r < 0 && may_pass(r) && backoff_sleep(&step, deadline));
    return r < 0 ? connect_failed(ch, r) : open_channel(ch, ch->rfd, opt);
}

/* A socket that listens at the address, or an explained -errno. */
static int listen_at(const struct url *url, const struct address *address)
{
    FD_CLEANUP int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int on = 1, r;

    if (fd < 0)
        return error_set(errno, "%s: socket: %s", url->text, error_text(errno));
    /* Connections of a dead predecessor linger in TIME_WAIT; a live listener is still refused (socket(7),
     * SO_REUSEADDR). */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return error_set(errno, "%s: SO_REUSEADDR: %s", url->text, error_text(errno));
    r = address_bind(url, fd, address);
    if (r < 0)
        return r;
    return listen(fd, BACKLOG) < 0 ? address_bind_failed(url, errno) : fd_steal(&fd);
}

/* A machine may have no IPv6, which stands first for "*": then the next address does. */
static int listen_first(struct naru_listener *l, const struct url *url, const struct addresses *addresses)
{
    FD_CLEANUP int fd = -1;
    int r;

    for (size_t i = 0; i < addresses->count; i++) {
        fd = listen_at(url, &addresses->list[i]);
        if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
            break;
    }
    if (fd < 0)
        return fd;
    r = address_listener_url(l, url, fd);
    if (r == 0)
        l->fd = fd_steal(&fd);
    return r;
}

static int tcp_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct addresses addresses;
    int r = addresses_resolve(url, SOCK_STREAM, true, &addresses);

    (void)opt;
    if (r < 0)
        return r;
    fork_hold();
    r = listen_first(l, url, &addresses);
    fork_release();
    return r;
}

static int tcp_accept(struct naru_listener *l, struct naru_channel *ch)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        /* accept(2): errors already pending on the new connection count as "none yet". */
        if (errno == ECONNABORTED || errno == EPROTO || errno == ENETDOWN || errno == EHOSTUNREACH ||
            errno == ENETUNREACH)
            return -EAGAIN;
        if (errno == EAGAIN || errno == EINTR)
            return -errno;
        return error_set(errno, "%s: accept: %s", l->url, error_text(errno));
    }
    return open_channel(ch, fd, &l->options);
}

const struct channel_ops tcp_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "tcp",
            .scheme = "tcp",
            .example = "tcp://127.0.0.1:5000",
            .also = "tcp://host.example:5000, tcp://[::1]:5000; to listen: tcp://:5000",
            .title = "TCP socket",
            .use_when = "the other process is, or may one day be, on another machine",
            .medium = "kernel socket buffers, network",
            .direction = "both ways",
            .unit = "byte stream",
            .scope = "network",
            .persistence = "until the connection is closed",
            .limit = "SO_SNDBUF and SO_RCVBUF, /proc/sys/net/ipv4/tcp_wmem",
            .wait = "blocking send or recv, poll",
            .options = CHANNEL_OPTIONS_STREAM("len32") CHANNEL_OPTION_BUFFER,
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_ACCEPT_MANY |
                            NARU_CAN_SEE_CLOSE | NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE |
                            NARU_CAN_POLL | NARU_CAN_FRAME | NARU_CAN_SEND_EMPTY | NARU_CAN_REACH_NETWORK |
                            NARU_CAN_PUSH_BACK},
    .connect = tcp_connect,
    .meets = true,
    .listen = tcp_listen,
    .accept = tcp_accept,
    STREAM_MESSAGES,
    SOCKET_IO,
};
