/* SPDX-License-Identifier: MIT */
/*
 * udp: datagrams between machines (udp(7)): boundaries are kept, delivery and order are not promised.
 *
 * Connecting only notes the peer's address, so it never waits for a listener. That nobody listens is learnt,
 * if at all, from an ICMP message after a send: the next call says -ECONNREFUSED and the channel goes on
 * working. What the receiving kernel drops because the socket's buffer is full it counts, and tells with the
 * next datagram that fits (socket(7), SO_RXQ_OVFL).
 *
 * The listener's one channel receives from everybody and answers whoever sent last. Nothing listens beyond
 * this machine unless told: an empty host is loopback, "*" all addresses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/address.h"
#include "channel/datagram.h"
#include "channel/socket-io.h"
#include "channel/table.h"

enum {
    LARGEST = 65507,   /* bytes: 65535 of an IPv4 packet less 20 of its header and 8 of UDP's (RFC 768) */
    RECEIVED = 65527,  /* bytes: IPv6 does not count its own header (RFC 8200), so others may send this */
    TTL_MAX = 255,     /* ip(7), IP_TTL */
    HOPS_DEFAULT = -1, /* ipv6(7), IPV6_UNICAST_HOPS: the route's own */
};

struct udp_options {
    bool broadcast; /* ?broadcast  may send to broadcast addresses */
    int64_t ttl;    /* ?ttl=  routers that a datagram may pass; HOPS_DEFAULT: the kernel's choice */
};

static int parse(struct url *url, struct udp_options *ret_options)
{
    struct udp_options options = {.ttl = HOPS_DEFAULT};
    int r = url_option_flag(url, "broadcast", &options.broadcast);

    if (r == 0)
        r = url_option_number(url, "ttl", 1, TTL_MAX, &options.ttl);
    if (r == 0)
        r = url_check_unused(url);
    if (r == 0)
        *ret_options = options;
    return r;
}

static int set(const struct url *url, int fd, int level, int option, int value, const char *name)
{
    if (setsockopt(fd, level, option, &value, sizeof value) < 0)
        return error_set(errno, "%s: %s: %s", url->text, name, error_text(errno));
    return 0;
}

static int set_ttl(const struct url *url, int fd, int family, int ttl)
{
    int r;

    if (family == AF_INET6) {
        r = set(url, fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl, "IPV6_UNICAST_HOPS");
        return r < 0 ? r : set(url, fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl, "IPV6_MULTICAST_HOPS");
    }
    r = set(url, fd, IPPROTO_IP, IP_TTL, ttl, "IP_TTL");
    return r < 0 ? r : set(url, fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl, "IP_MULTICAST_TTL");
}

/* A socket with all that was asked for. The descriptor or -errno. */
static int make_socket(const struct url *url, int family, const struct udp_options *options,
                       const struct naru_options *opt)
{
    FD_CLEANUP int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
    int r;

    if (fd < 0)
        return error_set(errno, "%s: socket: %s", url->text, error_text(errno));
    r = set(url, fd, SOL_SOCKET, SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
    if (r == 0 && options->broadcast)
        r = set(url, fd, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
    if (r == 0 && options->ttl != HOPS_DEFAULT)
        r = set_ttl(url, fd, family, (int)options->ttl);
    if (r == 0)
        r = socket_set_buffer(url->text, fd, opt);
    return r < 0 ? r : fd_steal(&fd);
}

/* How many datagrams the kernel has dropped at this socket so far (sock_diag(7), SK_MEMINFO_DROPS). */
static uint32_t drops_so_far(int fd)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof memory;

    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0 ? 0 : memory[SK_MEMINFO_DROPS];
}

/* At the end of connect and accept: fd is the channel's. */
static int open_channel(struct naru_channel *ch, int fd, bool reply)
{
    struct datagram *d = datagram_new(ch, RECEIVED);

    ch->rfd = ch->wfd = fd;
    ch->direction = NARU_DIRECTION_BOTH;
    if (!d)
        return -ENOMEM;
    d->reply = reply;
    ch->state = d;
    ch->limit_mend = "no datagram can be larger; use tcp:";
    if (ch->max_message > LARGEST)
        ch->max_message = LARGEST;
    return 0;
}

static int connect_failed(const struct url *url, int code)
{
    switch (code) {
    case EACCES:
        return error_set(code, "%s: this is a broadcast address; add ?broadcast if that is meant", url->text);
    case ENETUNREACH:
    case EADDRNOTAVAIL:
        return error_set(code, "%s: no route leads there; `ip route` lists those there are", url->text);
    default:
        return error_set(code, "%s: cannot connect: %s", url->text, error_text(code));
    }
}

static int try_address(const struct url *url, const struct address *address,
                       const struct udp_options *options, const struct naru_options *opt)
{
    FD_CLEANUP int fd = make_socket(url, address->family, options, opt);

    if (fd < 0)
        return fd;
    if (connect(fd, &address->any, address->length) < 0)
        return connect_failed(url, errno);
    return fd_steal(&fd);
}

/* A connected socket, or the explained -errno. */
static int connect_first(const struct url *url, const struct addresses *addresses,
                         const struct udp_options *options, const struct naru_options *opt)
{
    /* Without a host it is loopback, and a listener without one listens on 127.0.0.1: no answer would tell us
     * that it does not on ::1. */
    bool v4_first = url->target[0] == ':';
    int r = -EADDRNOTAVAIL;

    for (int pass = 0; pass < 2 && r < 0; pass++)
        for (size_t i = 0; i < addresses->count && r < 0; i++)
            if ((pass == 0) == (!v4_first || addresses->list[i].family == AF_INET))
                r = try_address(url, &addresses->list[i], options, opt);
    return r;
}

static int udp_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                       int64_t deadline)
{
    struct udp_options options;
    struct addresses addresses;
    int r = parse(url, &options);

    (void)deadline; /* there is nobody to wait for */
    if (r == 0)
        r = addresses_resolve(url, SOCK_DGRAM, false, &addresses);
    if (r < 0)
        return r;
    fork_hold();
    r = connect_first(url, &addresses, &options, opt);
    if (r >= 0)
        r = open_channel(ch, r, false);
    fork_release();
    return r;
}

