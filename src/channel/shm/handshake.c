/* SPDX-License-Identifier: MIT */
/* Words of the handshake of shm:, written, read, sent and received. */
#include "channel/shm/handshake.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/discard.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/socket-io.h"
#include "naru/time.h"
#include "shm/layout.h"

enum {
    OLDEST_LAYOUT = 3,              /* that this code can still talk */
    RING_MOST = 1 << 30,            /* bytes; as ?ring= */
    RING_MAPPED = 64 * 1024 * 1024, /* of anybody; more only if our own is as large: mapping takes time */
    REST_MOST = 4 /* packets with descriptors that a hang-up receives: each of 253 takes a millisecond */
};

int64_t handshake_hello_within = NARU_S(1);

struct handshake_message handshake_make(enum handshake_kind kind, uint64_t ring)
{
    return (struct handshake_message){.magic = HANDSHAKE_MAGIC,
                                      .kind = (uint32_t)kind,
                                      .layout = SHM_LAYOUT,
                                      .oldest = OLDEST_LAYOUT,
                                      .line = SHM_LINE,
                                      .page = SHM_PAGE,
                                      .ring = ring,
                                      .lanes = 1,
                                      .ring_max = ring > RING_MAPPED ? ring : RING_MAPPED};
}

static bool have_a_layout_in_common(const struct handshake_message *a, const struct handshake_message *b)
{
    uint32_t newest = a->layout < b->layout ? a->layout : b->layout;
    uint32_t oldest = a->oldest > b->oldest ? a->oldest : b->oldest;

    return oldest <= newest && a->line == b->line && a->page == b->page;
}

static bool says_type(const struct handshake_type *t)
{
    return t->name[0] != '\0';
}

static bool are_one_type(const struct handshake_type *a, const struct handshake_type *b)
{
    return a->bytes == b->bytes && a->alignment == b->alignment && a->version == b->version &&
           strcmp(a->name, b->name) == 0;
}

enum handshake_reason handshake_read(const void *bytes, size_t length, const struct handshake_message *own,
                                     struct handshake_message *ret_m)
{
    *ret_m = (struct handshake_message){0};
    if (length < sizeof *ret_m || length == SIZE_MAX)
        return REASON_PROTOCOL;
    memcpy(ret_m, bytes, sizeof *ret_m);
    ret_m->type.name[sizeof ret_m->type.name - 1] = '\0';
    if (ret_m->magic != HANDSHAKE_MAGIC)
        return REASON_PROTOCOL;
    if (ret_m->kind == HANDSHAKE_REFUSED)
        return ret_m->reason == REASON_NONE ? REASON_PROTOCOL : REASON_NONE;
    if (ret_m->kind != HANDSHAKE_HELLO && ret_m->kind != HANDSHAKE_WELCOME)
        return REASON_PROTOCOL;
    if (ret_m->oldest == 0 || ret_m->oldest > ret_m->layout)
        return REASON_PROTOCOL;
    if (!have_a_layout_in_common(own, ret_m)) /* what follows may mean something else to it */
        return REASON_VERSION;
    if (ret_m->ring < SHM_PAGE || ret_m->ring > RING_MOST || (ret_m->ring & (ret_m->ring - 1)) != 0)
        return REASON_PROTOCOL;
    if (ret_m->lanes < 1 || ret_m->lanes > SHM_LANES)
        return REASON_PROTOCOL;
    if (ret_m->ring * ret_m->lanes > own->ring_max || own->ring * own->lanes > ret_m->ring_max)
        return REASON_SIZE;
    return says_type(&ret_m->type) && says_type(&own->type) && !are_one_type(&ret_m->type, &own->type)
               ? REASON_TYPE
               : REASON_NONE;
}

/* --- the socket --- */

static_assert((int)HANDSHAKE_FDS_MAX == (int)CHANNEL_FDS_MAX, "room for descriptors");

