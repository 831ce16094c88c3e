/* SPDX-License-Identifier: MIT */
/* options.reconnect_ns: listeners that go and come again, and a channel that goes on with them. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mechanism.h"
#include "naru/naru.h"

static const struct {
    const char *name, *url; /* %s: the test's directory */
} ways[] = {{"shm", "shm://%s/s"},
            {"unix-stream", "unix://%s/s"},
            {"unix-seqpacket", "unix://%s/s?type=seqpacket"},
            {"tcp", "tcp://127.0.0.1:%d"},
            {"shm-posix", "shm+posix:/naru-test-reconnect"},
            {"shm-sysv", "shm+sysv:0x4e7a"}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

/* Those with a descriptor for event loops. */
static const char *each_polled_way(size_t index)
{
    return index < 4 ? ways[index].name : NULL;
}

/* Those of one machine: a network may throw away what was under way. */
static const char *each_near_way(size_t index)
{
    return index < 3 ? ways[index].name : NULL;
}

static const int64_t patience = NARU_S(20);

/* Where listeners come and go: always the same. */
static const char *url_of(size_t way)
{
    struct naru_listener *l;
    const char *url;

    if (strcmp(ways[way].name, "tcp") != 0) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        return test_format(ways[way].url, test_directory());
#pragma GCC diagnostic pop
    }
    CHECK_OK(naru_listen("tcp://127.0.0.1:0", NULL, &l));
    url = test_format("%s", naru_listener_url(l));
    naru_listener_close(l);
    return url;
}

/* What a killed listener leaves. */
static void remove_name(const char *url)
{
    int r = naru_remove(url);

    CHECK(r == 0 || r == -ENOENT || r == -ENOTSUP);
}

static struct naru_channel *join(const char *url, int64_t reconnect, int interruptible)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.reconnect_ns = reconnect;
    options.interruptible = interruptible;
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    return ch;
}

/* Answers each message until it is killed, or, if any, after that many leaves in order. */
static int start_server(const char *url, int messages)
{
    struct naru_listener *l;
    struct naru_channel *ch;
    char buf[64];
    ssize_t n;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    CHECK_OK(naru_accept(l, patience, &ch));
    for (int i = 0; messages == 0 || i < messages; i++) {
        n = naru_recv(ch, buf, sizeof buf, NARU_FOREVER);
        if (n == -EPIPE || n == -ECONNRESET || n == -EOWNERDEAD) /* which a kept channel's end is on shm: */
            break;
        CHECK_OK(n);
        CHECK_OK(naru_send(ch, buf, (size_t)n, patience));
    }
    naru_channel_close(ch);
    naru_listener_close(l);
    test_child_end();
}

static void ask(struct naru_channel *ch, const char *text)
{
    char buf[64];

    CHECK_OK(naru_send(ch, text, strlen(text), patience));
    CHECK_INT(CHECK_OK(naru_recv(ch, buf, sizeof buf, patience)), strlen(text));
    CHECK(memcmp(buf, text, strlen(text)) == 0);
}

static uint64_t reconnects(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_OK(naru_channel_info(ch, &info));
    return info.reconnects;
}

static bool is_end(long long r)
{
    return r == -EPIPE || r == -EOWNERDEAD || r == -ECONNRESET || r == -EPROTO;
}

TEST_EACH(the_end_is_told_once_and_the_next_call_connects_again, each_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    char buf[64];

    ask(ch, "first");
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    CHECK_CONTAINS(naru_explain(), "not flushed may be lost");
    test_join(server);
    CHECK_INT(naru_send(ch, "x", 1, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(ch, "x", 1, NARU_MS(30)), -ETIMEDOUT);
    CHECK_INT(reconnects(ch), 0);
    server = start_server(url, 2);
    ask(ch, "second");
    ask(ch, "third");
    CHECK_INT(reconnects(ch), 1);
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    server = start_server(url, 0);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_MS(300)),
              -ETIMEDOUT); /* connects, and waits for a message */
    CHECK_INT(reconnects(ch), 1 + (naru_send(ch, "x", 1, patience) == 0));
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 1);
    CHECK_INT(reconnects(ch), 2);
    naru_channel_close(ch);
    test_join(server);
}

