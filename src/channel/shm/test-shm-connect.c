/* SPDX-License-Identifier: MIT */
/* The rendezvous of shm: against listeners that lie or go; and where names are. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "channel/shm/test-shm.h"
#include "runner-syscalls.h"

/* --- listeners that lie --- */

static void bring_nothing(struct peer *p)
{
    close(p->fds[0]);
    p->fd_count = 0;
}

static void bring_two(struct peer *p)
{
    p->fds[1] = dup(p->fds[0]);
    p->fd_count = 2;
    CHECK(p->fds[1] >= 0);
}

static void bring_unsealed_memory(struct peer *p)
{
    close(p->fds[0]);
    p->fds[0] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(p->fds[0] >= 0 && ftruncate(p->fds[0], sizeof(struct shm_page) + RING) == 0);
}

/* In the place of the bells that come from another user's listener. */
static void bring_bells(struct peer *p, int receivers, int senders)
{
    CHECK(receivers >= 0 && senders >= 0);
    p->fds[WELCOME_RECEIVER_BELL] = receivers;
    p->fds[WELCOME_SENDER_BELL] = senders;
    p->fd_count = WELCOME_FDS_MOST;
}
static void bring_events_as_bells(struct peer *p)
{
    bring_bells(p, eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC));
}
static void bring_a_bell_and_a_pipe(struct peer *p)
{
    int pair[2], pipe_fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && pipe2(pipe_fds, O_CLOEXEC) == 0);
    bring_bells(p, pair[0], pipe_fds[1]);
    CHECK(close(pair[1]) == 0 && close(pipe_fds[0]) == 0);
}
static void bring_bells_and_one_more(struct peer *p)
{
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    bring_bells(p, pair[0], pair[1]);
    p->fds[p->fd_count++] = dup(pair[0]);
}

static void refuse(struct peer *p, enum handshake_reason reason)
{
    bring_nothing(p);
    p->m.kind = HANDSHAKE_REFUSED;
    p->m.reason = (uint32_t)reason;
}

static void bring_memory_for_writing_only(struct peer *p)
{
    int fd = open(test_format("/proc/self/fd/%d", p->fds[WELCOME_MEMORY]), O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    close(p->fds[WELCOME_MEMORY]);
    p->fds[WELCOME_MEMORY] = fd;
}
static void announce_a_larger_ring(struct peer *p)
{
    p->m.ring *= 2;
}
static void announce_a_huge_ring(struct peer *p)
{
    p->m.ring = 1 << 30;
}
static void be_too_new(struct peer *p)
{
    p->m.layout = p->m.oldest = SHM_LAYOUT + 1;
}
static void say_hello(struct peer *p)
{
    p->m.kind = HANDSHAKE_HELLO;
}
static void say_half(struct peer *p)
{
    p->length /= 2;
}
static void refuse_as_nonsense(struct peer *p)
{
    refuse(p, REASON_PROTOCOL);
}
static void refuse_by_list(struct peer *p)
{
    refuse(p, REASON_PERMISSION);
}
static void refuse_by_size(struct peer *p)
{
    refuse(p, REASON_SIZE);
}
static void refuse_for_nothing(struct peer *p)
{
    refuse(p, REASON_NONE);
}
static void refuse_as_a_later_one(struct peer *p)
{
    refuse(p, (enum handshake_reason)77);
}
static void refuse_as_too_old(struct peer *p)
{
    refuse(p, REASON_VERSION);
    p->m.layout = SHM_LAYOUT + 7;
    p->m.oldest = SHM_LAYOUT + 5;
}

static const struct {
    const char *label;
    void (*lie)(struct peer *peer);
    int code;
    const char *says;
} lies[] = {
    {"no memory", bring_nothing, -EPROTO, "does not talk"},
    {"two memories", bring_two, -EPROTO, "does not talk"},
    {"events as bells", bring_events_as_bells, -EPROTO, "does not talk"},
    {"a pipe as bell", bring_a_bell_and_a_pipe, -EPROTO, "does not talk"},
    {"three bells", bring_bells_and_one_more, -EPROTO, "does not talk"},
    {"unsealed", bring_unsealed_memory, -EPROTO, "not sealed"},
    {"for writing only", bring_memory_for_writing_only, -EPROTO, "not open for reading"},
    {"larger than it is", announce_a_larger_ring, -EPROTO, "announced"},
    {"a gigabyte", announce_a_huge_ring, -EINVAL, "?ring="},
    {"too new", be_too_new, -EPROTO, "layouts 4 to 4"},
    {"a HELLO", say_hello, -EPROTO, "does not talk"},
    {"half a word", say_half, -EPROTO, "does not talk"},
    {"refused as nonsense", refuse_as_nonsense, -EPROTO, "does not talk"},
    {"refused by its list", refuse_by_list, -EACCES, "permission denied"},
    {"refused by size", refuse_by_size, -EINVAL, "?ring="},
    {"refused as too old", refuse_as_too_old, -EPROTO, "layouts 8 to 10"},
    {"refused for nothing", refuse_for_nothing, -EPROTO, "does not talk"},
    {"refused as a later naru may", refuse_as_a_later_one, -EPROTO, "does not talk"},
};

static const char *each_lie(size_t index)
{
    return index < sizeof lies / sizeof *lies ? lies[index].label : NULL;
}

/* In a process of its own: takes one connection, and its HELLO, before it speaks. */
static int fork_liar(int listener, struct peer *peer)
{
    int pid = test_fork();

    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        char hello[256];

        CHECK(fd >= 0 && recv(fd, hello, sizeof hello, 0) == sizeof(struct handshake_message));
        say(fd, peer, NULL);
        test_child_end();
    }
    return pid;
}