int handshake_send(int fd, const struct handshake_message *m, const int *fds, size_t count)
{
    struct iovec iov = {(void *)(uintptr_t)m, sizeof *m};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    union socket_control control;

    socket_put_fds(&header, &control, fds, count);
    return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void handshake_refuse(int fd, enum handshake_reason reason, const struct handshake_message *own)
{
    struct handshake_message m = *own;
    int r;

    m.kind = HANDSHAKE_REFUSED;
    m.reason = (uint32_t)reason;
    r = handshake_send(fd, &m, NULL, 0);
    (void)r; /* it may have gone */
}

int handshake_recv(int fd, struct handshake_packet *ret_packet)
{
    union socket_control control;
    struct iovec iov = {ret_packet->bytes, sizeof ret_packet->bytes};
    struct msghdr header;
    ssize_t n;

    *ret_packet = (struct handshake_packet){0};
    /* ECONNRESET, said once, is that the peer closed with words of ours unread: its own come afterwards. */
    for (int tries = 0; tries < 2; tries++) {
        header = (struct msghdr){.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0 || errno != ECONNRESET)
            break;
    }
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : errno == EINTR ? -EAGAIN : -errno;
    ret_packet->fd_count = fd_received(&header, ret_packet->fds);
    ret_packet->fds_lost = header.msg_flags & MSG_CTRUNC;
    if (n == 0 && ret_packet->fd_count == 0 && !ret_packet->fds_lost)
        return -EPIPE; /* or an empty packet, which is no word either */
    ret_packet->length = header.msg_flags & MSG_TRUNC ? SIZE_MAX : (size_t)n;
    return 0;
}

enum handshake_next handshake_look(int fd)
{
    uint64_t magic = 0;
    struct iovec iov = {&magic, sizeof magic};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1}; /* no room for descriptors: MSG_CTRUNC */
    ssize_t n = recvmsg(fd, &header, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN ? NEXT_NOTHING : NEXT_WORD;
    return n > 0 && !(header.msg_flags & MSG_CTRUNC) && magic != HANDSHAKE_MAGIC ? NEXT_STRANGE : NEXT_WORD;
}

void handshake_packet_close(struct handshake_packet *packet)
{
    discard_fds(packet->fds, packet->fd_count);
    packet->fd_count = 0;
}

/* Whether descriptors are among what was not received, which is left there. With credentials, an empty packet
 * is not like the end; there is room for nothing else, and of what finds none MSG_CTRUNC tells. */
static bool holds_descriptors(int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    int offset = 0; /* of the next packet: SO_PEEK_OFF, socket(7); an empty one is passed over by itself */

    for (int resets = 0; resets < 2;) {
        struct msghdr header = {.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        ssize_t n;

        if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) < 0)
            break;
        n = recvmsg(fd, &header, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
        if (n < 0 && errno != ECONNRESET && errno != EINTR)
            return errno != EAGAIN;
        if (n < 0) {
            resets += errno == ECONNRESET;
            continue;
        }
        if (header.msg_flags & MSG_CTRUNC)
            return true;
        if (header.msg_controllen == 0)
            return false;
        offset += (int)n;
    }
    return true; /* or so: to receive them does no harm */
}

/* The kernel would let go of what was not received, and of a socket that lingers only when its time is over
 * (base/discard.c). Nothing more comes after the shutdown. false: something is left, for there is much of it,
 * or there are enough descriptors already whose closing waits. */
static bool receive_the_rest(int fd)
{
    struct handshake_packet packet;
    union socket_control control;
    const int off = -1;

    (void)setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off);
    for (int resets = 0, packets = 0; resets < 2; packets++) {
        struct msghdr header = {.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        ssize_t n;

        if (packets == REST_MOST || discard_is_full())
            return false;
        n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno != ECONNRESET && errno != EINTR)
            break;
        if (n < 0) {
            resets += errno == ECONNRESET;
            continue;
        }
        if (header.msg_controllen == 0)
            break;
        packet.fd_count = fd_received(&header, packet.fds);
        handshake_packet_close(&packet);
    }
    return true;
}