/* --- killed and restarted --- */

enum { ASKED_MOST = 200000 };

struct ledger {
    _Atomic int stop;
    _Atomic uint32_t asked;
    _Atomic uint8_t noted[ASKED_MOST];                  /* by a server: it was received */
    uint8_t answered[ASKED_MOST], reported[ASKED_MOST]; /* by the sender */
    uint64_t losses, reconnects;
};

static int start_notary(const char *url, struct ledger *ledger)
{
    struct naru_listener *l;
    struct naru_channel *ch;
    uint32_t number;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    CHECK_OK(naru_accept(l, patience, &ch));
    while (naru_recv(ch, &number, sizeof number, NARU_FOREVER) == sizeof number) {
        CHECK(number < ASKED_MOST);
        CHECK_INT(atomic_fetch_add(&ledger->noted[number], 1), 0); /* none twice */
        CHECK_OK(naru_send(ch, &number, sizeof number, patience));
    }
    naru_channel_close(ch);
    naru_listener_close(l);
    test_child_end();
}

/* One call of the sender; true: it tells of a loss, which is reported for the message that was under way. */
static bool lost(struct ledger *ledger, uint32_t number, long long r)
{
    if (r >= 0)
        return false;
    if (!is_end(r))
        test_fail(__FILE__, __LINE__, "%lld: %s", r, naru_explain());
    ledger->reported[number] = 1;
    ledger->losses++;
    return true;
}

static void go_on_asking(const char *url, struct ledger *ledger)
{
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    uint32_t i = 0, answer;

    for (; i < ASKED_MOST && (!atomic_load(&ledger->stop) || i == 0); i++) {
        atomic_store(&ledger->asked, i + 1);
        if (lost(ledger, i, naru_send(ch, &i, sizeof i, patience)) ||
            lost(ledger, i, naru_recv(ch, &answer, sizeof answer, patience)))
            continue;
        CHECK_INT(answer, i);
        ledger->answered[i] = 1;
    }
    ledger->reconnects = reconnects(ch);
    naru_channel_close(ch);
    test_child_end();
}

TEST_EACH(what_is_received_and_what_is_told_lost_is_all_that_was_sent, each_way)
{
    enum { KILLS = 40 };
    struct ledger *ledger = test_shared(sizeof *ledger);
    const char *url = url_of(index);
    uint32_t received = 0, gone = 0, reported = 0;
    int server = start_notary(url, ledger), sender = test_fork();

    if (sender == 0)
        go_on_asking(url, ledger);
    for (int i = 0; i < KILLS; i++) {
        const struct timespec pause = {.tv_nsec = (long)(test_random() % 3000) * 1000};
        uint32_t before = atomic_load(&ledger->asked);

        WAIT_UNTIL(atomic_load(&ledger->asked) > before + 2); /* it is connected to this one */
        nanosleep(&pause, NULL);
        test_kill(server);
        server = start_notary(url, ledger);
    }
    atomic_store(&ledger->stop, 1);
    test_join(sender);
    test_kill(server);
    remove_name(url);
    for (uint32_t i = 0; i < ledger->asked; i++) {
        received += ledger->noted[i];
        gone += !ledger->noted[i];
        reported += ledger->reported[i];
        CHECK(ledger->noted[i] || ledger->reported[i]); /* nothing is lost silently */
        CHECK(ledger->answered[i] || ledger->reported[i]);
        CHECK(!ledger->answered[i] || ledger->noted[i]);
    }
    test_note("%u sent, %u received, %u lost, %u told, %llu connections", ledger->asked, received, gone,
              reported, (unsigned long long)ledger->reconnects + 1);
    CHECK_INT(received + gone, ledger->asked);
    CHECK(gone <= reported);
    CHECK(ledger->reconnects >= KILLS - 1 /* the last may come after the last question */ &&
          ledger->losses >= ledger->reconnects);
    CHECK(ledger->losses <= ledger->reconnects + 1); /* each told once */
}

/* --- what the old connection holds --- */

