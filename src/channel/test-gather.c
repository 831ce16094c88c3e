/* SPDX-License-Identifier: MIT */
/* A gather over pairs: whose turn it is, how ends are told, the descriptor, and what it costs. Several
 * processes: tests/test-gather-many.c. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/discard.h"
#include "channel/gather.h"
#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

static const char *const urls[] = {"shm:",  "shm:?wait=sleep",      "shm:?wait=spin",
                                   "unix:", "unix:?type=seqpacket", "pipe:"};

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

enum { SENDERS = 5 };

struct set {
    struct naru_gather *g;
    struct naru_channel *far[SENDERS];
    uint64_t numbers[SENDERS];
};

static void set_open(struct set *s, const char *url, int senders)
{
    *s = (struct set){0};
    CHECK_INT(naru_gather_new(&s->g), 0);
    for (int i = 0; i < senders; i++) {
        struct naru_channel *ends[2];

        CHECK_INT(naru_channel_pair(url, NULL, ends), 0);
        CHECK_INT(naru_channel_adopt(ends[0]), 0);
        CHECK_INT(naru_gather_add(s->g, ends[1], &s->numbers[i]), 0);
        CHECK_INT(s->numbers[i], i + 1);
        s->far[i] = ends[0];
    }
    CHECK_INT(naru_gather_peers(s->g), senders);
}

static void set_close(struct set *s)
{
    for (int i = 0; i < SENDERS; i++)
        (void)naru_channel_close(s->far[i]);
    CHECK(naru_gather_close(s->g) == NULL);
}

static void put(struct set *s, int sender, uint32_t value)
{
    CHECK_INT(naru_send(s->far[sender], &value, sizeof value, NARU_S(60)), 0);
}

/* The next message is that sender's, with that value. */
static void take(struct set *s, int sender, uint32_t value, int64_t timeout)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    uint32_t got = ~value;

    CHECK_INT(naru_gather_recv(s->g, &got, sizeof got, timeout, &from), sizeof got);
    CHECK_INT(from.number, s->numbers[sender]);
    CHECK_INT(from.left, 0);
    CHECK(from.channel);
    CHECK_INT(got, value);
}

static void nothing(struct set *s)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    char byte;

    from.number = 7;
    CHECK_INT(naru_gather_recv(s->g, &byte, 1, NARU_NOWAIT, &from), -EAGAIN);
    CHECK(from.number == 0 && !from.channel && !from.left);
}

TEST_EACH(those_who_have_something_take_turns, each_url)
{
    struct set s;

    set_open(&s, urls[index], 3);
    nothing(&s);
    for (uint32_t i = 0; i < 40; i++) /* one has much, two have a little: no one waits for the one */
        put(&s, 0, i);
    for (uint32_t i = 0; i < 3; i++) {
        put(&s, 1, 100 + i);
        put(&s, 2, 200 + i);
    }
    for (uint32_t i = 0; i < 3; i++) {
        bool seen[3] = {false};

        for (int k = 0; k < 3; k++) {
            struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
            uint32_t got;

            CHECK_INT(naru_gather_recv(s.g, &got, sizeof got, k ? NARU_S(60) : NARU_FOREVER, &from),
                      sizeof got);
            CHECK(from.number >= 1 && from.number <= 3);
            CHECK_INT(got, (from.number - 1) * 100 + i);
            CHECK(!seen[from.number - 1]);
            seen[from.number - 1] = true;
        }
    }
    for (uint32_t i = 3; i < 40; i++)
        take(&s, 0, i, NARU_FOREVER);
    nothing(&s);
    set_close(&s);
}

TEST_EACH(ends_are_told_once_and_behind_the_last_message, each_url)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct set s;
    char byte;

    set_open(&s, urls[index], 2);
    put(&s, 0, 1);
    put(&s, 0, 2);
    s.far[0] = naru_channel_close(s.far[0]);
    take(&s, 0, 1, NARU_FOREVER);
    take(&s, 0, 2, NARU_FOREVER);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_FOREVER, &from), -EPIPE);
    CHECK(from.number == 1 && from.left == -EPIPE);
    CHECK_INT(naru_channel_info(from.channel, &info), 0); /* it is there until the next call */
    CHECK_INT(info.messages_received, 2);
    CHECK_INT(naru_gather_peers(s.g), 1);
    nothing(&s);
    put(&s, 1, 3);
    take(&s, 1, 3, NARU_S(60));
    s.far[1] = naru_channel_close(s.far[1]);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_FOREVER, NULL), -EPIPE);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_FOREVER, &from), -ENOTCONN);
    CHECK_CONTAINS(naru_explain(), "no peer to receive from");
    CHECK(from.number == 0 && from.left == 0);
    set_close(&s);
}