/* What remains unread resets the connection: who sent it is told (ECONNRESET), where reading it would look
 * like an interest in it. */
int handshake_hang_up(int fd)
{
    const int on = 1;

    (void)shutdown(fd, SHUT_RD);
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    if (!holds_descriptors(fd) || receive_the_rest(fd))
        return fd_close(fd);
    (void)shutdown(fd, SHUT_RDWR); /* the peer is told now */
    discard_by_thread(fd);
    return -1;
}

int handshake_check_discards(const char *what)
{
    if (!discard_is_full())
        return 0;
    return error_set(EMFILE,
                     "%s: descriptors that were passed here, %d times or more, wait to be closed, and nobody "
                     "answers for their "
                     "file systems (FUSE, NFS); end or unmount those, and let fewer connect",
                     what, DISCARD_MOST);
}

void handshake_bar_bell(int fd)
{
    const int off = 0;

    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

/* Whatever lies in it is no honest peer's, who has not been answered yet. */
bool handshake_is_bell(int fd, bool own)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int unread = 0;

    if (fd_socket_option(fd, SO_DOMAIN) != AF_UNIX || fd_socket_option(fd, SO_TYPE) != SOCK_STREAM ||
        getpeername(fd, (struct sockaddr *)&address, &length) < 0)
        return false;
    if (own)
        handshake_bar_bell(fd);
    return ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
}

int handshake_close_bell(int fd)
{
    discard_shared_fds(&fd, 1);
    return -1;
}

/* --- explaining --- */

enum { DESCRIPTION = 128 };

/* A peer may have written anything for a name. */
static void describe(const struct handshake_type *t, char text[static DESCRIPTION])
{
    char name[sizeof t->name];

    for (size_t i = 0; i < sizeof name; i++)
        name[i] = t->name[i] == '\0' || (t->name[i] >= ' ' && t->name[i] <= '~') ? t->name[i] : '?';
    (void)snprintf(text, DESCRIPTION, "%s version %" PRIu32 " (%" PRIu64 " bytes, aligned to %" PRIu32 ")",
                   name, t->version, t->bytes, t->alignment);
}

static int other_type(const char *what, const struct handshake_type *ours,
                      const struct handshake_type *theirs)
{
    char own[DESCRIPTION], other[DESCRIPTION];

    describe(ours, own);
    describe(theirs, other);
    return error_set(EPROTOTYPE, "%s: our messages are %s, the peer's %s; build both from one declaration",
                     what, own, other);
}

int handshake_failed(const char *what, enum handshake_reason reason, const struct handshake_message *own,
                     const struct handshake_message *theirs)
{
    switch (reason) {
    case REASON_VERSION:
        return error_set(EPROTO,
                         "%s: the peer's naru talks layouts %" PRIu32 " to %" PRIu32
                         " of shared memory, this one %" PRIu32 " to %" PRIu32
                         "; update the older of the two",
                         what, theirs->oldest, theirs->layout, own->oldest, own->layout);
    case REASON_SIZE:
        return error_set(EINVAL,
                         "%s: the rings do not fit: this side's has %" PRIu64 " bytes and the peer's %" PRIu64
                         ", and each maps at most %" PRIu64
                         " or as much as its own; use a smaller ?ring=, or the same at both ends",
                         what, own->ring * own->lanes, theirs->ring * theirs->lanes, (uint64_t)RING_MAPPED);
    case REASON_TYPE:
        return other_type(what, &own->type, &theirs->type);
    case REASON_PERMISSION:
        return error_set(EACCES,
                         "%s: permission denied; who listens there lets in whom its ?allow-uid= and "
                         "?allow-gid= name, or without them at an abstract name its own user, and user %u is "
                         "neither",
                         what, (unsigned)geteuid());
    case REASON_SHORT:
        return error_set(EAGAIN, "%s: the listener is short of memory or descriptors; try again", what);
    case REASON_NONE:
    case REASON_PROTOCOL:
    default:
        return error_set(EPROTO, "%s: what is at the other end does not talk naru's shared memory", what);
    }
}