/* Says three words, and leaves when it is told to. */
static int start_speaker(const char *url, struct test_gate *leave)
{
    static const char *const words[] = {"one", "three", "two"};
    struct naru_listener *l;
    struct naru_channel *ch;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    CHECK_OK(naru_accept(l, patience, &ch));
    for (int i = 0; i < 3; i++)
        CHECK_OK(naru_send(ch, words[i], strlen(words[i]), patience));
    test_gate_wait(leave);
    naru_channel_close(ch);
    naru_listener_close(l);
    test_child_end();
}

static void hear(struct naru_channel *ch, const char *word, bool in_place)
{
    char buf[16] = "";

    if (in_place) {
        struct naru_view view = NARU_INIT(struct naru_view);

        CHECK_OK(naru_borrow(ch, patience, &view));
        CHECK(view.length < sizeof buf);
        memcpy(buf, view.data, view.length);
        naru_release(&view);
    } else {
        CHECK_OK(naru_recv(ch, buf, sizeof buf - 1, patience));
    }
    CHECK_STR(buf, word);
}

TEST_EACH(what_the_old_connection_brought_is_received_before_the_new, each_near_way)
{
    for (int in_place = 0; in_place < 2; in_place++) {
        const char *url = url_of(index);
        struct test_gate leave;
        struct naru_channel *ch;
        int server, r = 0;

        test_gate_init(&leave);
        server = start_speaker(url, &leave);
        ch = join(url, NARU_FOREVER, 0);
        hear(ch, "one", in_place); /* so the others have been sent soon */
        test_gate_open(&leave);
        test_join(server);
        while (r == 0)
            r = naru_send(ch, "x", 1, patience);
        CHECK(is_end(r));
        server = start_server(url, 0);
        CHECK_OK(naru_send(ch, "new", 3, patience));
        CHECK_INT(reconnects(ch), 1);
        hear(ch, "three", in_place);
        hear(ch, "two", in_place);
        hear(ch, "new", in_place);
        ask(ch, "again");
        naru_channel_close(ch);
        test_join(server);
    }
}

TEST(what_cannot_be_borrowed_of_the_old_connection_can_be_received)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    const char *url = url_of(0);
    struct test_gate leave;
    struct naru_channel *ch;
    int server, r;
    char buf[8];

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(test_format("%s?max-message=4", url), NARU_FOREVER, 0);
    test_gate_open(&leave);
    test_join(server);
    while ((r = naru_send(ch, "gone", 4, patience)) == 0)
        ;
    CHECK_INT(r, -EPIPE);
    hear(ch, "one", true);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_borrow(ch, NARU_NOWAIT, &view), -EMSGSIZE);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 5);
    CHECK(memcmp(buf, "three", 5) == 0);
    hear(ch, "two", true);
    naru_channel_close(ch);
}

static void send_until_the_end(struct naru_channel *ch)
{
    int r = 0;

    while (r == 0)
        r = naru_send(ch, "x", 1, patience);
    CHECK(is_end(r));
}

/* A message that is too large for this end is not the last. A stream's would be: it cannot be passed over. */
TEST_EACH(what_nobody_received_before_a_second_loss_is_counted, each_near_way)
{
    bool limited = strcmp(ways[index].name, "unix-stream") != 0;
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    const char *url = url_of(index);
    struct test_gate leave;
    struct naru_channel *ch;
    int server;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(limited ? test_format("%s%cmax-message=3", url, strchr(url, '?') ? '&' : '?') : url,
              NARU_FOREVER, 0);
    test_gate_open(&leave);
    test_join(server);
    send_until_the_end(ch);
    server = start_server(url, 1);
    CHECK_OK(naru_send(ch, "new", 3, patience));
    CHECK_INT(reconnects(ch), 1);
    test_join(server);
    send_until_the_end(ch);
    CHECK_OK(naru_channel_info(ch, &info));
    CHECK_INT(info.dropped, 3);
    hear(ch, "new", false);
    naru_channel_close(ch);
}

