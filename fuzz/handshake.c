/* SPDX-License-Identifier: MIT */
/*
 * What a stranger says at the rendezvous of shm:, as bytes and through a socket, with descriptors that are or
 * are not what they should be. What must hold besides not crashing:
 *
 *   - a word that is accepted is one with which both sides can go on: a layout in common, rings that each
 *     maps, powers of two; and read again, it is the same;
 *   - a word that is refused names a reason, and the sentence for it exists;
 *   - through a socket the same is read, and every descriptor that came is closed or counted.
 */
#include "channel/shm-handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fork.h"
#include "check.h"
#include "naru/error.h"
#include "shm/layout.h"

enum { CONTROL = 2 }; /* bytes of the input that choose the ring of our own, and the descriptors */

static void check_accepted(const struct handshake_message *m, const struct handshake_message *own)
{
    CHECK(m->magic == HANDSHAKE_MAGIC);
    if (m->kind == HANDSHAKE_REFUSED) {
        CHECK(m->reason != REASON_NONE);
        return;
    }
    CHECK(m->kind == HANDSHAKE_HELLO || m->kind == HANDSHAKE_WELCOME);
    CHECK(m->oldest >= 1 && m->oldest <= SHM_LAYOUT && m->layout >= own->oldest);
    CHECK(m->line == SHM_LINE && m->page == SHM_PAGE);
    CHECK(m->ring >= SHM_PAGE && (m->ring & (m->ring - 1)) == 0);
    CHECK(m->lanes >= 1 && m->lanes <= SHM_LANES);
    CHECK(m->ring * m->lanes <= own->ring_max && own->ring * own->lanes <= m->ring_max);
}

static enum handshake_reason check_word(const uint8_t *data, size_t size, const struct handshake_message *own)
{
    struct handshake_message m, again;
    enum handshake_reason reason = handshake_read(data, size, own, &m);

    if (reason == REASON_NONE) {
        check_accepted(&m, own);
        CHECK(handshake_read(&m, sizeof m, own, &again) == REASON_NONE);
        CHECK(memcmp(&m, &again, sizeof m) == 0);
    }
    if (reason != REASON_NONE || m.kind == HANDSHAKE_REFUSED) {
        enum handshake_reason told = reason == REASON_NONE ? (enum handshake_reason)m.reason : reason;

        CHECK(handshake_failed("shm:fuzz", told, own, &m) < 0);
        CHECK(*naru_explain());
    }
    return reason;
}

/* Descriptors that are open from 3 on. */
static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);

    CHECK(fd >= 0);
    CHECK(close(fd) == 0);
    return fd;
}

static void check_through_socket(const uint8_t *data, size_t size, uint8_t choice,
                                 const struct handshake_message *own, enum handshake_reason expected)
{
    struct handshake_message m;
    struct handshake_packet packet;
    int fds[2], passed[HELLO_FDS + 2], count = choice % (HELLO_FDS + 3), before = lowest_free();
    struct iovec iov = {(void *)(uintptr_t)data, size};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof passed)];
    } control = {.bytes = {0}};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    for (int i = 0; i < count; i++)
        passed[i] = fds[i % 2];
    if (count) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(&control.align), passed, (size_t)count * sizeof(int));
    }
    CHECK(sendmsg(fds[0], &header, 0) == (ssize_t)size);
    fork_hold();
    if (handshake_recv(fds[1], &packet) == 0) {
        CHECK(packet.fd_count == (size_t)count && !packet.fds_lost);
        for (size_t i = 0; i < packet.fd_count; i++)
            CHECK(!handshake_is_bell(packet.fds[i])); /* a seqpacket socket is none */
        if (size <= sizeof packet.bytes)
            CHECK(packet.length == size && memcmp(packet.bytes, data, size) == 0 &&
                  handshake_read(packet.bytes, packet.length, own, &m) == expected);
        else
            CHECK(handshake_read(packet.bytes, packet.length, own, &m) == REASON_PROTOCOL);
        handshake_packet_close(&packet);
    } else {
        CHECK(size == 0 && count == 0);
    }
    handshake_refuse(fds[1], expected, own);
    CHECK(sendmsg(fds[0], &header, 0) == (ssize_t)size); /* nobody is to receive it */
    (void)handshake_hang_up(fds[1]);
    fork_release();
    close(fds[0]);
    CHECK(lowest_free() == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct handshake_message own;
    enum handshake_reason reason;

    if (size < CONTROL || size > 1024)
        return 0;
    own = handshake_make(data[0] & 1 ? HANDSHAKE_HELLO : HANDSHAKE_WELCOME, UINT64_C(4096)
                                                                                << (data[0] >> 1) % 19);
    reason = check_word(data + CONTROL, size - CONTROL, &own);
    check_through_socket(data + CONTROL, size - CONTROL, data[1], &own, reason);
    return 0;
}
