/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that go with messages over shared memory. Memory cannot carry them, a socket can: that over
 * which the two sides met, or one of its own for a pair. They are sent, one packet a message, before the
 * message's record is committed, and the record's header says how many there are. So whoever finds such a
 * record finds its packet, and the packets come in the order of the records. A sender that is killed in
 * between leaves a packet whose record never comes, and after which nothing comes: the kernel closes it with
 * the socket.
 *
 * A packet says at which position of the ring its record is, and how many descriptors it has, as a check:
 * what does not agree with the record was not written by naru. Records without descriptors ask nothing of any
 * of this: one with some looks like one of another kind to the short way.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "base/discard.h"
#include "base/error.h"
#include "channel/shm/shm.h"
#include "channel/socket-io.h"

/* What goes with the descriptors. */
struct packet {
    uint64_t position;
    uint32_t count;
    uint32_t reserved; /* 0 */
};

static_assert(sizeof(struct packet) == 16, "wire format");

/* --- the sender --- */

/* Forgets those that have been received. */
static enum ring_state collect(struct shm *shm)
{
    uint64_t left, received;

    if (shm_look_for_taken(shm, 0, &left) == RING_BROKEN)
        return RING_BROKEN;
    received = shm->link.tx.position - left;
    while (shm->fds_out > 0 && (int64_t)(received - shm->fds_ends[shm->fds_first]) >= 0) {
        shm->fds_first = (shm->fds_first + 1) % SHM_FDS_OUT;
        shm->fds_out--;
    }
    if (shm->fds_out == 0)
        shm->fds_most = SHM_FDS_OUT;
    return RING_OK;
}

enum ring_state shm_look_for_fds(struct shm *shm)
{
    enum ring_state state = shm->fds_out < shm->fds_most ? RING_OK : collect(shm);

    return state == RING_OK && shm->fds_out >= shm->fds_most ? RING_FULL : state;
}

/* The socket did not take them. */
static int not_passed(struct naru_channel *ch, size_t count)
{
    struct shm *shm = ch->state;
    int code = errno, r;

    if (code == EINTR)
        return -EINTR;
    /* Full, or there are too many of this user's for RLIMIT_NOFILE: wait until one of those in it has been
     * received. */
    if ((code == EAGAIN || code == ETOOMANYREFS) && shm->fds_out > 0) {
        shm->fds_most = shm->fds_out;
        return -EAGAIN;
    }
    if (code == EAGAIN) /* full of what the peer says that it has received */
        return shm_say_broken(ch);
    if (code == EPIPE || code == ECONNRESET) {
        (void)shm_is_alone(shm, &shm->link.sender);
        r = shm_check_receiver(ch);
        return r < 0 ? r : error_set(EPIPE, "%s: the peer takes no descriptors", ch->url);
    }
    return error_set(code, "%s: cannot pass %zu descriptors: %s", ch->url, count, socket_error_text(code));
}

int shm_pass_fds(struct naru_channel *ch, const struct naru_message *m, uint64_t word)
{
    struct shm *shm = ch->state;
    uint64_t position = shm->link.tx.position;
    struct packet packet = {.position = position, .count = (uint32_t)m->fd_count};
    struct iovec iov = {&packet, sizeof packet};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    union socket_control control;

    socket_put_fds(&header, &control, m->fds, m->fd_count);
    if (sendmsg(ch->side_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return not_passed(ch, m->fd_count);
    shm->fds_ends[(shm->fds_first + shm->fds_out) % SHM_FDS_OUT] =
        position + record_bytes(record_length(word));
    shm->fds_out++;
    return 0;
}

/* --- the receiver --- */

/* Receives a packet. Its length, or -errno. */
static ssize_t receive(struct naru_channel *ch, struct packet *packet, struct msghdr *header,
                       union socket_control *control)
{
    struct iovec iov = {packet, sizeof *packet};
    ssize_t n;

    /* ECONNRESET, said once, is that the peer closed with packets of ours unread: its own come afterwards. */
    for (int tries = 0; tries < 2;) {
        *header = (struct msghdr){.msg_iov = &iov,
                                  .msg_iovlen = 1,
                                  .msg_control = control->bytes,
                                  .msg_controllen = sizeof control->bytes};
        n = recvmsg(ch->side_fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0 || (errno != ECONNRESET && errno != EINTR))
            break;
        tries += errno == ECONNRESET;
    }
    return n;
}

/* The packet was to be sent first: if none is there, nothing that came before was written by naru. Anything
 * else is our own kernel's word, and the message stays. */
static int not_received(struct naru_channel *ch, uint32_t count)
{
    if (errno == EAGAIN || errno == ECONNRESET)
        return shm_say_broken(ch);
    return error_set(errno,
                     "%s: cannot receive the %" PRIu32 " descriptors of the next message (recvmsg): %s%s",
                     ch->url, count, error_text(errno),
                     errno == EPERM || errno == ENOSYS ? "; a sandbox (seccomp) forbids the call" : "");
}

int shm_take_fds(struct naru_channel *ch, const struct shm_found *found, struct naru_message *m)
{
    const struct shm *shm = ch->state;
    struct naru_message nowhere = {.fd_capacity = 0};
    union socket_control control;
    int fds[CHANNEL_FDS_MAX];
    struct packet packet;
    struct msghdr header;
    size_t count;
    ssize_t n;

    if (ch->side_fd < 0) /* a segment with a name: there is no socket, and no naru writes such a record */
        return shm_say_broken(ch);
    if ((!m || m->fd_capacity < found->fds) && discard_is_full())
        return error_set(
            EMFILE,
            "%s: the next message has %" PRIu32 " descriptors, and those of %d others wait to be closed, "
            "as nobody answers for their file systems (FUSE, NFS); receive it with room for them",
            ch->url, found->fds, DISCARD_MOST);
    n = receive(ch, &packet, &header, &control);
    if (n < 0)
        return not_received(ch, found->fds);
    count = socket_take_fds(ch, &header, fds);
    if (header.msg_flags & MSG_TRUNC || n != (ssize_t)sizeof packet || found->lane != 0 ||
        packet.position != shm->link.rx.position || packet.count != found->fds || count > found->fds ||
        (count < found->fds && !(header.msg_flags & MSG_CTRUNC))) {
        discard_fds(fds, count);
        return shm_say_broken(ch);
    }
    if (count + 1 < found->fds) /* for want of room in this process; one has been counted */
        channel_count_dropped(ch, CHANNEL_RECEIVING, found->fds - count - 1);
    channel_give_fds(ch, m ? m : &nowhere, fds, count);
    return 0;
}