TEST_EACH(a_view_of_the_old_connection_stays_valid, each_way)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    char buf[8];

    CHECK_OK(naru_send(ch, "keep", 4, patience));
    CHECK_OK(naru_borrow(ch, patience, &view));
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    server = start_server(url, 0);
    ask(ch, "other");
    CHECK(view.length == 4 && memcmp(view.data, "keep", 4) == 0);
    naru_release(&view);
    ask(ch, "another");
    naru_channel_close(ch);
    test_join(server);
}

/* small: in the ring; else in the pool. */
static void loan_over_a_loss(size_t way, size_t length, bool commits)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    const char *url = url_of(way);
    struct test_gate leave;
    struct naru_channel *ch;
    char buf[8];
    int server, r;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join(url, NARU_FOREVER, 0);
    hear(ch, "one", false);
    hear(ch, "three", false);
    hear(ch, "two", false);
    CHECK_OK(naru_loan(ch, length, patience, &loan));
    test_gate_open(&leave);
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    server = start_server(url, 0);
    memset(loan.data, 'x', length); /* its place is still there */
    if (commits) {
        r = naru_commit(&loan, 3, NULL);
        CHECK_INT(r, strncmp(ways[way].name, "shm", 3) == 0
                         ? -EPIPE
                         : 0); /* elsewhere it was a buffer of ours: sent to the next */
        if (r == 0)
            CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 3);
    } else {
        naru_loan_cancel(&loan);
    }
    ask(ch, "second");
    CHECK_OK(naru_loan(ch, 6, patience, &loan));
    memcpy(loan.data, "loaned", 6);
    CHECK_OK(naru_commit(&loan, 6, NULL));
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 6);
    naru_channel_close(ch);
    test_join(server);
}

TEST_EACH(a_loan_of_the_old_connection_is_not_sent_on_the_new, each_way)
{
    for (int i = 0; i < 4; i++)
        loan_over_a_loss(index, i & 1 ? 100 : index == 0 ? 190 * 1000 : 100 * 1000, i & 2);
}

/* Where a loan is a place of the connection's. The commit itself is told of the end. */
TEST(a_commit_that_finds_the_end_leaves_the_next_connection_its_own_loans)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    const char *url = url_of(0);
    struct test_gate leave;
    struct naru_channel *ch;
    char buf[8];
    int server;

    for (size_t length = 100; length <= 190 * 1000; length *= 1900) { /* in the ring; in the pool */
        test_gate_init(&leave);
        server = start_speaker(url, &leave);
        ch = join(url, NARU_FOREVER - 1, 0); /* which is as good */
        CHECK_OK(naru_loan(ch, length, patience, &loan));
        test_gate_open(&leave);
        test_join(server);
        CHECK_INT(naru_commit(&loan, 3, NULL), -EPIPE);
        CHECK_CONTAINS(naru_explain(), "the next call connects again");
        server = start_server(url, 0);
        hear(ch, "one", false); /* which had come before the end */
        hear(ch, "three", false);
        hear(ch, "two", false);
        CHECK_OK(naru_loan(ch, 6, patience, &loan));
        memcpy(loan.data, "loaned", 6);
        CHECK_OK(naru_commit(&loan, 6, NULL));
        CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 6);
        ask(ch, "second");
        naru_channel_close(ch);
        test_join(server);
    }
}

/* --- an event loop --- */

static int greetings, calls, losses;

static int on_channel(struct naru_source *source, uint32_t events, void *channel)
{
    char buf[16];
    ssize_t n;

    (void)events;
    calls++;
    while ((n = naru_recv(channel, buf, sizeof buf, NARU_NOWAIT)) != -EAGAIN) {
        greetings += n == 3;
        losses += is_end(n);
        if (n < 0 && !is_end(n))
            test_fail(__FILE__, __LINE__, "%lld: %s", (long long)n, naru_explain());
        if (is_end(n))
            break;
    }
    if (is_end(n) || greetings == 3 || calls > 1000)
        naru_loop_stop(naru_source_loop(source));
    return 0;
}

static int start_greeter(const char *url)
{
    struct naru_listener *l;
    struct naru_channel *ch;
    int pid = test_fork();

    if (pid != 0)
        return pid;
    CHECK_OK(naru_listen(url, NULL, &l));
    for (int r = -EPIPE; is_end(r);) { /* an attempt that found no answer in time may have hung up */
        CHECK_OK(naru_accept(l, patience, &ch));
        r = naru_send(ch, "hey", 3, patience);
        CHECK(r == 0 || is_end(r));
        if (r < 0)
            naru_channel_close(ch);
    }
    for (;;)
        pause();
}

