/* SPDX-License-Identifier: MIT */
/*
 * A peer that passes a file of a file system of its own, which is served by a process of its own (FUSE) that
 * does not answer: closing a descriptor of such a file asks that process, and waits.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/discard.h"
#include "channel/shm/test-shm.h"
#include "silent-fuse.h"

static int open_silent_file(void)
{
    int fd = open(silent_path(), O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0);
    return fd;
}

/* Why all of this: it is so, even for who is killed meanwhile. */
TEST(closing_such_a_descriptor_waits_for_its_server)
{
    int server = mount_silent(S_IFREG), pid = test_fork(), status;

    if (pid == 0) {
        CHECK(close(open_silent_file()) < 0);
        test_child_end();
    }
    WAIT_UNTIL(*flushes == 1);
    CHECK_INT(kill(pid, SIGKILL), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(waitpid(pid, &status, WNOHANG), 0);
        (void)sched_yield();
    }
    unmount(server);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
}

/* --- to a listener --- */

static void in_place_of_memory(struct peer *p)
{
    close(p->fds[HELLO_MEMORY]);
    p->fds[HELLO_MEMORY] = open_silent_file();
}

static void in_place_of_a_bell(struct peer *p)
{
    close(p->fds[HELLO_SENDER_BELL]);
    p->fds[HELLO_SENDER_BELL] = open_silent_file();
}

static void one_too_many(struct peer *p)
{
    p->fds[p->fd_count++] = open_silent_file();
}

static void many_too_many(struct peer *p)
{
    while (p->fd_count < sizeof p->fds / sizeof *p->fds)
        p->fds[p->fd_count++] = open_silent_file();
}

static const struct {
    const char *label, *query;
    void (*put)(struct peer *peer);
} ways[] = {{"in place of memory", "", in_place_of_memory},
            {"in place of a bell", "", in_place_of_a_bell},
            {"one too many", "", one_too_many},
            {"61 too many", "", many_too_many},
            {"in place of memory, no keeper", "?service=manual", in_place_of_memory},
            {"61 too many, no keeper", "?service=manual", many_too_many}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].label : NULL;
}

TEST_EACH(a_file_whose_server_is_silent_holds_up_no_listener, each_way)
{
    int server = mount_silent(S_IFREG), pid;
    size_t before;
    struct naru_listener *l;
    struct naru_channel *ch = NULL;
    struct test_gate refused;

    test_gate_init(&refused);
    before = open_descriptors();
    l = listen_there(ways[index].query);
    pid = test_fork();
    if (pid == 0) {
        struct peer peer = honest_peer(HANDSHAKE_HELLO);

        int fd = raw_connect();

        ways[index].put(&peer);
        say(fd, &peer, NULL);
        while (recv(fd, &peer.m, sizeof peer.m, 0) > 0)
            ; /* REFUSED */
        test_gate_open(&refused);
        for (;;)
            (void)pause(); /* its own copies would be flushed, too */
    }
    while (!test_is_readable(refused.fds[0]))
        CHECK_INT(naru_accept(l, NARU_MS(10), &ch), -ETIMEDOUT);
    WAIT_UNTIL(*flushes > 0);
    check_still_serves(l);
    naru_listener_close(l);
    unmount(server);
    test_kill(pid);
    WAIT_UNTIL(open_descriptors() == before); /* somebody has closed them all */
}

/* --- to a connector --- */

static const char *const manners[] = {"that waits", "that looks later", "that closes without a look"};

static const char *each_manner(size_t index)
{
    return index < sizeof manners / sizeof *manners ? manners[index] : NULL;
}

/* To a listener that is still to come. */
static int connect_without_waiting(bool looks)
{
    struct naru_channel *ch = NULL;
    int r;

    WAIT_UNTIL((r = naru_connect(url(), NULL, NARU_NOWAIT, &ch)) != -EAGAIN);
    if (r < 0)
        return r; /* the answer was there */
    WAIT_UNTIL(test_is_readable(naru_channel_fd(ch)));
    r = looks ? naru_flush(ch, NARU_SENT, NARU_NOWAIT) : -EPROTO;
    naru_channel_close(ch);
    return r;
}

TEST_EACH(nor_a_connector, each_manner)
{
    int server = mount_silent(S_IFREG), pid = test_fork();
    struct naru_channel *ch = NULL;

    if (pid == 0) {
        struct peer peer = honest_peer(HANDSHAKE_WELCOME);
        int listening = raw_listen();

        in_place_of_memory(&peer);
        for (;;)
            say(accept4(listening, NULL, NULL, SOCK_CLOEXEC), &peer, NULL);
    }
    CHECK_INT(index ? connect_without_waiting(index == 1) : naru_connect(url(), NULL, patience, &ch),
              -EPROTO);
    WAIT_UNTIL(*flushes == 1);
    unmount(server);
    test_kill(pid);
    CHECK_INT(unlink(socket_path()), 0);
}

/* --- with messages --- */

static const char *const carriers[] = {"shm:", "unix:", "unix:?type=seqpacket", "unix:?type=dgram"};

static const char *each_carrier(size_t index)
{
    return index < sizeof carriers / sizeof *carriers ? carriers[index] : NULL;
}

/* A process that sends so many messages with such a file, opens the gate, and keeps its own copies. */
static int send_silent_files(struct naru_channel *ch, int count, struct test_gate *sent)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(void *)(uintptr_t) "x", 1};
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_INT(naru_channel_adopt(ch), 0);
    m.iov = &piece;
    m.iov_count = 1;
    m.fd_count = 1;
    for (int i = 0; i < count; i++) {
        int fd = open_silent_file();

        m.fds = &fd;
        CHECK_INT(naru_send_message(ch, &m, NARU_FOREVER), 0);
    }
    test_gate_open(sent);
    for (;;)
        (void)pause();
}

