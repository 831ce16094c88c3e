/* SPDX-License-Identifier: MIT */
/*
 * What a stranger says at the rendezvous of shm:, as bytes and through a socket, with descriptors that are or
 * are not what they should be. What must hold besides not crashing:
 *
 *   - a word that is accepted is one with which both sides can go on: a layout in common, rings that each
 *     maps, powers of two; and read again, it is the same;
 *   - a word that is refused names a reason, and the sentence for it exists;
 *   - through a socket the same is read, and every descriptor that came is closed or counted.
 *
 * A word is the input's bytes, or what those make of an honest word that they are laid over (by XOR): so an
 * input that comes far still does when the layout has another number, and inputs of a few bytes say what is
 * wrong.
 */
#include "channel/shm/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fork.h"
#include "check.h"
#include "naru/error.h"
#include "shm/layout.h"

/* The input's first bytes: our own ring and what else we say; the descriptors. */
enum { CONTROL = 2, OWN_HELLO = 1, OVER_HONEST = 128, OWN_TYPE = 64, OWN_LANES = 128, LONGEST = 1024 };

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
    int fds[2], passed[HELLO_FDS_MOST + 2], count = choice % (HELLO_FDS_MOST + 3), before = lowest_free();
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
            CHECK(!handshake_is_bell(packet.fds[i], i % 2 == 0) && /* a seqpacket socket is none */
                  fd_is_eventfd(packet.fds[i]) <= 0);
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

static struct handshake_message make_own(const uint8_t control[CONTROL])
{
    static const struct handshake_type pose = {.bytes = 24, .alignment = 8, .version = 1, .name = "pose"};
    uint64_t ring = UINT64_C(4096) << (control[0] >> 1) % 32 % 19;
    struct handshake_message own =
        handshake_make(control[0] & OWN_HELLO ? HANDSHAKE_HELLO : HANDSHAKE_WELCOME, ring);

    if (control[1] & OWN_TYPE)
        own.type = pose;
    if (control[1] & OWN_LANES)
        own.lanes = SHM_LANES;
    return own;
}

/* What an honest peer says to that, changed by the input; its length. */
static size_t lay_over(const struct handshake_message *own, const uint8_t *data, size_t size,
                       uint8_t word[LONGEST])
{
    struct handshake_message honest = *own;
    size_t length = size > sizeof honest ? size : sizeof honest;

    honest.kind = own->kind == HANDSHAKE_HELLO ? HANDSHAKE_WELCOME : HANDSHAKE_HELLO;
    memset(word, 0, length);
    memcpy(word, &honest, sizeof honest);
    for (size_t i = 0; i < size; i++)
        word[i] ^= data[i];
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct handshake_message own;
    enum handshake_reason reason;
    uint8_t word[LONGEST];
    const uint8_t *said = data + CONTROL;
    size_t length = size - CONTROL;

    if (size < CONTROL || size > LONGEST)
        return 0;
    own = make_own(data);
    if (data[0] & OVER_HONEST) {
        length = lay_over(&own, said, length, word);
        said = word;
        CHECK(size > CONTROL || own.ring * own.lanes > own.ring_max ||
              handshake_read(said, length, &own, &(struct handshake_message){0}) == REASON_NONE);
    }
    reason = check_word(said, length, &own);
    check_through_socket(said, length, data[1] % 32, &own, reason);
    return 0;
}