TEST_EACH(an_event_loop_keeps_its_descriptor_and_is_woken_to_connect_again, each_polled_way)
{
    const char *url = url_of(index);
    struct naru_channel *ch;
    struct naru_loop *loop;
    int server, fd;

    greetings = calls = losses = 0;
    server = start_greeter(url);
    ch = join(url, NARU_FOREVER, 0);
    fd = naru_channel_fd(ch);
    CHECK_OK(fd);
    CHECK_OK(naru_loop_new(&loop));
    CHECK_OK(naru_loop_add_channel(loop, ch, on_channel, ch, NULL));
    for (int i = 1; i <= 3; i++) {
        int64_t end = now_ns() + patience;

        while (greetings < i && now_ns() < end)
            CHECK_OK(naru_loop_run_once(loop, NARU_S(1)));
        CHECK_INT(greetings, i);
        CHECK_INT(reconnects(ch), i - 1);
        test_kill(server);
        while (losses < i && now_ns() < end)
            CHECK_OK(naru_loop_run_once(loop, NARU_S(1)));
        CHECK_INT(losses, i);
        server = start_greeter(url);
    }
    CHECK_INT(naru_channel_fd(ch), fd);
    test_kill(server);
    remove_name(url);
    naru_loop_free(loop);
    naru_channel_close(ch);
}

TEST_EACH(a_dead_peer_costs_an_event_loop_next_to_nothing, each_polled_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 1), woken = 0;
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    int64_t end;
    char buf[8];
    int fd = naru_channel_fd(ch);

    ask(ch, "x");
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    /* A loop that sleeps until the descriptor is ready and calls: 1, 2, 4 ... 250 ms apart. */
    for (end = now_ns() + NARU_S(1); now_ns() < end; woken++) {
        struct naru_wait item = NARU_INIT(struct naru_wait);

        item.channel = ch;
        if (naru_wait_any(&item, 1, NARU_S(1)) < 0)
            break;
        CHECK(test_is_readable(fd));
        CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_NOWAIT), -EAGAIN);
    }
    CHECK(woken >= 1 && woken <= 20);
    naru_channel_close(ch);
}

/* --- another process goes on with it --- */

static struct naru_channel *join_to_be_adopted(const char *url)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.reconnect_ns = NARU_FOREVER;
    options.keep_on_fork = 1;
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    return ch;
}

TEST_EACH(an_adopted_channel_connects_again, each_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 2), child;
    struct naru_channel *ch = join_to_be_adopted(url);
    char buf[8];

    ask(ch, "x");
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        for (int i = 0; i < 2; i++) {
            ask(ch, "y");
            CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
        }
        ask(ch, "z");
        naru_channel_close(ch);
        test_child_end();
    }
    naru_channel_close(ch);
    for (int i = 1; i >= 0; i--) {
        test_join(server);
        server = start_server(url, i);
    }
    test_join(child);
    test_join(server);
}

/* Lost by the parent, whose child adopts it then; or by the child. */
static void drain_in_child(size_t way, bool before)
{
    const char *url = url_of(way);
    struct test_gate leave;
    struct naru_channel *ch;
    int server, child;

    test_gate_init(&leave);
    server = start_speaker(url, &leave);
    ch = join_to_be_adopted(url);
    test_gate_open(&leave);
    test_join(server);
    if (before)
        send_until_the_end(ch);
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        if (!before)
            send_until_the_end(ch);
        server = start_server(url, 0);
        CHECK_OK(naru_send(ch, "new", 3, patience));
        hear(ch, "one", false);
        hear(ch, "three", true);
        hear(ch, "two", false);
        hear(ch, "new", false);
        naru_channel_close(ch);
        test_join(server);
        test_child_end();
    }
    test_join(child);
    naru_channel_close(ch);
}

