/* SPDX-License-Identifier: MIT */
/*
 * Peers that pass a socket which lingers for an hour, with data that nobody reads: who closes the last
 * descriptor of it waits so long, and the kernel does likewise with one that was never received. Each test
 * here is over at once, or the runner ends it.
 */
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>

#include "channel/shm/test-shm.h"
#include "channel/socket-io.h"

/* A TCP connection that has more to send than anybody reads, and lingers for an hour. */
static int lingering_socket(int ret_others[2])
{
    const struct linger hour = {1, 3600};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    static const char zeros[65536];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ret_others[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(ret_others[0], (struct sockaddr *)&at, length) == 0 &&
          listen(ret_others[0], 1) == 0);
    CHECK(getsockname(ret_others[0], (struct sockaddr *)&at, &length) == 0);
    CHECK(connect(fd, (struct sockaddr *)&at, length) == 0);
    ret_others[1] = accept4(ret_others[0], NULL, NULL, SOCK_CLOEXEC);
    CHECK(ret_others[1] >= 0 && setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof hour) == 0);
    while (send(fd, zeros, sizeof zeros, MSG_DONTWAIT) > 0)
        ;
    return fd;
}

static ssize_t send_beside_a_byte(int to, int fd)
{
    struct msghdr header = {.msg_iov = &(struct iovec){(void *)(uintptr_t) "x", 1}, .msg_iovlen = 1};
    union socket_control control;

    socket_put_fds(&header, &control, &fd, 1);
    return sendmsg(to, &header, MSG_NOSIGNAL);
}

/* Which says of itself that it does not linger. */
static int socket_with_a_lingering_one(int ret_others[2])
{
    int ends[2], fd = lingering_socket(ret_others);

    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_INT(send_beside_a_byte(ends[1], fd), 1);
    close(ends[1]);
    close(fd);
    return ends[0];
}

static void put_in_place_of_a_bell(struct peer *peer, int fd)
{
    close(peer->fds[HELLO_SENDER_BELL]);
    peer->fds[HELLO_SENDER_BELL] = fd;
}

static void add(struct peer *peer, int fd)
{
    peer->fds[peer->fd_count++] = fd;
}

/* As a bell; as one of too many; behind a word that is refused already, with an empty one between; behind
 * garbage, which is left unread if nothing else is there; and in another socket. */
static const char *const places[] = {"in its place", "one too many", "behind", "behind garbage",
                                     "in another"};

static const char *each_place(size_t index)
{
    return index < sizeof places / sizeof *places ? places[index] : NULL;
}

TEST_EACH(a_socket_that_lingers_holds_up_no_listener, each_place)
{
    struct peer peer = honest_peer(HANDSHAKE_HELLO), empty = {.length = index == 3 ? 100 : 0};
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    int others[2], fd = raw_connect(),
                   lingering = index == 4 ? socket_with_a_lingering_one(others) : lingering_socket(others);

    if (index == 1 || index == 4)
        add(&peer, lingering);
    else
        put_in_place_of_a_bell(&peer, lingering);
    for (int i = 0; i < 2 && (index == 2 || index == 3); i++)
        say(fd, &empty, NULL);
    empty.length = 0;
    if (index == 3)
        say(fd, &empty, NULL);
    say(fd, &peer, NULL);
    peer_end(&peer); /* the last copy is on its way */
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    if (index < 2 || index == 4)
        CHECK(recv(fd, &peer.m, sizeof peer.m, 0) == sizeof peer.m && peer.m.reason == REASON_PROTOCOL);
    close(fd);
    close(others[0]);
    close(others[1]);
    check_still_serves(l);
    naru_listener_close(l);
}

TEST(nor_one_that_waits_in_a_bell)
{
    struct peer peer = honest_peer(HANDSHAKE_HELLO);
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    int others[2], fd = raw_connect(), lingering = lingering_socket(others);

    CHECK_INT(send_beside_a_byte(peer.ends[0], lingering), 1);
    close(lingering);
    say(fd, &peer, NULL);
    peer_end(&peer);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(recv(fd, &peer.m, sizeof peer.m, 0) == sizeof peer.m && peer.m.reason == REASON_PROTOCOL);
    close(fd);
    close(others[0]);
    close(others[1]);
    check_still_serves(l);
    naru_listener_close(l);
}

/* Neither the one who was let in and said nothing yet, nor the one who was not. */
TEST(nor_the_end_of_one)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;
    int fds[2], others[2][2];

    for (int i = 0; i < 2; i++) {
        struct peer peer = honest_peer(HANDSHAKE_HELLO);

        fds[i] = raw_connect();
        if (i == 0)
            CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        put_in_place_of_a_bell(&peer, lingering_socket(others[i]));
        say(fds[i], &peer, NULL);
        peer_end(&peer);
    }
    naru_listener_close(l);
    for (int i = 0; i < 2; i++) {
        CHECK(has_hung_up(fds[i]));
        close(fds[i]);
        close(others[i][0]);
        close(others[i][1]);
    }
}

