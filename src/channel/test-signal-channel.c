/* SPDX-License-Identifier: MIT */
/* signal: what is particular to it. What it shares with every mechanism is the conformance suite's.
 * To be run not under ThreadSanitizer: its runtime keeps signals back, and has a thread that blocks none. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static struct naru_channel *receiver(const char *url, struct naru_listener **ret_l)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_listen(url, NULL, ret_l), 0);
    CHECK_INT(naru_accept(*ret_l, NARU_NOWAIT, &ch), 0);
    return ch;
}

static const char *url_of(int pid, const char *sig)
{
    static char url[64];

    snprintf(url, sizeof url, "signal:%d?sig=%s", pid, sig);
    return url;
}

static void close_both(struct naru_channel *ch, struct naru_listener *l)
{
    CHECK(naru_channel_close(ch) == NULL);
    CHECK(naru_listener_close(l) == NULL);
}

TEST(ints_of_another_process_arrive_in_order_with_their_sender)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    struct naru_listener *l;
    struct naru_channel *ch = receiver("signal:?sig=RTMIN+1", &l);
    int child = test_fork();

    if (child == 0) {
        struct naru_channel *out = NULL;
        struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

        CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_S(60), &out), 0);
        CHECK_INT(naru_channel_info(out, &info), 0);
        CHECK_INT(info.peer.pid, getppid());
        CHECK_INT(info.peer.uid, getuid());
        CHECK_INT(info.max_message, 4);
        for (int32_t i = -100; i < 100; i++)
            CHECK_INT(naru_send(out, &i, sizeof i, NARU_FOREVER), 0);
        CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_S(60)), 0);
        naru_channel_close(out);
        naru_channel_close(ch);
        naru_listener_close(l);
        _exit(0);
    }
    for (int32_t i = -100; i < 100; i++) {
        int32_t value = 0;
        struct iovec iov = {&value, sizeof value};
        struct naru_message m = NARU_INIT(struct naru_message);

        m.iov = &iov;
        m.iov_count = 1;
        CHECK_INT(naru_recv_message(ch, &m, i % 2 ? NARU_FOREVER : NARU_S(60)), 0);
        CHECK_INT(m.length, 4);
        CHECK_INT(value, i);
        CHECK_INT(m.sender.pid, child);
        CHECK_INT(m.sender.uid, getuid());
    }
    test_join(child);
    CHECK_INT(naru_signal_sets(0, &sets), 0);
    CHECK_INT(sets.caught & naru_signal_bit(SIGRTMIN + 1), 0); /* no handler was installed */
    close_both(ch, l);
}

TEST(any_length_but_four_bytes_is_refused_clearly)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:", &l), *out = NULL;
    char bytes[8] = "";

    CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_NOWAIT, &out), 0);
    CHECK_INT(naru_send(out, bytes, 5, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "message of 5 bytes exceeds 4; a signal carries one int");
    CHECK_INT(naru_send(out, bytes, 3, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "message of 3 bytes; a signal carries exactly one int of 4 bytes");
    CHECK_INT(naru_send(out, bytes, 0, NARU_NOWAIT), -EINVAL);
    CHECK_INT(naru_recv(in, bytes, sizeof bytes, NARU_NOWAIT), -EAGAIN);
    naru_channel_close(out);
    close_both(in, l);
}

TEST(a_value_too_large_for_the_buffer_is_kept)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:", &l), *out = NULL;
    int32_t sent = 0x01020304, received = 0;
    char small[2];

    CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_NOWAIT, &out), 0);
    CHECK_INT(naru_send(out, &sent, sizeof sent, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(in, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK_INT(naru_recv(in, &received, sizeof received, NARU_NOWAIT), 4);
    CHECK_INT(received, sent);
    naru_channel_close(out);
    close_both(in, l);
}

static bool is_told_that_it_would_kill(const char *url)
{
    struct naru_channel *out = NULL;

    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &out), -EAGAIN); /* in fork() it blocks everything */
    return strstr(naru_explain(), "does not block SIGRTMIN+2, and would be killed by it") != NULL;
}

