/* SPDX-License-Identifier: MIT */
/* Peers that are stopped (SIGSTOP): nobody waits for them longer than it said, and all goes on after SIGCONT.
 */
#include <signal.h>
#include <sys/wait.h>

#include "channel/shm/test-shm.h"

enum { MESSAGE = 1000, MESSAGES = 3000 /* far more than a ring takes */ };

/* A process is stopped when waitpid(2) says so: all of its threads are, then. */
static void stop(int pid)
{
    int status;

    CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
}

static void go_on(int pid)
{
    CHECK(kill(pid, SIGCONT) == 0);
}

static void make_message(int number, char message[MESSAGE])
{
    memset(message, 'a' + number % 26, MESSAGE);
    memcpy(message, &number, sizeof number);
}

static void check_messages(struct naru_channel *ch, int from, int to)
{
    char wanted[MESSAGE], got[MESSAGE];

    for (; from < to; from++) {
        make_message(from, wanted);
        CHECK_INT(naru_recv(ch, got, sizeof got, patience), MESSAGE);
        CHECK(memcmp(got, wanted, MESSAGE) == 0);
    }
}

/* Listens, and receives as many messages. Its keeper is stopped with it. */
static int fork_listener(const char *query, int messages)
{
    struct test_gate listening;
    int pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = listen_there(query);
        struct naru_channel *ch = NULL;

        test_gate_open(&listening);
        CHECK_INT(naru_accept(l, patience, &ch), 0);
        check_messages(ch, 0, messages);
        CHECK_INT(naru_recv(ch, NULL, 0, patience), -EPIPE);
        naru_channel_close(ch);
        naru_listener_close(l);
        test_child_end();
    }
    test_gate_wait(&listening);
    return pid;
}

static const char *const queries[] = {"?wait=adaptive", "?wait=sleep", "?wait=spin", "?service=manual"};

static const char *each_query(size_t index)
{
    return index < sizeof queries / sizeof *queries ? queries[index] : NULL;
}

TEST_EACH(a_stopped_listener_holds_up_nobody_beyond_the_deadline, each_query)
{
    struct naru_channel *ch = NULL, *given_up = NULL;
    char message[MESSAGE];
    int pid = fork_listener(queries[index], 1);

    stop(pid);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &given_up), 0); /* it may answer one day */
    CHECK_INT(naru_connect(url(), NULL, NARU_MS(50), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "stopped");
    CHECK(ch == NULL);
    CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), 0);
    make_message(0, message);
    CHECK_INT(naru_send(ch, message, MESSAGE, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(ch, message, MESSAGE, NARU_MS(50)), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "stopped");
    CHECK(!test_is_readable(naru_channel_fd(ch)));
    naru_channel_close(given_up);
    go_on(pid);
    CHECK_INT(naru_send(ch, message, MESSAGE, patience), 0);
    naru_channel_close(ch);
    test_join(pid);
}

TEST_EACH(a_sender_fills_the_ring_of_a_stopped_receiver_and_goes_on_with_it, each_query)
{
    struct naru_channel *ch = NULL;
    char message[MESSAGE];
    int pid = fork_listener(queries[index], MESSAGES), sent = 0, r;

    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    stop(pid);
    for (;; sent++) {
        CHECK(sent < MESSAGES);
        make_message(sent, message);
        r = naru_send(ch, message, MESSAGE, NARU_NOWAIT);
        if (r < 0)
            break;
    }
    CHECK_INT(r, -EAGAIN);
    CHECK(sent > 100);
    CHECK_INT(naru_send(ch, message, MESSAGE, NARU_MS(30)), -ETIMEDOUT);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_MS(30)), -ETIMEDOUT);
    go_on(pid);
    for (; sent < MESSAGES; sent++) {
        make_message(sent, message);
        CHECK_INT(naru_send(ch, message, MESSAGE, patience), 0);
    }
    CHECK_INT(naru_flush(ch, NARU_TAKEN, patience), 0);
    naru_channel_close(ch);
    test_join(pid);
}

/* It sleeps when it is stopped, its ticket in its page: the byte that wakes it waits for it. */
TEST_EACH(a_receiver_that_is_stopped_asleep_is_woken_when_it_goes_on, each_query)
{
    struct naru_channel *ch = NULL;
    char message[MESSAGE];
    int pid = fork_listener(queries[index], 3);

    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    if (index != 2)
        test_wait_asleep(pid);
    stop(pid);
    for (int i = 0; i < 3; i++) {
        make_message(i, message);
        CHECK_INT(naru_send(ch, message, MESSAGE, NARU_NOWAIT), 0);
    }
    go_on(pid);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, patience), 0);
    naru_channel_close(ch);
    test_join(pid);
}

TEST(a_stopped_receiver_that_is_killed_is_told)
{
    struct naru_channel *ch = NULL;
    char message[MESSAGE];
    int pid = fork_listener("", MESSAGES), r;

    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    stop(pid);
    make_message(0, message);
    while ((r = naru_send(ch, message, MESSAGE, NARU_NOWAIT)) == 0)
        ;
    CHECK_INT(r, -EAGAIN);
    test_kill(pid);
    CHECK_INT(naru_send(ch, message, MESSAGE, patience), -EOWNERDEAD);
    naru_channel_close(ch);
    CHECK_INT(naru_remove(url()), 0);
}