TEST_EACH(the_descriptor_is_readable_as_long_as_there_is_something, each_url)
{
    struct set s;
    int fd;

    set_open(&s, urls[index], 3);
    put(&s, 0, 1);
    fd = naru_gather_fd(s.g);
    CHECK(fd >= 0);
    CHECK(test_is_readable(fd)); /* nobody was looked at yet */
    take(&s, 0, 1, NARU_NOWAIT);
    nothing(&s);
    for (uint32_t round = 0; round < 100; round++) {
        CHECK(!test_is_readable(fd));
        put(&s, (int)round % 3, round);
        put(&s, (int)round % 3, round + 1);
        CHECK(test_is_readable(fd));
        take(&s, (int)round % 3, round, NARU_NOWAIT);
        CHECK(test_is_readable(fd));
        take(&s, (int)round % 3, round + 1, NARU_NOWAIT);
        nothing(&s);
    }
    s.far[2] = naru_channel_close(s.far[2]);
    CHECK(test_is_readable(fd));
    set_close(&s);
}

TEST_EACH(a_message_that_is_too_large_is_kept_and_holds_nobody_up, each_url)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    char buf[100] = "0123456789";
    struct naru_view view = NARU_INIT(struct naru_view);
    struct set s;

    set_open(&s, urls[index], 2);
    CHECK_INT(naru_send(s.far[0], buf, 10, NARU_FOREVER), 0);
    CHECK_INT(naru_gather_recv(s.g, buf, 4, NARU_FOREVER, &from), -EMSGSIZE);
    CHECK(from.number == 1 && from.left == 0);
    put(&s, 1, 4);
    for (int i = 0; i < 2; i++) {
        ssize_t n = naru_gather_recv(s.g, buf, 4, NARU_FOREVER, &from);

        CHECK_INT(n, from.number == 1 ? -EMSGSIZE : 4);
    }
    memset(buf, 0, sizeof buf);
    CHECK_INT(naru_gather_recv(s.g, buf, sizeof buf, NARU_FOREVER, &from), 10);
    CHECK_INT(from.number, 1);
    CHECK_STR(buf, "0123456789");
    put(&s, 1, 5);
    CHECK_INT(naru_gather_borrow(s.g, NARU_FOREVER, &view, &from), 0);
    CHECK(from.number == 2 && view.length == 4);
    s.far[1] = naru_channel_close(s.far[1]);
    CHECK_INT(naru_gather_borrow(s.g, NARU_FOREVER, &view, &from), -EPIPE);
    nothing(&s); /* closes it; the view is good yet */
    CHECK(memcmp(view.data, "\5\0\0\0", 4) == 0);
    naru_release(&view);
    set_close(&s);
}

TEST_EACH(whole_messages_are_gathered_and_answered, each_url)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_message m = NARU_INIT(struct naru_message);
    char buf[8];
    struct iovec piece = {buf, sizeof buf};
    struct set s;

    set_open(&s, urls[index], 2);
    m.iov = &piece;
    m.iov_count = 1;
    put(&s, 1, 9);
    CHECK_INT(naru_gather_recv_message(s.g, &m, NARU_S(60), &from), 0);
    CHECK(from.number == 2 && m.length == 4);
    if (index < 5) { /* not a pipe */
        CHECK_INT(naru_send(from.channel, "seen", 4, NARU_S(60)), 0);
        CHECK_INT(naru_recv(s.far[1], buf, sizeof buf, NARU_S(60)), 4);
    }
    CHECK_INT(naru_gather_recv_message(s.g, &m, NARU_US(10), &from), -ETIMEDOUT);
    set_close(&s);
}

TEST(who_sends_nonsense_is_dropped_and_the_others_go_on)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct shm *shm;
    struct set s;
    uint32_t byte;

    set_open(&s, "shm:", 2);
    shm = s.far[0]->state;
    memset(sealed_ring(&shm->link.own), 0xff, 64);
    put(&s, 1, 1);
    for (int i = 0; i < 2; i++) {
        ssize_t n = naru_gather_recv(s.g, &byte, sizeof byte, NARU_FOREVER, &from);

        CHECK_INT(n, from.number == 1 ? -EPROTO : 4);
        CHECK_INT(from.left, from.number == 1 ? -EPROTO : 0);
    }
    CHECK_INT(naru_gather_peers(s.g), 1);
    for (uint32_t i = 0; i < 100; i++) {
        put(&s, 1, i);
        take(&s, 1, i, NARU_FOREVER);
    }
    set_close(&s);
}

/* Between two questions to the kernel, of which there is one each 100 us. On one CPU a peer that has nothing
 * rests at once, so that its sender may run: but for one that is to spin. */