TEST(connecting_waits_until_the_receiver_blocks_the_signal)
{
    struct test_gate go;
    struct naru_channel *out = NULL;
    int32_t value = 77;
    int child;

    test_gate_init(&go);
    child = test_fork();
    if (child == 0) {
        struct naru_listener *l;
        struct naru_channel *in;

        test_gate_wait(&go);
        in = receiver("signal:?sig=RTMIN+2", &l);
        CHECK_INT(naru_recv(in, &value, sizeof value, NARU_S(60)), 4);
        CHECK_INT(value, 77);
        close_both(in, l);
        _exit(0);
    }
    WAIT_UNTIL(is_told_that_it_would_kill(url_of(child, "RTMIN+2")));
    CHECK_INT(naru_connect(url_of(child, "RTMIN+2"), NULL, NARU_MS(2), &out), -ETIMEDOUT);
    test_gate_open(&go);
    CHECK_INT(naru_connect(url_of(child, "RTMIN+2"), NULL, NARU_S(60), &out), 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_NOWAIT), 0);
    test_join(child);
    naru_channel_close(out);
}

static void block_everything(void)
{
    sigset_t all;

    sigfillset(&all);
    CHECK_INT(sigprocmask(SIG_SETMASK, &all, NULL), 0);
}

TEST(who_blocks_everything_is_believed_when_it_sleeps_or_persists)
{
    struct test_gate ready;
    struct naru_channel *out = NULL;
    int sleeper, spinner;

    test_gate_init(&ready);
    spinner = test_fork();
    if (spinner == 0) {
        block_everything(); /* as the C library does for a moment in fork() and pthread_create() */
        test_gate_open(&ready);
        for (;;)
            getppid();
    }
    test_gate_wait(&ready);
    CHECK_INT(naru_connect(url_of(spinner, "RTMIN"), NULL, NARU_NOWAIT, &out), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "blocks everything at this moment");
    CHECK_INT(naru_connect(url_of(spinner, "RTMIN"), NULL, NARU_S(60), &out), 0);
    naru_channel_close(out);
    test_kill(spinner);
    sleeper = test_fork();
    if (sleeper == 0) {
        block_everything();
        for (;;)
            pause();
    }
    WAIT_UNTIL(naru_connect(url_of(sleeper, "RTMIN"), NULL, NARU_NOWAIT, &out) == 0);
    naru_channel_close(out);
    test_kill(sleeper);
}

TEST(a_plain_program_can_be_the_sender)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:?sig=RTMIN+6", &l);
    int32_t value = 0;

    CHECK_INT(sigqueue(getpid(), SIGRTMIN + 6, (union sigval){.sival_int = 1234}), 0);
    CHECK_INT(kill(getpid(), SIGRTMIN + 6), 0); /* without a value: 0 */
    CHECK_INT(naru_recv(in, &value, sizeof value, NARU_NOWAIT), 4);
    CHECK_INT(value, 1234);
    CHECK_INT(naru_recv(in, &value, sizeof value, NARU_NOWAIT), 4);
    CHECK_INT(value, 0);
    close_both(in, l);
}