TEST_EACH(nor_a_receiver_that_has_no_room_for_it, each_carrier)
{
    int server = mount_silent(S_IFREG), pid;
    size_t before;
    struct naru_channel *ch[2];
    struct test_gate sent;
    char byte;

    test_gate_init(&sent);
    CHECK_INT(naru_channel_pair(carriers[index], NULL, ch), 0);
    pid = send_silent_files(ch[0], 2, &sent);
    CHECK_INT(naru_channel_adopt(ch[1]), 0);
    before = open_descriptors();
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_recv(ch[1], &byte, 1, patience), 1);
    WAIT_UNTIL(*flushes > 0);
    unmount(server);
    test_kill(pid);
    WAIT_UNTIL(open_descriptors() == before);
    for (int i = 0; i < 2; i++)
        naru_channel_close(ch[i]);
}

/* --- very many --- */

enum { VERY_MANY = 3 * DISCARD_MOST };

static size_t threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    size_t count = 0;

    CHECK(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

TEST(a_receiver_has_so_many_of_them_closed_and_is_told_of_the_next)
{
    int server = mount_silent(S_IFREG), pid, fd;
    size_t before;
    struct naru_channel *ch[2];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_view view = NARU_INIT(struct naru_view);
    char byte;
    struct iovec piece = {&byte, 1};
    struct test_gate sent;

    test_gate_init(&sent);
    CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
    pid = send_silent_files(ch[0], VERY_MANY, &sent);
    CHECK_INT(naru_channel_adopt(ch[1]), 0);
    before = open_descriptors();
    for (int i = 0; i < DISCARD_MOST; i++)
        CHECK_INT(naru_recv(ch[1], &byte, 1, patience), 1);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(naru_recv(ch[1], &byte, 1, patience), -EMFILE);
        CHECK_CONTAINS(naru_explain(), "receive it with room");
        CHECK_INT(naru_borrow(ch[1], patience, &view), -EMFILE);
    }
    WAIT_UNTIL(*flushes == DISCARD_MOST);
    CHECK(threads() <= 4 + DISCARD_MOST); /* a sanitizer has some of its own */
    CHECK(open_descriptors() <= before + DISCARD_MOST);
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_capacity = 1;
    CHECK_INT(naru_recv_message(ch[1], &m, patience), 0);
    CHECK_INT(m.fd_count, 1);
    test_gate_wait(&sent); /* or it would find no file to open */
    unmount(server);
    close(fd);
    WAIT_UNTIL(!discard_is_full());
    for (int i = DISCARD_MOST + 1; i < VERY_MANY; i++) {
        ssize_t r;

        WAIT_UNTIL((r = naru_recv(ch[1], &byte, 1, patience)) != -EMFILE);
        CHECK_INT(r, 1);
    }
    test_kill(pid);
    WAIT_UNTIL(open_descriptors() == before);
    for (int i = 0; i < 2; i++)
        naru_channel_close(ch[i]);
}

/* Connects again and again with one of them, whatever it is told; then it opens the gate. */
static int connect_with_silent_files(struct test_gate *done)
{
    int pid = test_fork();

    if (pid != 0)
        return pid;
    for (int i = 0; i < VERY_MANY; i++) {
        struct peer peer = honest_peer(HANDSHAKE_HELLO);
        int fd = raw_connect();

        in_place_of_memory(&peer);
        say(fd, &peer, NULL);
    }
    test_gate_open(done);
    for (;;)
        (void)pause();
}

static const char *const keepers[] = {"", "?service=manual"};

static const char *each_keeper(size_t index)
{
    return index < 2 ? (index ? "without a keeper" : "with a keeper") : NULL;
}

TEST_EACH(a_listener_takes_no_more_than_so_many_of_them, each_keeper)
{
    int server = mount_silent(S_IFREG), pid, child, status, r;
    size_t before, listening;
    struct naru_listener *l;
    struct naru_channel *ch = NULL;
    struct test_gate done;

    test_gate_init(&done);
    before = open_descriptors();
    l = listen_there(keepers[index]);
    listening = open_descriptors();
    pid = connect_with_silent_files(&done);
    WAIT_UNTIL((r = naru_accept(l, NARU_MS(10), &ch)) != -ETIMEDOUT);
    CHECK_INT(r, -EMFILE);
    CHECK_CONTAINS(naru_explain(), "FUSE");
    WAIT_UNTIL(*flushes == DISCARD_MOST);
    test_gate_wait(&done);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EMFILE);
        CHECK(open_descriptors() <= listening + DISCARD_MOST + 8); /* PENDING_MAX of shm/listen.c */
    }
    CHECK(threads() <= 4 + DISCARD_MOST);
    CHECK_INT(*flushes, DISCARD_MOST);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), -EMFILE);
    child = test_fork(); /* which has nothing to do with them */
    if (child == 0) {
        CHECK(!discard_is_full());
        test_child_end();
    }
    unmount(server);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    test_kill(pid);
    WAIT_UNTIL((r = naru_accept(l, NARU_NOWAIT, &ch)) == -EAGAIN && open_descriptors() == listening);
    check_still_serves(l);
    naru_listener_close(l);
    WAIT_UNTIL(open_descriptors() == before);
}