TEST(no_system_call_is_made_for_a_message_of_a_busy_sender)
{
    cpu_set_t cpus;
    struct set s;
    int pid;

#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer itself calls the kernel now and then");
#endif
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(sched_getaffinity(0, sizeof cpus, &cpus), 0);
        set_open(&s, CPU_COUNT(&cpus) > 1 ? "shm:?ring=16k" : "shm:?ring=16k&wait=spin", SENDERS);
        for (int i = 0; i < SENDERS; i++)
            put(&s, i, 0);
        for (int i = 0; i < SENDERS; i++)
            take(&s, i, 0, NARU_S(60));
        s.g->ask_at = INT64_MAX;
        test_forbid_calls();
        for (uint32_t round = 0; round < 5000; round++) {
            int k = (int)(round % SENDERS);

            put(&s, k, round);
            take(&s, k, round, NARU_FOREVER);
            put(&s, (k + 2) % SENDERS, round);
            take(&s, (k + 2) % SENDERS, round, NARU_S(60));
        }
        test_end_without_calls();
    }
    test_join(pid);
}

/* How many peers are looked at before a wait: those that are idle are not. */
TEST(an_idle_peer_is_not_looked_at)
{
    struct set s;

    set_open(&s, "shm:?wait=sleep", SENDERS);
    nothing(&s);
    CHECK_INT(s.g->active_count, 0);
    put(&s, 3, 1);
    take(&s, 3, 1, NARU_S(60));
    CHECK_INT(s.g->active_count, 1);
    nothing(&s);
    CHECK_INT(s.g->active_count, 0);
    set_close(&s);
}

TEST(a_wait_is_not_ended_by_what_the_descriptor_has_shown)
{
    struct set s;

    set_open(&s, "shm:", 1);
    CHECK(naru_gather_fd(s.g) >= 0);
    CHECK(s.g->ready); /* a new peer has its turn */
    CHECK_INT(gather_ask(s.g, deadline_after(NARU_MS(1))), -ETIMEDOUT);
    nothing(&s);
    put(&s, 0, 1);
    put(&s, 0, 2);
    take(&s, 0, 1, NARU_S(60));
    CHECK(s.g->ready);
    CHECK_INT(naru_gather_wait_peers(s.g, 1, NARU_MS(1)), 1);
    CHECK_INT(gather_ask(s.g, deadline_after(NARU_MS(1))), -ETIMEDOUT);
    take(&s, 0, 2, NARU_S(60));
    set_close(&s);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* as in base/test-discard.c */
TEST(a_message_whose_descriptors_cannot_be_closed_now_waits_with_its_peer)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(char[]){'x'}, 1};
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC); /* of no file system that is known */
    struct rlimit before, none;
    struct set s;
    char byte;
    ssize_t r;

    m.iov = &piece;
    m.iov_count = m.fd_count = 1;
    m.fds = &fd;
    set_open(&s, "shm:", 1);
    for (int i = 0; i <= DISCARD_MOST; i++)
        CHECK_INT(naru_send_message(s.far[0], &m, NARU_NOWAIT), 0);
    close(fd);
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    none = before;
    none.rlim_cur = 4096; /* no thread is to be had that closes them */
    CHECK_INT(setrlimit(RLIMIT_AS, &none), 0);
    for (int i = 0; i < DISCARD_MOST; i++)
        CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_NOWAIT, &from), 1);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_NOWAIT, &from), -EMFILE);
    CHECK(from.number == s.numbers[0] && from.left == 0);
    CHECK_INT(naru_gather_peers(s.g), 1);
    CHECK_INT(setrlimit(RLIMIT_AS, &before), 0);
    WAIT_UNTIL((r = naru_gather_recv(s.g, &byte, 1, NARU_NOWAIT, &from)) != -EMFILE);
    CHECK_INT(r, 1);
    WAIT_UNTIL(!discard_is_full());
    set_close(&s);
}
#endif

TEST(peers_are_gone_through_and_dropped)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct set s;
    uint64_t n = 0;
    char buf[4];

    set_open(&s, "shm:", SENDERS);
    while (naru_gather_next(s.g, &from)) {
        CHECK_INT(from.number, ++n);
        CHECK_INT(naru_send(from.channel, "all", 3, NARU_NOWAIT), 0);
        if (n == 2)
            CHECK_INT(naru_gather_drop(s.g, n), 0);
    }
    CHECK(n == SENDERS && from.number == 0 && !from.channel);
    for (int i = 0; i < SENDERS; i++)
        CHECK_INT(naru_recv(s.far[i], buf, sizeof buf, NARU_S(60)), 3);
    CHECK_INT(naru_recv(s.far[1], buf, sizeof buf, NARU_S(60)), -EPIPE);
    CHECK_INT(naru_gather_drop(s.g, 2), -ENOENT);
    CHECK_INT(naru_gather_drop(s.g, 77), -ENOENT);
    CHECK_INT(naru_gather_peers(s.g), SENDERS - 1);
    nothing(&s);
    set_close(&s);
}