/* The first of the addresses that this machine has: without IPv6, "*" must fall back to IPv4. */
static int bind_first(const struct url *url, const struct addresses *addresses,
                      const struct udp_options *options, const struct naru_options *opt)
{
    int r = -EADDRNOTAVAIL;

    for (size_t i = 0; i < addresses->count; i++) {
        FD_CLEANUP int fd = make_socket(url, addresses->list[i].family, options, opt);

        r = fd;
        if (fd >= 0 && addresses->list[i].family == AF_INET6 && url->target[0] == '*')
            r = set(url, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY"); /* whatever the system's default */
        if (r >= 0)
            r = address_bind(url, fd, &addresses->list[i]);
        if (r == 0)
            return fd_steal(&fd);
        if (r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL)
            break;
    }
    return r;
}

static int listen_first(struct naru_listener *l, const struct url *url, const struct addresses *addresses,
                        const struct udp_options *options, const struct naru_options *opt)
{
    FD_CLEANUP int fd = bind_first(url, addresses, options, opt);
    int r = fd;

    if (r >= 0)
        r = address_listener_url(l, url, fd);
    if (r == 0)
        l->fd = fd_steal(&fd);
    return r;
}

static int udp_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct udp_options options;
    struct addresses addresses;
    int r = parse(url, &options);

    if (r == 0)
        r = addresses_resolve(url, SOCK_DGRAM, true, &addresses);
    if (r < 0)
        return r;
    fork_hold();
    r = listen_first(l, url, &addresses, &options, opt);
    fork_release();
    return r;
}

static int udp_accept(struct naru_listener *l, struct naru_channel *ch)
{
    int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0), r;

    if (fd < 0)
        return error_set(errno, "%s: cannot duplicate the descriptor: %s", l->url, error_text(errno));
    r = open_channel(ch, fd, true);
    if (r == 0 && l->state) /* not the first channel: what was dropped before it is not its loss */
        ((struct datagram *)ch->state)->overflows = drops_so_far(fd);
    l->state = l; /* a mark, no more */
    return r;
}

static void udp_close(struct naru_channel *ch, bool owner)
{
    (void)owner;
    free(ch->state);
}

const struct channel_ops udp_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "udp",
            .scheme = "udp",
            .example = "udp://127.0.0.1:5000",
            .also = "udp://host.example:5000, udp://[::1]:5000; to listen: udp://:5000",
            .title = "UDP socket",
            .use_when = "a message that comes late is worth no more than one that is lost",
            .medium = "kernel socket buffers, network",
            .direction = "both ways (replies to the last sender)",
            .unit = "message",
            .scope = "network",
            .persistence = "none; what finds no room is dropped and counted",
            .limit = "65,507 bytes a message; SO_RCVBUF, /proc/sys/net/core/rmem_max",
            .wait = "blocking recv, poll; a sender does not wait for the receiver",
            .options = "broadcast=yes\tmay send to broadcast addresses\n"
                       "ttl=N\trouters it may pass (64)\n" CHANNEL_OPTION_BUFFER,
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_POLL |
                            NARU_CAN_SEND_EMPTY | NARU_CAN_REACH_NETWORK,
            .max_message = LARGEST},
    .connect = udp_connect,
    .listen = udp_listen,
    .accept = udp_accept,
    DATAGRAM_MESSAGES,
    .close = udp_close,
};
