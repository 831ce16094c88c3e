/* SPDX-License-Identifier: MIT */
/*
 * shm: between two users. Each sleeps in sockets that the other cannot read, so that nobody who reads them,
 * and is held up by a page fault meanwhile, holds up the other (handshake.h).
 */
#include <linux/filter.h>
#include <sys/resource.h>

#include "channel/shm/shm.h"
#include "channel/shm/test-shm.h"
#include "channel/socket-io.h"
#include "runner-trap.h"

static const char *const waits[] = {"sleep", "adaptive", "spin"};

static const char *each_wait(size_t index)
{
    return index < sizeof waits / sizeof *waits ? waits[index] : NULL;
}

static struct naru_listener *listen_to_all(const char *query)
{
    struct naru_listener *l;

    CHECK_INT(naru_listen(test_format("%s?mode=0666%s", url(), query), NULL, &l), 0);
    return l;
}

/* Sends back what comes, until the end: asleep in a call, or in a wait for several. */
static void echo(struct naru_channel *ch, bool loop)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);
    uint32_t number;
    ssize_t n = 0;

    item.channel = ch;
    while (n != -EPIPE) {
        if (loop)
            CHECK_INT(naru_wait_any(&item, 1, patience), 1);
        n = naru_recv(ch, &number, sizeof number, loop ? NARU_NOWAIT : NARU_FOREVER);
        if (n == sizeof number)
            CHECK_INT(naru_send(ch, &number, sizeof number, patience), 0);
        else
            CHECK(n == -EPIPE || (loop && n == -EAGAIN));
    }
}

static int fork_echo(const char *wait, bool loop)
{
    int pid = test_fork_as_nobody();

    if (pid == 0) {
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_connect(test_format("%s?wait=%s", url(), wait), NULL, patience, &ch), 0);
        CHECK(ch->their_rfd >= 0 && ch->their_wfd >= 0); /* came with the WELCOME */
        echo(ch, loop);
        naru_channel_close(ch);
        test_child_end();
    }
    return pid;
}

TEST_EACH(either_user_wakes_the_other, each_wait)
{
    for (int loop = 0; loop < 2; loop++) {
        struct naru_listener *l;
        struct naru_channel *ch = NULL;
        uint32_t answer;
        int pid;

        test_need_root();
        l = listen_to_all(test_format("&wait=%s", waits[index]));
        pid = fork_echo(waits[index], loop);
        CHECK_INT(naru_accept(l, patience, &ch), 0);
        CHECK(ch->their_rfd >= 0 && ch->their_wfd >= 0);
        for (uint32_t i = 0; i < 300; i++) {
            if (i % 100 == 0 && index < 2)
                test_wait_asleep(pid);
            CHECK_INT(naru_send(ch, &i, sizeof i, patience), 0);
            CHECK_INT(naru_recv(ch, &answer, sizeof answer, i % 2 ? NARU_FOREVER : patience), sizeof answer);
            CHECK_INT(answer, i);
        }
        naru_channel_close(ch);
        test_join(pid);
        naru_listener_close(l);
    }
}