TEST_EACH(a_lying_listener_is_told_from_an_honest_one, each_lie)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    struct naru_channel *ch = NULL;
    int listener = raw_listen(), pid;

    lies[index].lie(&peer);
    pid = fork_liar(listener, &peer);
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), lies[index].code);
    CHECK(ch == NULL);
    CHECK_CONTAINS(naru_explain(), lies[index].says);
    CHECK_CONTAINS(naru_explain(), url());
    test_join(pid);
    peer_end(&peer);
    close(listener);
    unlink(socket_path());
}

TEST(a_listener_that_is_short_of_something_or_goes_is_tried_again)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    struct naru_channel *ch = NULL;
    int listener = raw_listen(), pid;

    refuse(&peer, REASON_SHORT);
    pid = test_fork();
    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);

        close(fd); /* without a word */
        fd = accept(listener, NULL, NULL);
        say(fd, &peer, NULL);
        close(fd); /* with the HELLO unread: the kernel says ECONNRESET before it gives the word */
        peer = honest_peer(HANDSHAKE_WELCOME);
        fd = accept(listener, NULL, NULL);
        say(fd, &peer, NULL);
        close(fd);
        test_child_end();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    naru_channel_close(ch);
    test_join(pid);
    peer_end(&peer);
    close(listener);
    unlink(socket_path());
}

/* However slow the machine: the time is doubled until there was an answer. */
static void check_told_short(void)
{
    struct naru_channel *ch = NULL;
    int64_t timeout = NARU_MS(10);

    do {
        CHECK_INT(naru_connect(url(), NULL, timeout, &ch), -ETIMEDOUT);
        timeout *= 2;
    } while (strstr(naru_explain(), "does not answer"));
    CHECK_CONTAINS(naru_explain(), "short of memory or descriptors");
}

TEST(a_listener_that_stays_short_of_something_is_said_to_be)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    int listener = raw_listen(), pid = test_fork();

    if (pid == 0) {
        refuse(&peer, REASON_SHORT);
        for (;;) {
            int fd = accept(listener, NULL, NULL);

            CHECK(fd >= 0);
            (void)send(fd, &peer.m, peer.length, MSG_NOSIGNAL); /* who came may have given up */
            close(fd);
        }
    }
    check_told_short();
    test_kill(pid);
    peer_end(&peer);
    close(listener);
    unlink(socket_path());
}

