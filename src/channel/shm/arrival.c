/* SPDX-License-Identifier: MIT */
/* Answering who connects to a listener of shm:, whoever does it: see arrival.h. */
#include "channel/shm/arrival.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/discard.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/shm/handshake.h"
#include "channel/socket-io.h"

static struct shm_arrival *new_arrival(const char *what)
{
    struct shm_arrival *a = calloc(1, sizeof *a);

    if (!a) {
        (void)error_set(ENOMEM, "%s: out of memory for a connection", what);
        return NULL;
    }
    list_init(&a->node);
    a->rfd = a->wfd = a->side_fd = a->peer_pidfd = a->memory = a->loop_bell = a->their_loop_bell = -1;
    a->their_rfd = a->their_wfd = -1;
    a->peer = (struct naru_peer){-1, -1, -1};
    fork_guard_init(&a->guard);
    fork_guard_add(&a->guard, &a->rfd);
    fork_guard_add(&a->guard, &a->wfd);
    fork_guard_add(&a->guard, &a->their_rfd);
    fork_guard_add(&a->guard, &a->their_wfd);
    fork_guard_add(&a->guard, &a->side_fd);
    fork_guard_add(&a->guard, &a->loop_bell);
    fork_guard_add(&a->guard, &a->their_loop_bell);
    fork_guard_add(&a->guard, &a->peer_pidfd);
    fork_guard_add(&a->guard, &a->memory);
    return a;
}

void shm_arrival_drop(struct shm_arrival *a, bool owner)
{
    if (owner)
        shm_link_forsake(&a->own);
    if (owner && a->side_fd >= 0) /* it may have sent already */
        a->side_fd = handshake_hang_up(a->side_fd);
    a->their_rfd = handshake_close_bell(a->their_rfd);
    a->their_wfd = handshake_close_bell(a->their_wfd);
    sealed_deinit(&a->own);
    sealed_deinit(&a->theirs);
    fork_guard_close(&a->guard);
    free(a);
}

static int make_memory(const char *what, const struct shm_options *options, struct shm_arrival *a)
{
    return shm_link_make_lanes(what, options->ring, (unsigned)options->lanes, options->pool, &a->own,
                               &a->memory);
}

int shm_arrival_prepare(const char *what, const struct shm_options *options, struct shm_arrival **ret_arrival)
{
    struct shm_arrival *a = new_arrival(what);
    int r = a ? make_memory(what, options, a) : -ENOMEM;

    if (r == 0)
        *ret_arrival = a;
    else if (a)
        shm_arrival_drop(a, true);
    return r;
}

/* What is done with a bell for event loops could wait for ever on other files: those are refused. Where
 * nobody can tell they are let go; the other side's loop hears its socket as well, and ours has no other bell
 * then. */
static bool check_loop_bells(struct handshake_packet *packet)
{
    for (size_t i = HELLO_FDS; i < packet->fd_count; i++) {
        int r = fd_is_eventfd(packet->fds[i]);

        if (r == 0)
            return false;
        if (r < 0) {
            discard_fds(packet->fds + HELLO_FDS, packet->fd_count - HELLO_FDS);
            packet->fd_count = HELLO_FDS;
        }
    }
    return true;
}

/* Whether who is at the other end is of our own user, and in our pid namespace or one below it: who could
 * stop us anyway. */
static bool is_own(int fd)
{
    struct ucred who;
    socklen_t length = sizeof who;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.uid == geteuid() && who.pid > 0;
}

/* Whether a HELLO's descriptors are what they have to be; the memory is looked at by who maps it. fd: by
 * which it came. */
static enum handshake_reason check_fds(int fd, struct handshake_packet *packet)
{
    bool own = is_own(fd);