TEST(a_full_queue_makes_the_sender_wait)
{
    struct naru_channel *out = NULL;
    struct test_gate full;
    int32_t value = -1;
    int child;

    test_gate_init(&full);
    child = test_fork();
    if (child == 0) { /* the receiver's limit counts */
        struct rlimit limit = {20, 20};
        struct naru_listener *mine;
        struct naru_channel *queue;

        CHECK_INT(setrlimit(RLIMIT_SIGPENDING, &limit), 0);
        if (geteuid() == 0) /* and all its user's processes share it: be a user of our own */
            CHECK_INT(setuid(1000000 + (uid_t)getpid()), 0);
        queue = receiver("signal:?sig=RTMIN+1", &mine);
        test_gate_wait(&full);
        for (int32_t i = 0; value != 999; i++) {
            CHECK_INT(naru_recv(queue, &value, sizeof value, NARU_S(60)), 4);
            CHECK(value == i || value == 999);
        }
        close_both(queue, mine);
        _exit(0);
    }
    CHECK_INT(naru_connect(url_of(child, "RTMIN+1"), NULL, NARU_S(60), &out), 0);
    do
        value++;
    while (naru_send(out, &value, sizeof value, NARU_NOWAIT) == 0);
    CHECK(value > 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_MS(2)), -ETIMEDOUT);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_MS(2)), -ETIMEDOUT);
    test_gate_open(&full);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_FOREVER), 0);
    value = 999;
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_FOREVER), 0);
    test_join(child);
    naru_channel_close(out);
}

TEST(what_is_queued_survives_its_sender)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:", &l);
    int32_t value = 0;
    int child = test_fork(), status;

    if (child == 0) {
        struct naru_channel *out = NULL;

        CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_S(60), &out), 0);
        for (int32_t i = 0; i < 10; i++)
            CHECK_INT(naru_send(out, &i, sizeof i, NARU_NOWAIT), 0);
        raise(SIGKILL);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    for (int32_t i = 0; i < 10; i++) {
        CHECK_INT(naru_recv(in, &value, sizeof value, NARU_NOWAIT), 4);
        CHECK_INT(value, i);
    }
    close_both(in, l);
}

/* How a sender to a receiver that ended in some way fares: before the receiver is waited for, and after. */
static void send_to_ended(int (*end)(int pid), int expected_of_zombie)
{
    struct naru_channel *out = NULL;
    int32_t value = 1;
    int child = test_fork();

    if (child == 0) {
        struct naru_listener *l;

        CHECK_INT(naru_signal_block(naru_signal_bit(SIGTERM), NULL), 0);
        (void)receiver("signal:", &l); /* which lets the parent connect */
        CHECK_INT(naru_signal_wait(naru_signal_bit(SIGTERM), NARU_FOREVER, NULL), 0);
        _exit(0);
    }
    CHECK_INT(naru_connect(url_of(child, "RTMIN"), NULL, NARU_S(60), &out), 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_NOWAIT), 0);
    CHECK_INT(end(child), 0);
    CHECK_INT(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_NOWAIT), expected_of_zombie);
    CHECK_INT(waitpid(child, NULL, 0), child);
    value = naru_send(out, &value, sizeof value, NARU_FOREVER);
    CHECK(value == -EPIPE || value == -EOWNERDEAD);
    CHECK_INT(naru_connect(url_of(child, "RTMIN"), NULL, NARU_NOWAIT, &out), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "there is no process");
    naru_channel_close(out);
}

static int kill_it(int pid)
{
    return kill(pid, SIGKILL);
}

static int end_it(int pid)
{
    return kill(pid, SIGTERM);
}

TEST(a_killed_receiver_is_noticed)
{
    send_to_ended(kill_it, -EOWNERDEAD);
}

TEST(an_ended_receiver_is_noticed)
{
    send_to_ended(end_it, -EPIPE);
}

TEST(a_second_receiver_of_one_signal_is_refused)
{
    struct naru_listener *l, *second = NULL;
    struct naru_channel *ch = receiver("signal:?sig=RTMIN+1", &l), *other;

    CHECK_INT(naru_listen("signal:?sig=RTMIN+1", NULL, &second), -EADDRINUSE);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &other), -EBUSY);
    CHECK_INT(naru_listen("signal:?sig=RTMIN+2", NULL, &second), 0);
    naru_listener_close(second);
    close_both(ch, l);
    ch = receiver("signal:?sig=RTMIN+1", &l);
    close_both(ch, l);
}

static void *wait_at_gates(void *data)
{
    struct test_gate *gates = data;

    test_gate_open(&gates[0]);
    test_gate_wait(&gates[1]);
    return NULL;
}