/* A sender that sleeps for room, and then for somebody who is killed. */
TEST(a_full_ring_wakes_its_sender_and_so_does_a_death)
{
    static char message[1000];
    struct naru_listener *l;
    struct naru_channel *ch = NULL;
    struct test_gate read_on, killed;
    int pid;

    test_need_root();
    test_gate_init(&read_on);
    test_gate_init(&killed);
    l = listen_to_all("&ring=4k&wait=sleep");
    pid = test_fork_as_nobody();
    if (pid == 0) {
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        test_gate_wait(&read_on);
        for (int i = 0; i < 100; i++)
            CHECK_INT(naru_recv(ch, message, sizeof message, patience), sizeof message);
        test_gate_wait(&killed);
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    while (naru_send(ch, message, sizeof message, NARU_NOWAIT) == 0)
        ;
    test_gate_open(&read_on);
    for (int i = 0; i < 90; i++)
        CHECK_INT(naru_send(ch, message, sizeof message, NARU_FOREVER), 0);
    test_kill(pid);
    CHECK_INT(naru_recv(ch, message, sizeof message, NARU_FOREVER), -EOWNERDEAD);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(a_killed_listener_wakes_another_users_connector)
{
    struct naru_channel *ch = NULL;
    struct test_gate listening, accepted, connected;
    int listener, connector;
    char byte;

    test_need_root();
    test_gate_init(&listening);
    test_gate_init(&accepted);
    test_gate_init(&connected);
    listener = test_fork();
    if (listener == 0) {
        struct naru_listener *l = listen_to_all("");

        test_gate_open(&listening); /* a moment before, its mode was not set */
        CHECK_INT(naru_accept(l, patience, &ch), 0);
        test_gate_open(&accepted);
        pause();
    }
    test_gate_wait(&listening);
    connector = test_fork_as_nobody();
    if (connector == 0) {
        CHECK_INT(naru_connect(test_format("%s?wait=sleep", url()), NULL, patience, &ch), 0);
        test_gate_open(&connected);
        CHECK_INT(naru_recv(ch, &byte, 1, NARU_FOREVER), -EOWNERDEAD);
        naru_channel_close(ch);
        test_child_end();
    }
    test_gate_wait(&accepted);
    test_gate_wait(&connected);
    test_wait_asleep(connector);
    test_kill(listener);
    test_join(connector);
    CHECK_INT(naru_remove(url()), 0);
}

struct reader {
    int fd;
    void *trap;
};

static void *read_into_trap(void *argument)
{
    const struct reader *reader = argument;

    (void)!recv(reader->fd, reader->trap, 1, 0);
    return NULL;
}

/* The connector passes the ends of bells, keeps copies, and reads those into a page that never comes. */
TEST(who_keeps_a_bell_it_passed_and_is_held_up_reading_it_holds_up_no_listener)
{
    struct naru_listener *l;
    struct naru_channel *ch = NULL;
    char byte;
    int pid;

    test_need_root();
    need_traps();
    l = listen_to_all("&wait=sleep&service=manual"); /* a keeper's child could have no thread under TSan */
    pid = test_fork();
    if (pid == 0) {
        void *trap = make_trap(); /* as root; the rest is nobody's */
        struct reader readers[2];
        struct peer peer;
        pthread_t thread;
        int fd;

        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        peer = honest_peer(HANDSHAKE_HELLO);
        fd = raw_connect();
        say(fd, &peer, NULL);
        CHECK(recv(fd, &peer.m, sizeof peer.m, MSG_PEEK) == sizeof peer.m); /* its bells are taken */
        for (int i = 0; i < 2; i++) /* so that there is something to read */
            CHECK_INT(send(peer.ends[i], "x", 1, 0), 1);
        for (int i = 0; i < 2; i++)
            readers[i] = (struct reader){peer.fds[HELLO_RECEIVER_BELL + i], trap};
        CHECK(pthread_create(&thread, NULL, read_into_trap, &readers[1]) == 0);
        (void)read_into_trap(&readers[0]);
        test_child_end();
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    test_wait_asleep(pid);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(naru_recv(ch, &byte, 1, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_recv(ch, &byte, 1, NARU_MS(1)), -ETIMEDOUT);
        CHECK_INT(naru_send(ch, "x", 1, NARU_MS(1)), 0);
        CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_MS(1)), -ETIMEDOUT);
    }
    naru_channel_close(ch);
    test_kill(pid);
    naru_listener_close(l);
}

struct setter {
    int fd;
    void *trap;
    _Atomic int tid;
};

/* Holds the socket's lock while its filter is copied. */
static void *set_an_option_from_trap(void *argument)
{
    struct setter *setter = argument;
    struct sock_fprog program = {1, setter->trap};

    setter->tid = (int)gettid();
    (void)!setsockopt(setter->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    return NULL;
}

/* Likewise, before they are passed, and with an option of them. */
TEST(nor_who_is_held_up_setting_an_option_of_a_bell)
{
    struct naru_listener *l;
    struct naru_channel *ch = NULL;
    int pid;

    test_need_root();
    need_traps();
    l = listen_to_all("&wait=sleep&service=manual");
    pid = test_fork();
    if (pid == 0) {
        void *trap = make_trap(); /* as root; the rest is nobody's */
        static struct setter setters[2];
        struct peer peer;
        pthread_t thread;
        int fd;

        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        peer = honest_peer(HANDSHAKE_HELLO);
        for (int i = 0; i < 2; i++) {
            setters[i] = (struct setter){.fd = peer.fds[HELLO_RECEIVER_BELL + i], .trap = trap};
            CHECK(pthread_create(&thread, NULL, set_an_option_from_trap, &setters[i]) == 0);
            WAIT_UNTIL(setters[i].tid && test_is_thread_asleep(setters[i].tid));
        }
        fd = raw_connect();
        say(fd, &peer, NULL);
        for (;;)
            (void)pause();
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_MS(1)), -ETIMEDOUT);
    naru_channel_close(ch);
    test_kill(pid);
    naru_listener_close(l);
}

/* Whoever could stop us anyway is rung faster by one pair of sockets (shm/wakeup.h). */
TEST(ones_own_processes_share_a_pair_of_sockets)
{
    struct naru_listener *l = listen_to_all("");
    struct naru_channel *near = NULL, *far = NULL;

    CHECK_INT(naru_connect(url(), NULL, patience, &far), 0);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK(near->their_rfd < 0 && far->their_rfd < 0);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* More descriptors on their way than a user may have (unix(7), ETOOMANYREFS): as one whom no other test is,
 * of whom all count together. */
static int have_too_many_on_their_way(void)
{
    const struct rlimit limit = {64, 64};
    union socket_control control;
    struct msghdr header = {.msg_iov = &(struct iovec){(void *)(uintptr_t) "x", 1}, .msg_iovlen = 1};
    int ends[2], fds[20] = {0};

    if (setgid(65534) < 0 || setuid((uid_t)(20000 + getpid() % 40000)) < 0)
        test_skip("there is no such user here");
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    socket_put_fds(&header, &control, fds, sizeof fds / sizeof *fds);
    while (sendmsg(ends[0], &header, MSG_DONTWAIT) == 1)
        ;
    CHECK_INT(errno, ETOOMANYREFS);
    return ends[1]; /* whoever closes it takes them off their way, if there is no other copy */
}

/* Who connects is of another user, and has none; it is told, and so is the program that listens. */
TEST(a_listener_that_may_pass_no_more_descriptors_says_that_it_is_short_of_them)
{
    struct naru_channel *ch = NULL;
    int64_t timeout = NARU_MS(10);
    struct test_gate listens;
    int pid;

    test_need_root();
    test_gate_init(&listens);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = listen_to_all("&service=manual");
        int r;

        have_too_many_on_their_way();
        test_gate_open(&listens);
        while ((r = naru_accept(l, patience, &ch)) == -EMFILE)
            CHECK_CONTAINS(naru_explain(), "have sent and nobody received");
        test_fail(__FILE__, __LINE__, "naru_accept: %d: %s", r, naru_explain());
    }
    test_gate_wait(&listens);
    do { /* however slow the machine: the time is doubled until there was an answer */
        CHECK_INT(naru_connect(url(), NULL, timeout, &ch), -ETIMEDOUT);
        timeout *= 2;
    } while (strstr(naru_explain(), "does not answer"));
    CHECK_CONTAINS(naru_explain(), "short of memory or descriptors");
    test_kill(pid);
    CHECK_INT(naru_remove(url()), 0);
}

TEST(who_may_pass_no_more_descriptors_waits_until_it_may)
{
    struct naru_channel *ch = NULL;
    struct naru_listener *l;
    int pid;

    test_need_root();
    l = listen_to_all("");
    pid = test_fork();
    if (pid == 0) {
        int end = have_too_many_on_their_way();

        CHECK_INT(naru_connect(url(), NULL, NARU_MS(10), &ch), -ETIMEDOUT);
        CHECK_CONTAINS(naru_explain(), "have sent and nobody received");
        CHECK_INT(close(end), 0);
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(l);
}