/* One that is short of what an event loop takes, too. */
TEST(a_listener_that_cannot_watch_who_has_come_says_that_it_is_short_of_something)
{
    struct test_gate listens;
    int pid;

    test_gate_init(&listens);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = listen_there("?service=manual");
        struct naru_channel *ch = NULL;
        int r;

        test_refuse_call(SYS_epoll_ctl, ENOSPC);
        test_gate_open(&listens);
        while ((r = naru_accept(l, patience, &ch)) == -ENOSPC)
            ;
        test_fail(__FILE__, __LINE__, "naru_accept: %d: %s", r, naru_explain());
    }
    test_gate_wait(&listens);
    check_told_short();
    test_kill(pid);
    CHECK_INT(naru_remove(url()), 0);
}

/* As a program does that expects something else. */
TEST(a_listener_that_always_hangs_up_is_called_none_of_shm)
{
    struct naru_channel *ch = NULL;
    int listener = raw_listen(), pid = test_fork();

    if (pid == 0)
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            char word[256];

            CHECK(fd >= 0 && recv(fd, word, sizeof word, 0) >= 0);
            close(fd);
        }
    CHECK_INT(naru_connect(url(), NULL, NARU_FOREVER, &ch), -EPROTO);
    CHECK_CONTAINS(naru_explain(),
                   test_format("process %d, is no listener of shm:", getpid())); /* who called listen(2) */
    test_kill(pid);
    close(listener);
    unlink(socket_path());
}

TEST(a_connect_that_nobody_accepts_ends_at_its_deadline_and_leaves_nothing)
{
    struct naru_listener *l = listen_there("?service=manual");
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url(), NULL, NARU_MS(20), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "does not answer");
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN); /* whoever gave up is no channel */
    CHECK(ch == NULL);
    check_still_serves(l);
    naru_listener_close(l);
}