TEST(threads_that_do_not_block_the_signal_are_named)
{
    struct naru_listener *l = NULL;
    struct test_gate gates[2];
    pthread_t thread;

    test_gate_init(&gates[0]);
    test_gate_init(&gates[1]);
    CHECK_INT(pthread_create(&thread, NULL, wait_at_gates, gates), 0);
    test_gate_wait(&gates[0]);
    CHECK_INT(pthread_setname_np(thread, "too-early"), 0);
    CHECK_INT(naru_listen("signal:?sig=RTMIN+3", NULL, &l), -EBUSY);
    CHECK_CONTAINS(naru_explain(), "(too-early) of this process does not block SIGRTMIN+3");
    test_gate_open(&gates[1]);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(wrong_urls_are_refused_with_what_was_expected)
{
    static const struct {
        const char *url, *part;
        int error;
    } wrong[] = {
        {"signal:1?sig=SIGFOO", "?sig=SIGFOO is no signal; expected RTMIN", -EINVAL},
        {"signal:1?sig=USR1", "does not queue", -EINVAL},
        {"signal:?sig=RTMIN", "signal:1234?sig=RTMIN+1", -EINVAL},
        {"signal:abc", "signal:1234?sig=RTMIN+1", -EINVAL},
        {"signal:0", "signal:1234?sig=RTMIN+1", -EINVAL},
        {"signal:1?wrong=1", "wrong", -EINVAL},
        {"signal:2000000000", "there is no process 2000000000", -EAGAIN},
    };
    struct naru_options receiving = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_INT(naru_connect(wrong[i].url, NULL, NARU_NOWAIT, &ch), wrong[i].error);
        CHECK_CONTAINS(naru_explain(), wrong[i].part);
    }
    receiving.direction = NARU_DIRECTION_RECEIVE;
    CHECK_INT(naru_connect("signal:1", &receiving, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_INT(naru_listen("signal:1", NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "receives its own signals only");
    CHECK_INT(naru_listen("signal:?sig=USR1", NULL, &l), -EINVAL);
}

TEST(another_users_process_is_refused_with_the_reason)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:", &l);
    int child;

    test_need_root();
    child = test_fork_as_nobody();
    if (child == 0) {
        struct naru_channel *out = NULL;

        CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_FOREVER, &out), -EPERM);
        CHECK_CONTAINS(naru_explain(), "belongs to another user");
        _exit(0);
    }
    test_join(child);
    close_both(in, l);
}

static int take(struct naru_source *source, uint32_t events, void *data)
{
    struct naru_channel *in = ((void **)data)[0];
    int32_t *sum = ((void **)data)[1], value = 0;
    ssize_t r;

    CHECK_INT(events, NARU_IN);
    while ((r = naru_recv(in, &value, sizeof value, NARU_NOWAIT)) == 4)
        *sum += value;
    CHECK_INT(r, -EAGAIN);
    if (*sum == 5050)
        naru_loop_stop(naru_source_loop(source));
    return 0;
}

TEST(the_receiving_end_lives_on_a_loop)
{
    struct naru_listener *l;
    struct naru_channel *in = receiver("signal:", &l), *out = NULL;
    struct naru_source *source;
    struct naru_loop *loop;
    int32_t sum = 0;
    void *data[2] = {in, &sum};

    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_loop_add_channel(loop, in, take, data, &source), 0);
    CHECK_INT(naru_connect(naru_listener_url(l), NULL, NARU_NOWAIT, &out), 0);
    for (int32_t i = 1; i <= 100; i++)
        CHECK_INT(naru_send(out, &i, sizeof i, NARU_NOWAIT), 0);
    CHECK_INT(naru_loop_run(loop), 0);
    CHECK_INT(sum, 5050);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 0);
    naru_loop_free(loop);
    naru_channel_close(out);
    close_both(in, l);
}
