/* SPDX-License-Identifier: MIT */
/* options.reconnect_ns: listeners that go and come again, and a channel that goes on with them. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "reconnect.h"

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
    CHECK_OK(naru_send(ch, "x", 1, patience));
    CHECK_INT(reconnects(ch), 2);
    CHECK_INT(naru_recv(ch, buf, sizeof buf, patience), 1);
    naru_channel_close(ch);
    test_join(server);
}

/* --- killed and restarted --- */

/* However fast the machine is, a sender has something left to ask whichever server is the last. */
enum { KILLS = 40, ASKED_OF_ONE = 50000, ASKED_MOST = (KILLS + 1) * ASKED_OF_ONE };

struct ledger {
    _Atomic int stop;
    _Atomic uint32_t asked, allowed;
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

    for (;; i++) {
        WAIT_UNTIL(i < atomic_load(&ledger->allowed) || atomic_load(&ledger->stop));
        if (atomic_load(&ledger->stop))
            break;
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
    struct ledger *ledger = test_shared(sizeof *ledger);
    const char *url = url_of(index);
    uint32_t received = 0, gone = 0, reported = 0;
    int server = start_notary(url, ledger), sender = test_fork();

    if (sender == 0)
        go_on_asking(url, ledger);
    for (int i = 0; i < KILLS; i++) {
        const struct timespec pause = {.tv_nsec = (long)(test_random() % 3000) * 1000};
        uint32_t before = atomic_load(&ledger->asked);

        atomic_store(&ledger->allowed, before + ASKED_OF_ONE);
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
    end = now_ns() + NARU_S(1);
    do { /* once however late it is */
        struct naru_wait item = NARU_INIT(struct naru_wait);

        item.channel = ch;
        CHECK_OK(naru_wait_any(&item, 1, patience));
        CHECK(test_is_readable(fd));
        CHECK_INT(naru_recv(ch, buf, sizeof buf, NARU_NOWAIT), -EAGAIN);
        woken++;
    } while (now_ns() < end);
    CHECK(woken >= 1 && woken <= 20);
    naru_channel_close(ch);
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
    struct test_gate refused;
    int server = start_server(url, 1), pid;
    char buf[8], name[] = "struct pose";

    options.reconnect_ns = NARU_FOREVER;
    options.type = (struct naru_type){name, 24, 8, 1};
    CHECK_OK(naru_connect(url, &options, patience, &ch));
    memset(name, 'x', sizeof name - 1); /* the call has read it */
    ask(ch, "x");
    CHECK(is_end(naru_recv(ch, buf, sizeof buf, patience)));
    test_join(server);
    test_gate_init(&refused);
    pid = test_fork();
    if (pid == 0) {
        options.reconnect_ns = 0;
        options.type = (struct naru_type){"struct other", 24, 8, 1};
        CHECK_OK(naru_listen(url, &options, &l)); /* its keeper refuses */
        test_gate_wait(&refused);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &other), -EAGAIN);
        naru_listener_close(l);
        test_child_end();
    }
    CHECK_INT(naru_send(ch, "x", 1, patience), -EPROTOTYPE);
    CHECK_CONTAINS(naru_explain(), "struct pose");
    test_gate_open(&refused);
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