/* A listener that brings it in place of memory, or behind a word that is none. */
static const char *const ways[] = {"in place of memory", "behind"};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index] : NULL;
}

/* Stopped meanwhile, so that it finds all that is said to it at once: it hangs up at the first word. */
static void say_to_the_stopped(int pid, int fd, const struct peer *const words[2])
{
    int status;

    CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    for (int i = 0; i < 2; i++)
        if (words[i])
            say(fd, words[i], NULL);
    CHECK_INT(kill(pid, SIGCONT), 0);
}

TEST_EACH(nor_a_connector, each_way)
{
    struct peer welcome = honest_peer(HANDSHAKE_WELCOME), garbage = {.length = 100};
    int others[2], listening = raw_listen(), pid = test_fork(), fd;

    if (pid == 0) {
        struct naru_channel *ch = NULL;
        size_t before = open_descriptors();

        CHECK_INT(naru_connect(url(), NULL, patience, &ch), -EPROTO);
        WAIT_UNTIL(open_descriptors() == before);
        test_child_end();
    }
    fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    close(welcome.fds[WELCOME_MEMORY]);
    welcome.fds[WELCOME_MEMORY] = lingering_socket(others);
    say_to_the_stopped(pid, fd, (const struct peer *[]){index == 1 ? &garbage : NULL, &welcome});
    peer_end(&welcome); /* the last copy is on its way */
    test_join(pid);
    for (int i = 0; i < 2; i++)
        close(others[i]);
    close(fd);
    close(listening);
    CHECK_INT(unlink(socket_path()), 0);
}

/* --- with messages --- */

static void send_socket(struct naru_channel *ch, int fd)
{
    struct iovec piece = {(void *)(uintptr_t) "x", 1};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = 1;
    CHECK_INT(naru_send_message(ch, &m, NARU_FOREVER), 0);
    close(fd);
}

static void send_lingering_socket(struct naru_channel *ch, int ret_others[2])
{
    send_socket(ch, lingering_socket(ret_others));
}

static const char *const carriers[] = {"shm:", "unix:", "unix:?type=seqpacket", "unix:?type=dgram"};

static const char *each_carrier(size_t index)
{
    return index < sizeof carriers / sizeof *carriers ? carriers[index] : NULL;
}

static const char *each_unix_carrier(size_t index)
{
    return each_carrier(index + 1);
}