TEST(peers_that_do_not_come_are_waited_for_as_long_as_said)
{
    struct naru_gather *g;

    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_listen(g, test_format("unix://%s/s", test_directory()), NULL, NULL), 0);
    CHECK_INT(naru_gather_wait_peers(g, 1, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_gather_wait_peers(g, 1, NARU_MS(5)), -ETIMEDOUT);
    CHECK(naru_gather_close(g) == NULL);
}

static int bell; /* rings for the peer */

/* It was rung for nothing, and is rung again by whoever does that. */
static int find_nothing(struct naru_channel *ch, struct naru_message *m, bool block)
{
    char byte;

    (void)m;
    (void)block;
    while (recv(ch->rfd, &byte, 1, MSG_DONTWAIT) > 0)
        ;
    CHECK_INT(send(bell, "x", 1, 0), 1);
    return -EAGAIN;
}

TEST(a_peer_that_rings_all_the_time_and_sends_nothing_holds_up_no_deadline)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct channel_ops ops;
    struct set s = {0};
    char byte;

    set_open(&s, "unix:?type=seqpacket", 1);
    CHECK_INT(naru_gather_next(s.g, &from), 1);
    ops = *from.channel->ops;
    ops.recv = find_nothing;
    from.channel->ops = &ops;
    bell = s.far[0]->wfd;
    nothing(&s);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_MS(20), &from), -ETIMEDOUT);
    CHECK(naru_gather_fd(s.g) >= 0);
    CHECK_INT(naru_gather_recv(s.g, &byte, 1, NARU_MS(20), &from), -ETIMEDOUT);
    set_close(&s);
}

TEST(a_channel_that_connects_again_is_no_peer)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    const char *url = test_format("unix://%s/s", test_directory());
    struct naru_channel *ch;
    struct naru_listener *l;
    struct naru_gather *g;
    uint64_t number;

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    options.reconnect_ns = NARU_FOREVER;
    CHECK_INT(naru_connect(url, &options, NARU_S(60), &ch), 0);
    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_add(g, ch, &number), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "leave out ?reconnect=");
    CHECK_INT(naru_gather_peers(g), 0);
    CHECK(naru_gather_close(g) == NULL);
    naru_channel_close(ch); /* it remained the caller's */
    naru_listener_close(l);
}

TEST(misuse_is_explained)
{
    struct naru_channel *ends[2], *queue;
    struct naru_listener *l;
    struct naru_gather *g;
    char byte;
    int pid;

    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, NULL), -ENOTCONN);
    CHECK_INT(naru_gather_wait_peers(g, 1, NARU_NOWAIT), -ENOTCONN);
    CHECK_INT(naru_gather_wait_peers(g, 0, NARU_NOWAIT), 0);
    CHECK_INT(naru_gather_limit(g, 0), -EINVAL);
    CHECK_INT(naru_gather_limit(g, 10), 0);
    CHECK_INT(naru_gather_wait_peers(g, 11, NARU_NOWAIT), -EINVAL);
    CHECK_INT(naru_gather_listen(g, "nonsense:", NULL, NULL), -EINVAL);
    CHECK_INT(naru_gather_listen(g, test_format("unix://%s/d?type=dgram", test_directory()), NULL, NULL),
              -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "no connections");
    CHECK_INT(naru_channel_pair("pipe:", NULL, ends), 0);
    CHECK_INT(naru_listen("sysvmq:0x4e79?unlink=yes", NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &queue), 0);
    CHECK_INT(naru_gather_add(g, queue, NULL), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "no descriptor to poll");
    (void)naru_channel_close(queue);
    (void)naru_listener_close(l);
    CHECK_INT(naru_gather_add(g, ends[1], NULL), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, NULL), -ECHILD);
        CHECK_INT(naru_gather_fd(g), -ECHILD);
        CHECK_INT(naru_gather_limit(g, 1), -ECHILD);
        CHECK_INT(naru_gather_wait_peers(g, 0, NARU_NOWAIT), -ECHILD);
        CHECK_INT(naru_gather_drop(g, 1), -ECHILD);
        naru_gather_interrupt(g);
        (void)naru_channel_close(ends[0]);
        (void)naru_gather_close(g);
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, NULL), -EAGAIN);
    naru_gather_interrupt(g);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_FOREVER, NULL), -ECANCELED);
    CHECK_INT(naru_gather_recv(g, &byte, 1, NARU_NOWAIT, NULL), -EAGAIN);
    (void)naru_channel_close(ends[0]);
    (void)naru_gather_close(g);
    (void)naru_gather_close(NULL);
}