    if (packet->fd_count < HELLO_FDS_MOST && packet->fds_lost) /* there was room, but not in this process */
        return REASON_SHORT;
    if (packet->fd_count != HELLO_FDS && packet->fd_count != HELLO_FDS_MOST)
        return REASON_PROTOCOL;
    return check_loop_bells(packet) && handshake_is_bell(packet->fds[HELLO_RECEIVER_BELL], own) &&
                   handshake_is_bell(packet->fds[HELLO_SENDER_BELL], own)
               ? REASON_NONE
               : REASON_PROTOCOL;
}

/* Its bells, for the peer's user: to sleep in, and to be rung in their other ends; or only to be rung, and
 * the far ends of our own are in fds (handshake.h). 0 or explained. */
static int take_bells(const char *what, struct handshake_packet *packet, struct shm_arrival *a,
                      int fds[WELCOME_FDS_MOST])
{
    bool stranger = a->peer.uid != (int64_t)geteuid() || a->peer.pid <= 0; /* in a pid namespace of its own */
    int r = 0;

    if (stranger)
        r = shm_make_bell(what, &a->rfd, &fds[WELCOME_RECEIVER_BELL]);
    if (stranger && r == 0)
        r = shm_make_bell(what, &a->wfd, &fds[WELCOME_SENDER_BELL]);
    if (r < 0)
        return r;
    *(stranger ? &a->their_rfd : &a->rfd) = fd_steal(&packet->fds[HELLO_RECEIVER_BELL]);
    *(stranger ? &a->their_wfd : &a->wfd) = fd_steal(&packet->fds[HELLO_SENDER_BELL]);
    return 0;
}

/* 0, SHM_REFUSED (the peer has gone meanwhile) or what this process is short of, explained: then there is
 * room for a word without descriptors. */
static int pass(const char *what, int fd, const struct handshake_message *m, const int *fds, size_t count)
{
    int code = -handshake_send(fd, m, fds, count);

    if (code == 0)
        return 0;
    if (code == EPIPE || code == ECONNRESET || code == ENOTCONN || code == EAGAIN)
        return SHM_REFUSED;
    return error_set(code == ETOOMANYREFS ? EMFILE
                     : code == ENOBUFS    ? ENOMEM
                                          : code,
                     "%s: cannot pass descriptors to who connects: %s", what, socket_error_text(code));
}

/* Passes our memory, which is made if it is not there. As pass(). */
static int welcome(const char *what, const struct shm_options *options, int fd,
                   struct handshake_packet *packet, struct shm_arrival *a)
{
    struct handshake_message m = shm_say(HANDSHAKE_WELCOME, options);
    int fds[WELCOME_FDS_MOST] = {-1, -1, -1}, r = a->own.base ? 0 : make_memory(what, options, a);

    channel_ask_peer(fd, &a->peer, &a->peer_pidfd);
    if (r == 0)
        r = take_bells(what, packet, a, fds);
    fds[WELCOME_MEMORY] = a->memory;
    if (r == 0)
        r = pass(what, fd, &m, fds, a->their_rfd >= 0 ? WELCOME_FDS_MOST : WELCOME_FDS);
    (void)fd_close(fds[WELCOME_RECEIVER_BELL]);
    (void)fd_close(fds[WELCOME_SENDER_BELL]);
    if (r != 0)
        return r;
    fork_close(&a->memory);
    if (packet->fd_count == HELLO_FDS_MOST) {
        a->loop_bell = fd_steal(&packet->fds[HELLO_LISTENERS_LOOP_BELL]);
        a->their_loop_bell = fd_steal(&packet->fds[HELLO_CONNECTORS_LOOP_BELL]);
    }
    return 0;
}

/* To a HELLO that is one, with its descriptors. As welcome(), or -EPROTO: the memory is none. */
static int receive(const char *what, const struct shm_options *options, int fd,
                   struct handshake_packet *packet, const struct handshake_message *hello,
                   struct shm_arrival **prepared, struct shm_arrival **ret_arrival)
{
    struct shm_arrival *a = *prepared ? *prepared : new_arrival(what);
    int r = a ? shm_link_attach_lanes(what, packet->fds[HELLO_MEMORY], hello->ring, hello->lanes,
                                      options->pool_max, &a->theirs)
              : -ENOMEM;