TEST_EACH(an_adopted_channel_brings_what_its_old_connection_brought, each_near_way)
{
    drain_in_child(index, true);
    drain_in_child(index, false);
}

/* Sleeps until its descriptor is ready, and calls. The end of the one who greeted before may come first. */
static void be_greeted(struct naru_channel *ch)
{
    struct naru_wait item = NARU_INIT(struct naru_wait);
    ssize_t n;

    item.channel = ch;
    do {
        char buf[8];

        CHECK_INT(naru_wait_any(&item, 1, patience), 1);
        n = naru_recv(ch, buf, sizeof buf, NARU_NOWAIT);
    } while (n == -EAGAIN || is_end(n));
    CHECK_INT(n, 3);
}

TEST_EACH(an_adopted_channel_wakes_its_loop_to_connect_again, each_polled_way)
{
    const char *url = url_of(index);
    int server = start_greeter(url), child;
    struct naru_channel *ch = join_to_be_adopted(url);
    struct test_gate greeted;

    test_gate_init(&greeted);
    CHECK_OK(naru_channel_fd(ch));
    child = test_fork();
    if (child == 0) {
        CHECK_OK(naru_channel_adopt(ch));
        for (int i = 0; i < 3; i++) {
            be_greeted(ch);
            test_gate_open(&greeted);
        }
        naru_channel_close(ch);
        test_child_end();
    }
    naru_channel_close(ch);
    for (int i = 0; i < 3; i++) {
        test_gate_wait(&greeted);
        test_kill(server);
        if (i < 2)
            server = start_greeter(url);
    }
    test_join(child);
    remove_name(url);
}

/* --- how long, who, and what cannot be --- */

TEST_EACH(after_its_time_it_gives_up, each_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch =
        join(test_format("%s%creconnect=50ms", url, strchr(url, '?') ? '&' : '?'), 0, 0);
    char buf[8];
    long long end;

    ask(ch, "x");
    end = naru_recv(ch, buf, sizeof buf, patience);
    CHECK(is_end(end));
    test_join(server);
    CHECK_INT(naru_send(ch, "x", 1, patience), end);
    CHECK_CONTAINS(naru_explain(), "?reconnect=50ms");
    CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_NOWAIT), end);
    naru_channel_close(ch);
}

static struct naru_channel *interrupted;

static void on_alarm(int number)
{
    (void)number;
    (void)naru_interrupt(interrupted);
}

TEST_EACH(an_interruption_ends_the_wait_for_a_listener, each_way)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch = join(url, NARU_FOREVER, 1);
    char buf[8];

    ask(ch, "x");
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    interrupted = ch;
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    ualarm(20 * 1000, 0);
    CHECK_INT(naru_send(ch, "x", 1, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_MS(1)), -ECANCELED); /* the other direction's */
    server = start_server(url, 0);
    ask(ch, "y");
    naru_channel_close(ch);
    test_join(server);
}

TEST(the_next_listener_is_asked_for_its_type_as_well)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    const char *url = url_of(0);
    struct naru_channel *ch, *other;
    struct naru_listener *l;
    int server = start_server(url, 1), pid;
    char buf[8], name[] = "struct pose";

    options.reconnect_ns = NARU_FOREVER;
    options.type = (struct naru_type){name, 24, 8, 1};
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    memset(name, 'x', sizeof name - 1); /* the call has read it */
    ask(ch, "x");
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    pid = test_fork();
    if (pid == 0) {
        options.reconnect_ns = 0;
        options.type = (struct naru_type){"struct other", 24, 8, 1};
        CHECK_OK(naru_listen(url, &options, &l));
        CHECK_INT(naru_accept(l, NARU_S(1), &other), -ETIMEDOUT);
        naru_listener_close(l);
        test_child_end();
    }
    CHECK_INT(naru_send(ch, "x", 1, patience), -EPROTOTYPE);
    CHECK_CONTAINS(naru_explain(), "struct pose");
    test_join(pid);
    server = start_server(url, 0);
    ask(ch, "y");
    naru_channel_close(ch);
    test_join(server);
}

