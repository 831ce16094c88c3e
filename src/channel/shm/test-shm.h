/* SPDX-License-Identifier: MIT */
/* What the tests of the rendezvous of shm: have in common: a peer that says what it likes. */
#ifndef NARU_CHANNEL_TEST_SHM_H
#define NARU_CHANNEL_TEST_SHM_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fork.h"
#include "channel/shm/handshake.h"
#include "naru/naru.h"
#include "runner.h"
#include "shm/link.h"

enum { RING = 64 * 1024 };

static const int64_t patience = NARU_S(60);

static inline const char *socket_path(void)
{
    static const char *path; /* some tests ask for it many thousand times */

    if (!path)
        path = test_format("%s/s", test_directory());
    return path;
}

static inline const char *url(void)
{
    return test_format("shm://%s", socket_path());
}

static inline struct sockaddr_un socket_address(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path());
    return address;
}

static inline int raw_connect(void)
{
    struct sockaddr_un address = socket_address();
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static inline int raw_listen(void)
{
    struct sockaddr_un address = socket_address();
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 5) == 0);
    return fd;
}

/* Whoever listens or connects there is told so. */
static inline void check_refused(const char *text, int code, const char *says)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_listen(text, NULL, &l), code);
    CHECK_CONTAINS(naru_explain(), says);
    CHECK_INT(naru_connect(text, NULL, NARU_NOWAIT, &ch), code);
    CHECK_CONTAINS(naru_explain(), says);
    CHECK(!l && !ch);
}

/* Descriptors of this process: what a liar brought is closed by a thread (base/discard.h). */
static inline size_t open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;

    CHECK(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static inline bool has_hung_up(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLHUP);
}

/* What a peer brings: honest until a test makes it lie. */
struct peer {
    struct handshake_message m;
    size_t length;
    int fds[64];
    size_t fd_count;
    struct sealed own;
    int ends[2]; /* of its bells */
};

static inline struct peer honest_peer(enum handshake_kind kind)
{
    struct peer peer = {.m = handshake_make(kind, RING), .length = sizeof peer.m, .ends = {-1, -1}};

    CHECK_INT(shm_link_make("test", RING, 0, &peer.own, &peer.fds[HELLO_MEMORY]), 0);
    peer.fd_count = WELCOME_FDS;
    for (int i = 0; i < 2 && kind == HANDSHAKE_HELLO; i++) {
        int pair[2];

        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        peer.fds[HELLO_RECEIVER_BELL + i] = pair[0];
        peer.ends[i] = pair[1];
        peer.fd_count = HELLO_FDS;
    }
    return peer;
}

/* Descriptors and all; packet: what is said in the place of peer->m, if anything. */
static inline void say(int fd, const struct peer *peer, const void *packet)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof peer->fds)];
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)(packet ? packet : &peer->m), peer->length};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (peer->fd_count) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(peer->fd_count * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(peer->fd_count * sizeof(int));
        memcpy(CMSG_DATA(&control.align), peer->fds, peer->fd_count * sizeof(int));
    }
    CHECK_INT(sendmsg(fd, &header, MSG_NOSIGNAL), (long long)peer->length);
}

static inline void peer_end(struct peer *peer)
{
    for (size_t i = 0; i < peer->fd_count; i++)
        close(peer->fds[i]);
    for (int i = 0; i < 2; i++)
        if (peer->ends[i] >= 0)
            close(peer->ends[i]);
    sealed_deinit(&peer->own);
}

static inline struct naru_listener *listen_there(const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("%s%s", url(), query), NULL, &l), 0);
    return l;
}

static inline void *connect_thread(void *query)
{
    struct naru_channel *ch = NULL;
    int r = naru_connect(test_format("%s%s", url(), (const char *)query), NULL, patience, &ch);

    if (r < 0)
        test_fail(__FILE__, __LINE__, "naru_connect: %d: %s", r, naru_explain());
    return ch;
}

/* Whoever else may be there: an honest peer comes through, and what it sends arrives. */
static inline void check_still_serves(struct naru_listener *l)
{
    struct naru_channel *near = NULL;
    pthread_t thread;
    char text[8];
    void *far;

    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=16k"), 0);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    CHECK_INT(naru_send(far, "there", 6, patience), 0);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    CHECK_INT(naru_send(near, "back", 5, patience), 0);
    CHECK_INT(naru_recv(far, text, sizeof text, patience), 5);
    naru_channel_close(far);
    naru_channel_close(near);
}

#endif