    *prepared = NULL;
    if (r == 0) {
        a->pool_max = hello->pool_max;
        a->cpu = hello->cpu;
    }
    if (r == 0)
        r = welcome(what, options, fd, packet, a);
    if (r == 0)
        *ret_arrival = a;
    else if (a)
        shm_arrival_drop(a, true);
    return r;
}

/* To whatever it said. */
static int answer(const char *what, const struct shm_options *options, int fd,
                  struct handshake_packet *packet, struct shm_arrival **prepared,
                  struct shm_arrival **ret_arrival)
{
    const struct handshake_message own = shm_say(HANDSHAKE_WELCOME, options);
    struct handshake_message hello;
    enum handshake_reason reason = handshake_read(packet->bytes, packet->length, &own, &hello);
    int r = SHM_REFUSED;

    if (reason == REASON_NONE)
        reason = hello.kind == HANDSHAKE_HELLO ? check_fds(fd, packet) : REASON_PROTOCOL;
    if (reason == REASON_SHORT)
        r = error_set(EMFILE, "%s: no room for the descriptors of a connection; raise RLIMIT_NOFILE", what);
    if (reason == REASON_NONE) {
        r = receive(what, options, fd, packet, &hello, prepared, ret_arrival);
        reason = r == -EPROTO ? REASON_PROTOCOL : r < 0 ? REASON_SHORT : REASON_NONE;
    }
    if (reason != REASON_NONE)
        handshake_refuse(fd, reason, &own);
    return r == -EPROTO ? SHM_REFUSED : r;
}

int shm_answer(const char *what, const struct shm_options *options, int *fd, struct shm_arrival **prepared,
               struct shm_arrival **ret_arrival)
{
    enum handshake_next next = handshake_look(*fd);
    struct handshake_packet packet;
    int r;

    if (next == NEXT_NOTHING)
        return SHM_SILENT; /* what comes now has not been looked at */
    if (next == NEXT_STRANGE)
        return SHM_REFUSED; /* and told nothing: it could not read a word of ours */
    r = handshake_recv(*fd, &packet);
    if (r == -EAGAIN)
        return SHM_SILENT;
    if (r < 0)
        return SHM_REFUSED; /* it has gone, whatever the kernel says of it */
    r = answer(what, options, *fd, &packet, prepared, ret_arrival);
    if (r == SHM_ANSWERED)
        (*ret_arrival)->side_fd = fd_steal(fd);
    handshake_packet_close(&packet);
    return r;
}

/* What may fail comes first, and the other side has its WELCOME by now: it has connected. */
int shm_arrival_open(struct shm_arrival **arrival, const struct shm_options *options, struct naru_channel *ch)
{
    struct shm_arrival *a = *arrival;
    struct shm *shm;
    int r = shm_prepare(ch->url, options, &a->own, &a->theirs, &shm);

    if (r < 0) {
        if (!a->own.base || !a->theirs.base) {
            shm_arrival_drop(a, true);
            *arrival = NULL;
        }
        return r;
    }
    ch->rfd = fd_steal(&a->rfd);
    ch->wfd = fd_steal(&a->wfd);
    ch->their_rfd = fd_steal(&a->their_rfd);
    ch->their_wfd = fd_steal(&a->their_wfd);
    ch->side_fd = fd_steal(&a->side_fd);
    ch->loop_bell = fd_steal(&a->loop_bell);
    ch->their_loop_bell = fd_steal(&a->their_loop_bell);
    ch->peer = a->peer;
    ch->peer_pidfd = fd_steal(&a->peer_pidfd);
    shm_open_channel(ch, options, a->pool_max, &a->own, &a->theirs, shm);
    shm_note_cpu(ch, a->cpu);
    shm_link_claim(&shm->link);
    shm_arrival_drop(a, false);
    *arrival = NULL;
    return 0;
}
