/* SPDX-License-Identifier: MIT */
/*
 * A receiver that is killed, and a sender who sends slowly: it never finds its ring full, and is told by the
 * second send at the latest, whatever the receiver slept in. Also who had just been woken, and did something
 * else when it was killed.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

enum how { RECEIVES, RECEIVES_IN_TIME, BORROWS, POLLS, WAITS_FOR_ANY, GATHERS, IS_BUSY };

static const struct {
    const char *name, *url; /* %s: the test's directory; %d, %x: its number */
    enum how how;
} ways[] = {
    {"shm, recv", "shm://%s/s", RECEIVES},
    {"shm, recv, asleep at once", "shm://%s/s?wait=sleep", RECEIVES},
    {"shm, recv with a limit", "shm://%s/s", RECEIVES_IN_TIME},
    {"shm, borrow", "shm://%s/s", BORROWS},
    {"shm, its descriptor", "shm://%s/s", POLLS},
    {"shm, its descriptor, asleep at once", "shm://%s/s?wait=sleep", POLLS},
    {"shm, wait_any", "shm://%s/s", WAITS_FOR_ANY},
    {"shm, a gather", "shm://%s/s", GATHERS},
    {"shm, awake", "shm://%s/s", IS_BUSY},
    {"shm of several lanes, recv", "shm://%s/s?lanes=2", RECEIVES},
    {"shm+posix, recv", "shm+posix:/naru-test-%d", RECEIVES},
    {"shm+posix, recv, asleep at once", "shm+posix:/naru-test-%d?wait=sleep", RECEIVES},
    {"shm+posix, borrow", "shm+posix:/naru-test-%d", BORROWS},
    {"shm+posix, awake", "shm+posix:/naru-test-%d", IS_BUSY},
    {"shm+sysv, recv", "shm+sysv:0x4e%06x", RECEIVES},
    {"shm+sysv, recv with a limit", "shm+sysv:0x4e%06x", RECEIVES_IN_TIME},
    {"shm+sysv, awake", "shm+sysv:0x4e%06x", IS_BUSY},
};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

static const char *url_of(size_t way)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return strncmp(ways[way].url, "shm+", 4) == 0 ? test_format(ways[way].url, (int)getpid())
                                                  : test_format(ways[way].url, test_directory());
#pragma GCC diagnostic pop
}

/* --- the receiver, until it is killed --- */

static void receive_by_gather(const char *url, struct test_gate *listening)
{
    struct naru_gather *g = NULL;
    char text[16];

    CHECK_INT(naru_gather_new(&g), 0);
    CHECK_INT(naru_gather_listen(g, url, NULL, NULL), 0);
    test_gate_open(listening);
    for (;;)
        CHECK(naru_gather_recv(g, text, sizeof text, NARU_FOREVER, NULL) > 0);
}

static void sleep_until_readable(struct naru_channel *ch, enum how how)
{
    struct pollfd poll_fd = {.fd = naru_channel_fd(ch), .events = POLLIN};
    struct naru_wait item = NARU_INIT(struct naru_wait);

    item.channel = ch;
    if (how == POLLS)
        CHECK_INT(poll(&poll_fd, 1, -1), 1);
    else
        CHECK_INT(naru_wait_any(&item, 1, NARU_FOREVER), 1);
}

static void receive(struct naru_channel *ch, enum how how)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    char text[16];
    ssize_t n;

    switch (how) {
    case BORROWS:
        CHECK_INT(naru_borrow(ch, NARU_FOREVER, &view), 0);
        naru_release(&view);
        return;
    case POLLS:
    case WAITS_FOR_ANY:
        while ((n = naru_recv(ch, text, sizeof text, NARU_NOWAIT)) == -EAGAIN)
            sleep_until_readable(ch, how);
        break;
    default:
        n = naru_recv(ch, text, sizeof text, how == RECEIVES_IN_TIME ? patience : NARU_FOREVER);
    }
    CHECK(n > 0);
}