TEST_EACH(nor_a_receiver_that_has_no_room_for_it, each_carrier)
{
    size_t before = open_descriptors();
    struct naru_channel *ch[2];
    char byte;
    int others[2];

    CHECK_INT(naru_channel_pair(carriers[index], NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
    send_lingering_socket(ch[0], others);
    CHECK_INT(naru_recv(ch[1], &byte, 1, patience), 1);
    close(others[0]);
    close(others[1]); /* which resets it: whoever closes it comes to an end */
    for (int i = 0; i < 2; i++)
        naru_channel_close(ch[i]);
    WAIT_UNTIL(open_descriptors() == before);
}

static const char *const ends[] = {"a channel", "one that was connected", "one that was not accepted"};

static const char *each_end(size_t index)
{
    return index < sizeof ends / sizeof *ends ? ends[index] : NULL;
}

TEST_EACH(nor_the_end_of, each_end)
{
    struct naru_channel *ch[2] = {NULL, NULL};
    struct naru_listener *l = NULL;
    int others[2];

    if (index == 0) {
        CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
        for (int i = 0; i < 2; i++)
            CHECK_INT(naru_channel_adopt(ch[i]), 0);
    } else {
        l = listen_there("");
        CHECK_INT(naru_connect(url(), NULL, patience, &ch[0]), 0);
    }
    if (index == 1)
        CHECK_INT(naru_accept(l, patience, &ch[1]), 0);
    send_lingering_socket(ch[0], others);
    if (index < 2)
        naru_channel_close(ch[1]);
    naru_listener_close(l);
    naru_channel_close(ch[0]);
    close(others[0]);
    close(others[1]);
}

/* As one closes with it unread its sender is told, at once. */
TEST_EACH(nor_the_end_of_a_unix_socket, each_unix_carrier)
{
    size_t before = open_descriptors();
    struct naru_channel *ch[2];
    int others[2];

    CHECK_INT(naru_channel_pair(carriers[index + 1], NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
    CHECK_INT(naru_send(ch[0], "first", 5, NARU_FOREVER), 0);
    send_lingering_socket(ch[0], others);
    CHECK_INT(naru_send(ch[0], "last", 4, NARU_FOREVER), 0);
    naru_channel_close(ch[1]);
    CHECK_INT(naru_send(ch[0], "more", 4, NARU_FOREVER), -EPIPE);
    if (index < 2) /* the kernel tells of no datagram what became of it */
        CHECK_INT(naru_flush(ch[0], NARU_TAKEN, patience), -EPIPE);
    close(others[0]);
    close(others[1]);
    naru_channel_close(ch[0]);
    WAIT_UNTIL(open_descriptors() == before);
}

/* Of datagrams the one channel has the listener's socket. */
TEST(nor_the_end_of_a_receiver_of_datagrams)
{
    size_t before = open_descriptors();
    const char *where = test_format("unix://%s?type=dgram", socket_path());

    for (int channel_first = 0; channel_first < 2; channel_first++) {
        struct naru_channel *near = NULL, *far = NULL;
        struct naru_listener *l = NULL;
        int others[2];

        CHECK_INT(naru_listen(where, NULL, &l), 0);
        CHECK_INT(naru_accept(l, patience, &near), 0);
        CHECK_INT(naru_connect(where, NULL, patience, &far), 0);
        send_lingering_socket(far, others);
        if (channel_first)
            naru_channel_close(near);
        naru_listener_close(l);
        if (!channel_first)
            naru_channel_close(near);
        naru_channel_close(far);
        close(others[0]);
        close(others[1]);
    }
    WAIT_UNTIL(open_descriptors() == before);
}

TEST_EACH(nor_the_end_of_a_unix_listener, each_unix_carrier)
{
    size_t before = open_descriptors();
    const char *where = test_format("unix://%s%s", socket_path(), strchr(carriers[index + 1], ':') + 1);
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int others[2];

    CHECK_INT(naru_listen(where, NULL, &l), 0);
    CHECK_INT(naru_connect(where, NULL, patience, &ch), 0);
    send_lingering_socket(ch, others);
    naru_listener_close(l);
    naru_channel_close(ch);
    close(others[0]);
    close(others[1]);
    WAIT_UNTIL(open_descriptors() == before);
}

/* --- beside what rings --- */

/* Whether the kernel takes it. */
static bool ring_with_a_lingering_socket(struct naru_channel *ch, int ret_others[2])
{
    int fd = lingering_socket(ret_others);
    bool taken = send_beside_a_byte(ch->rfd, fd) == 1; /* receivers ring each other */

    CHECK(taken || errno == EPERM);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){taken, 3600}, sizeof(struct linger)) == 0);
    close(fd);
    return taken;
}

/* One whom the kernel has not kept from getting any: before Linux 6.16. */
TEST(nor_a_sleeper_one_that_comes_by_its_bell)
{
    struct naru_channel *ch[2];
    const int on = 1;
    char byte;
    int others[2];

    CHECK_INT(naru_channel_pair("shm:?wait=sleep", NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
    (void)setsockopt(ch[1]->rfd, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof on);
    CHECK(ring_with_a_lingering_socket(ch[0], others));
    CHECK_INT(naru_recv(ch[1], &byte, 1, NARU_MS(20)), -ETIMEDOUT);
    naru_channel_close(ch[1]);
    naru_channel_close(ch[0]);
    close(others[0]);
    close(others[1]);
}

TEST(nor_the_end_of_a_channel_one_that_is_in_its_bell)
{
    struct naru_channel *ch[2];
    int others[2], value;
    socklen_t length = sizeof value;

    CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
    if (getsockopt(ch[1]->rfd, SOL_SOCKET, SO_PASSRIGHTS, &value, &length) < 0)
        test_skip("this kernel cannot keep descriptors from a socket");
    CHECK(!ring_with_a_lingering_socket(ch[0], others));
    naru_channel_close(ch[1]);
    naru_channel_close(ch[0]);
    close(others[0]);
    close(others[1]);
}

TEST_EACH(nor_a_message_with_a_socket_that_holds_one, each_carrier)
{
    size_t before = open_descriptors();
    struct naru_channel *ch[2];
    int others[2][2];
    char byte;

    CHECK_INT(naru_channel_pair(carriers[index], NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
    for (int i = 0; i < 2; i++)
        send_socket(ch[0], socket_with_a_lingering_one(others[i]));
    CHECK_INT(naru_recv(ch[1], &byte, 1, patience), 1); /* and one that nobody receives */
    for (int i = 0; i < 2; i++)
        naru_channel_close(ch[i]);
    for (int i = 0; i < 2; i++) {
        close(others[i][0]);
        close(others[i][1]);
    }
    WAIT_UNTIL(open_descriptors() == before);
}