TEST_EACH(descriptors_go_by_the_connection_that_there_is, each_near_way)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    const char *url = url_of(index);
    struct naru_channel *far, *near;
    struct naru_listener *l;
    char buf[8] = "x";
    int fd = 0;

    options.reconnect_ns = NARU_FOREVER;
    CHECK_OK(naru_listen(url, NULL, &l));
    CHECK_OK(naru_connect(url, &options, patience, &far));
    for (int round = 0; round < 3; round++) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece = {buf, 1};
        int got = -1;

        m.iov = &piece;
        m.iov_count = 1;
        m.fds = &fd;
        m.fd_count = 1;
        CHECK_OK(naru_send_message(far, &m, patience));
        CHECK_OK(naru_accept(l, patience, &near));
        m.fds = &got;
        m.fd_capacity = 1;
        CHECK_OK(naru_recv_message(near, &m, patience));
        CHECK_INT(m.fd_count, 1);
        CHECK_INT(close(got), 0);
        naru_channel_close(near);
        CHECK(is_end(naru_recv(far, buf, sizeof buf, patience)));
    }
    naru_channel_close(far);
    naru_listener_close(l);
}

/* A view has no room for them. */
TEST_EACH(descriptors_lost_of_the_old_connection_are_counted, each_near_way)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {(char[]){"one"}, 3};
    const char *url = url_of(index);
    struct naru_channel *far, *near;
    struct naru_listener *l;
    int fd = 0;

    CHECK_OK(naru_listen(url, NULL, &l));
    far = join(url, NARU_FOREVER, 0);
    CHECK_OK(naru_accept(l, patience, &near));
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = 1;
    CHECK_OK(naru_send_message(near, &m, patience));
    naru_channel_close(near);
    send_until_the_end(far);
    hear(far, "one", true);
    CHECK_OK(naru_channel_info(far, &info));
    CHECK_INT(info.dropped, 1);
    naru_channel_close(far);
    naru_listener_close(l);
}

TEST_EACH(who_has_finished_does_not_connect_again, each_near_way)
{
    const char *url = url_of(index);
    int server = start_server(url, 1);
    struct naru_channel *ch = join(url, NARU_FOREVER, 0);
    char buf[8];

    ask(ch, "x");
    CHECK_OK(naru_channel_finish(ch));
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    CHECK_INT(naru_send(ch, "x", 1, NARU_NOWAIT), -EPIPE);
    naru_channel_close(ch);
    test_join(server);
}

TEST(a_writer_of_a_fifo_waits_for_the_next_reader)
{
    const char *path = test_format("%s/f", test_directory());
    struct naru_channel *ch, *near;
    struct naru_listener *l;
    char buf[8];
    int r = 0;

    CHECK_OK(naru_listen(test_format("fifo://%s?unlink=yes", path), NULL, &l));
    ch = join(test_format("fifo://%s?reconnect=yes", path), 0, 0);
    CHECK_OK(naru_accept(l, patience, &near));
    CHECK_OK(naru_send(ch, "a", 1, patience));
    CHECK_INT(naru_recv(near, buf, sizeof buf, patience), 1);
    naru_channel_close(near);
    naru_listener_close(l);
    while (r == 0)
        r = naru_send(ch, "b", 1, patience);
    CHECK(is_end(r));
    CHECK_INT(naru_send(ch, "c", 1, NARU_NOWAIT), -EAGAIN);
    CHECK_OK(naru_listen(test_format("fifo://%s?unlink=yes", path), NULL, &l));
    CHECK_OK(naru_send(ch, "d", 1, patience));
    CHECK_OK(naru_accept(l, patience, &near));
    CHECK_INT(naru_recv(near, buf, sizeof buf, patience), 1);
    CHECK_INT(buf[0], 'd');
    naru_channel_close(ch);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(what_cannot_be_is_explained)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.reconnect_ns = NARU_FOREVER;
    CHECK_INT(naru_connect("exec:cat", &options, patience, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "leave out ?reconnect=");
    CHECK_INT(naru_connect("unix:///x?reconnect=maybe", NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected ?reconnect= no, yes or how long");
    options.reconnect_ns = -1;
    CHECK_INT(naru_connect("unix:///x", &options, NARU_NOWAIT, &ch), -EINVAL);
}