/* Listens, and receives until it is killed; or one message alone. */
static int fork_receiver(const char *url, enum how how, bool one, struct test_gate *busy)
{
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = NULL;
        struct naru_channel *ch = NULL;

        if (how == GATHERS && !one)
            receive_by_gather(url, &listening);
        CHECK_INT(naru_listen(url, NULL, &l), 0);
        test_gate_open(&listening);
        CHECK_INT(naru_accept(l, patience, &ch), 0);
        do
            receive(ch, how);
        while (!one && how != IS_BUSY);
        test_gate_open(busy);
        while (!one)
            pause();
        naru_listener_close(l);
        naru_channel_close(ch);
        test_child_end();
    }
    test_gate_wait(&listening);
    return pid;
}

/* --- the sender --- */

static struct naru_channel *join(const char *url, int64_t reconnect_ns)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;

    options.reconnect_ns = reconnect_ns;
    CHECK_INT(naru_connect(url, &options, patience, &ch), 0);
    return ch;
}

static void await_asleep(struct naru_channel *ch)
{
    const struct shm *shm = ch->state;

    WAIT_UNTIL(atomic_load(&shm->link.their_page->receiver_asleep) != 0);
}

/* So slowly that whoever asks from time to time asks each time. */
static void await_tick(void)
{
    uint32_t tick = clock_tick();

    WAIT_UNTIL(clock_tick() != tick);
}

static int send_by(struct naru_channel *ch, size_t way)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(void *)(uintptr_t) "telemetry", 10};
    ssize_t n;
    int r;

    switch (way) {
    case 0:
        return naru_send(ch, "telemetry", 10, NARU_FOREVER);
    case 1:
        return naru_send(ch, "telemetry", 10, patience);
    case 2:
        r = naru_loan(ch, 10, patience, &loan);
        if (r == 0) {
            memcpy(loan.data, "telemetry", 10);
            r = naru_commit(&loan, 10, NULL);
        }
        return r;
    default:
        m.iov = &piece;
        m.iov_count = 1;
        n = naru_send_batch(ch, &m, 1, patience);
        return n == 1 ? 0 : (int)n;
    }
}

enum { SENDER_WAYS = 4 };

/* One that was killed before it closed anything. Returns the sender's end. */
static struct naru_channel *send_to_the_killed(const char *url, size_t index, size_t way,
                                               int64_t reconnect_ns)
{
    struct naru_channel *ch;
    struct test_gate busy;
    int pid, r;

    test_gate_init(&busy);
    pid = fork_receiver(url, ways[index].how, false, &busy);
    ch = join(url, reconnect_ns);
    await_asleep(ch);
    CHECK_INT(send_by(ch, way), 0);
    if (ways[index].how == IS_BUSY) {
        test_gate_wait(&busy);
    } else {
        CHECK_INT(naru_flush(ch, NARU_TAKEN, patience), 0);
        await_asleep(ch);
    }
    test_kill(pid);
    await_tick();
    r = send_by(ch, way);
    if (r == 0) /* it is under way when it is found that nobody is there */
        r = send_by(ch, way);
    CHECK_INT(r, -EOWNERDEAD);
    return ch;
}

TEST_EACH(the_second_send_at_the_latest_tells_that_the_receiver_was_killed, each_way)
{
    const char *url = url_of(index);
    int r;

    for (size_t way = 0; way < SENDER_WAYS; way++) {
        struct naru_channel *ch = send_to_the_killed(url, index, way, 0);

        CHECK_INT(send_by(ch, way), -EOWNERDEAD);
        naru_channel_close(ch);
    }
    r = naru_remove(url);
    CHECK(r == 0 || r == -ENOENT);
}

TEST_EACH(who_connects_again_sends_to_the_next_receiver, each_way)
{
    const char *url = url_of(index);
    struct naru_channel *ch = send_to_the_killed(url, index, 1, NARU_FOREVER);
    struct test_gate received;
    int pid;

    CHECK_CONTAINS(naru_explain(), "the next call connects again");
    test_gate_init(&received);
    pid = fork_receiver(url, ways[index].how, true, &received);
    CHECK_INT(send_by(ch, 1), 0);
    test_gate_wait(&received);
    naru_channel_close(ch);
    test_join(pid);
}