TEST(a_listener_whose_path_was_removed_is_told)
{
    struct naru_listener *l = listen_there("");
    struct naru_channel *ch = NULL;

    CHECK(unlink(socket_path()) == 0);
    CHECK_INT(naru_accept(l, patience, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "removed");
    naru_listener_close(l);
}

/* --- rings --- */

TEST(each_side_sends_what_its_own_ring_takes)
{
    static char message[100000];
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_listener *l = listen_there("?ring=16k&pool=0");
    struct naru_channel *near = NULL;
    pthread_t thread;
    void *far;

    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=256k&pool=0"), 0);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (char)(i * 7);
    CHECK_INT(naru_send(far, message, sizeof message, patience), 0);
    CHECK_INT(naru_borrow(near, patience, &view), 0);
    CHECK_INT(view.length, sizeof message);
    CHECK(memcmp(view.data, message, sizeof message) == 0);
    naru_release(&view);
    CHECK_INT(naru_send(near, message, sizeof message, patience), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "?ring=");
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- names --- */

TEST(names_that_are_none_are_refused)
{
    static const char *const bad[] = {"shm:", "shm://.hidden", "shm://..", "shm://a/b", "shm:./a"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(bad[i], -EINVAL, "expected shm://NAME");
    check_refused("shm:@", -EINVAL, "abstract");
    check_refused(test_format("shm://%0100d", 1), -ENAMETOOLONG, "107 bytes");
    check_refused("shm://a?ring=5000", -EINVAL, "power of two");
}

TEST(a_name_is_a_socket_in_the_users_own_directory)
{
    const char *path = test_format("%s/naru/here", getenv("XDG_RUNTIME_DIR"));
    struct naru_listener *l = NULL, *second = NULL;
    struct stat status;

    CHECK_INT(naru_listen("shm://here", NULL, &l), 0);
    CHECK(stat(path, &status) == 0 && S_ISSOCK(status.st_mode) && (status.st_mode & 0777) == 0600);
    CHECK_INT(naru_listen("shm://here", NULL, &second), -EADDRINUSE);
    CHECK_INT(naru_listen(test_format("shm://%s", path), NULL, &second), -EADDRINUSE);
    CHECK_INT(naru_remove("shm://here"), -EBUSY);
    naru_listener_close(l);
    CHECK(stat(path, &status) < 0 && errno == ENOENT);
}

TEST(where_nobody_listens_is_told)
{
    const char *text = test_format("unix://%s", socket_path());
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect("shm://here", NULL, NARU_MS(10), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(),
                   test_format("nobody listens there, at %s/naru/here;", getenv("XDG_RUNTIME_DIR")));
    CHECK_INT(naru_connect(url(), NULL, NARU_MS(10), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "nobody listens there; start");
    CHECK_INT(naru_listen(text, NULL, &l), 0);
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "connect to it by unix:");
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), -EPROTO);
    naru_listener_close(l);
}

TEST(a_directory_that_others_may_change_is_not_trusted)
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *directory = test_format("%s/naru", run);
    const char *elsewhere = test_format("%s/elsewhere", test_directory());

    CHECK(mkdir(elsewhere, 0700) == 0 && symlink(elsewhere, directory) == 0);
    check_refused("shm://a", -EACCES, "permission denied");
    CHECK(unlink(directory) == 0 && mkdir(directory, 0700) == 0 && chmod(directory, 0711) == 0);
    check_refused("shm://a", -EACCES, "mode 700");
    CHECK(rmdir(directory) == 0 && close(open(directory, O_CREAT | O_WRONLY | O_CLOEXEC, 0700)) == 0);
    check_refused("shm://a", -EACCES, directory);
    CHECK(unlink(directory) == 0 && chmod(run, 0777) == 0);
    check_refused("shm://a", -EACCES, "$XDG_RUNTIME_DIR");
    CHECK(chmod(run, 0700) == 0 && setenv("XDG_RUNTIME_DIR", test_format("%s/none", run), 1) == 0);
    check_refused("shm://a", -ENOENT, "$XDG_RUNTIME_DIR");
}

TEST(without_a_runtime_directory_there_is_one_all_the_same)
{
    const char *text = test_format("shm://naru-test-%d", getpid());
    struct naru_listener *l = NULL, *second = NULL;

    CHECK(unsetenv("XDG_RUNTIME_DIR") == 0);
    CHECK_INT(naru_listen(text, NULL, &l), 0);
    /* "must be absolute [...] consider the path invalid and ignore it" */
    CHECK(setenv("XDG_RUNTIME_DIR", "relative", 1) == 0);
    CHECK_INT(naru_listen(text, NULL, &second), -EADDRINUSE);
    naru_listener_close(l);
    CHECK_INT(naru_remove(text), -ENOENT);
}

/* --- death --- */

TEST(a_child_of_the_connector_does_not_keep_a_dead_listener_alive)
{
    struct test_gate done;
    struct naru_channel *ch = NULL;
    int listener, child;

    test_gate_init(&done);
    listener = test_fork();
    if (listener == 0) {
        struct naru_listener *l = listen_there("");

        CHECK_INT(naru_accept(l, patience, &ch), 0);
        pause();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    child = test_fork();
    if (child == 0) {
        test_gate_wait(&done);
        naru_channel_close(ch);
        test_child_end();
    }
    test_kill(listener);
    CHECK_INT(naru_recv(ch, NULL, 0, patience), -EOWNERDEAD);
    CHECK_CONTAINS(naru_explain(), test_format("process %d at the other end was killed", listener));
    test_gate_open(&done);
    test_join(child);
    naru_channel_close(ch);
    CHECK_INT(naru_remove(url()), 0); /* what kill -9 left */
    CHECK_INT(naru_remove(url()), -ENOENT);
}
