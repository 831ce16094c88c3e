/* SPDX-License-Identifier: MIT */
/*
 * A peer that passes a file of a file system of its own, which is served by a process of its own (FUSE) that
 * does not answer: closing a descriptor of such a file asks that process, and waits. The file system here is
 * one file, and its server ten lines of the kernel's protocol (linux/fuse.h).
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/discard.h"
#include "channel/test-shm.h"

static _Atomic unsigned *flushes; /* that the server was asked for, and did not answer */

/* --- the file system --- */

static void answer(int device, uint64_t unique, int error, const void *body, size_t length)
{
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + length), .error = error, .unique = unique};
    struct iovec pieces[] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};

    (void)!writev(device, pieces, length ? 2 : 1); /* ENOENT: who asked was killed meanwhile */
}

static void serve(int device, const struct fuse_in_header *request)
{
    static const struct fuse_init_out init = {
        .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096, .max_background = 8};
    static const struct fuse_attr_out attributes = {
        .attr = {.ino = FUSE_ROOT_ID, .mode = S_IFREG | 0666, .nlink = 1, .blksize = 4096}};
    static const struct fuse_open_out opened = {.fh = 1};

    switch (request->opcode) {
    case FUSE_INIT:
        answer(device, request->unique, 0, &init, sizeof init);
        break;
    case FUSE_OPEN:
        answer(device, request->unique, 0, &opened, sizeof opened);
        break;
    case FUSE_GETATTR:
        if (*flushes == 0)
            answer(device, request->unique, 0, &attributes, sizeof attributes);
        break;
    case FUSE_FLUSH:
        ++*flushes;
        break;
    case FUSE_RELEASE:
        answer(device, request->unique, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        answer(device, request->unique, -ENOSYS, NULL, 0);
    }
}

static const char *file_path(void)
{
    return test_format("%s/file", test_directory());
}

/* Mounted on a file; the server's pid. Skips the test where there is no FUSE. */
static int mount_silent_file(void)
{
    union {
        struct fuse_in_header header;
        char bytes[FUSE_MIN_READ_BUFFER + 4096];
    } request;
    int device, fd, pid;

    test_need_root();
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        test_skip("no FUSE here: /dev/fuse: %s", strerror(errno));
    fd = open(file_path(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    if (mount("naru-test", file_path(), "fuse", MS_NOSUID | MS_NODEV,
              test_format("fd=%d,rootmode=100000,user_id=0,group_id=0", device)) < 0)
        test_skip("cannot mount a FUSE file system here: %s", strerror(errno));
    flushes = test_shared(sizeof *flushes);
    pid = test_fork();
    while (pid == 0) {
        if (read(device, &request, sizeof request) > 0)
            serve(device, &request.header);
        else if (errno != EINTR && errno != ENOENT && errno != EAGAIN)
            _exit(0); /* unmounted */
    }
    CHECK_INT(close(device), 0);
    return pid;
}

/* The server first: even a process that is killed waits for it when its files are closed. */
static void unmount(int server)
{
    test_kill(server); /* from now on all that is asked fails at once */
    CHECK_INT(umount2(file_path(), MNT_DETACH), 0);
}

static int open_silent_file(void)
{
    int fd = open(file_path(), O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0);
    return fd;
}

/* Why all of this: it is so, even for who is killed meanwhile. */
TEST(closing_such_a_descriptor_waits_for_its_server)
{
    int server = mount_silent_file(), pid = test_fork(), status;

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
    int server = mount_silent_file(), pid;
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

TEST(nor_a_connector)
{
    int server = mount_silent_file(), pid = test_fork();
    struct naru_channel *ch = NULL;

    if (pid == 0) {
        struct peer peer = honest_peer(HANDSHAKE_WELCOME);
        int listening = raw_listen();

        in_place_of_memory(&peer);
        for (;;)
            say(accept4(listening, NULL, NULL, SOCK_CLOEXEC), &peer, NULL);
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), -EPROTO);
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

/* A process that sends so many messages with such a file, and keeps its own copies. */
static int send_silent_files(struct naru_channel *ch, int count)
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
    for (;;)
        (void)pause();
}

TEST_EACH(nor_a_receiver_that_has_no_room_for_it, each_carrier)
{
    int server = mount_silent_file(), pid;
    size_t before;
    struct naru_channel *ch[2];
    char byte;

    CHECK_INT(naru_channel_pair(carriers[index], NULL, ch), 0);
    pid = send_silent_files(ch[0], 2);
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
    int server = mount_silent_file(), pid, fd;
    size_t before;
    struct naru_channel *ch[2];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_view view = NARU_INIT(struct naru_view);
    char byte;
    struct iovec piece = {&byte, 1};

    CHECK_INT(naru_channel_pair("shm:", NULL, ch), 0);
    pid = send_silent_files(ch[0], VERY_MANY);
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
    CHECK(threads() <= 1 + DISCARD_MOST);
    CHECK(open_descriptors() <= before + DISCARD_MOST);
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_capacity = 1;
    CHECK_INT(naru_recv_message(ch[1], &m, patience), 0);
    CHECK_INT(m.fd_count, 1);
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
    int server = mount_silent_file(), pid, child, status, r;
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
        CHECK(open_descriptors() <= listening + DISCARD_MOST + 8); /* PENDING_MAX of shm-listen.c */
    }
    CHECK(threads() <= 2 + DISCARD_MOST);
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
