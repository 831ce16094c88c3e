/* SPDX-License-Identifier: MIT */
/*
 * What somebody else does at any instant of a meeting.
 *
 * A listener that lets nobody new in loses nobody who believes himself in. A connector is stopped at each of
 * its stores to shared memory and at each of its system calls, and the listener is finished just then:
 * whoever is told that he has connected is accepted, and what he then sends arrives. The window between a
 * last look and the store that joins is some instructions wide: a test that leaves it to chance does not come
 * upon it.
 *
 * A plain program that sends to a listener's socket is told that nobody received it, whenever it sends: a
 * listener is stopped at each of its system calls meanwhile.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"
#include "tracee.h"

static const char *const urls[] = {"shm+posix:/naru-test?ring=4k", "shm+sysv:0x4d3?ring=4k"};

static const char *each_kind(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

enum { SENT = 42, NOT_CONNECTED = 43 };

static int fork_connector(const char *url)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch;
        int r;

        tracee_begin();
        r = naru_connect(url, NULL, NARU_NOWAIT, &ch);
        if (r == 0)
            CHECK_INT(naru_send(ch, "x", 1, NARU_NOWAIT), 0);
        else
            CHECK_INT(r, -EAGAIN);
        _exit(r == 0 ? SENT : NOT_CONNECTED); /* and closes nothing by itself */
    }
    return pid;
}

/* Lets the event happen that has been told. false: it has ended. */
static bool pass(struct tracee *t, const struct event *event)
{
    enum call_state state;

    if (event->kind == EVENT_STORE) {
        while (!tracee_store(t))
            ;
        return true;
    }
    CHECK(event->kind == EVENT_CALL);
    tracee_call(t);
    while ((state = tracee_call_state(t)) == CALL_RUNS)
        (void)sched_yield();
    CHECK(state != CALL_SLEEPS);
    return state == CALL_DONE;
}

/* Up to that event, which has not happened yet. false: it has ended before. */
static bool run_to(struct tracee *t, size_t number, struct event *ret_event)
{
    for (size_t i = 0;; i++) {
        tracee_next(t, ret_event);
        if (i == number)
            return true;
        if (!pass(t, ret_event))
            return false;
    }
}

static void run_to_the_end(struct tracee *t, const struct event *at)
{
    struct event event = *at;

    while (pass(t, &event))
        tracee_next(t, &event);
}

TEST_EACH(whoever_has_connected_is_accepted_at_whichever_instant_the_listener_is_finished, each_kind)
{
    const char *missing = tracee_unsupported();
    size_t connected = 0, refused = 0;
    bool more = true;

    if (missing)
        test_skip("%s", missing);
    for (size_t number = 0; more; number++) {
        struct naru_channel *ch = NULL;
        struct naru_listener *l;
        struct tracee tracee;
        struct event event;
        int accepted;

        CHECK_INT(naru_listen(urls[index], NULL, &l), 0);
        tracee_take(&tracee, fork_connector(urls[index]), true);
        more = run_to(&tracee, number, &event);
        CHECK_INT(naru_listener_finish(l), 0);
        accepted = naru_accept(l, NARU_NOWAIT, &ch);
        if (more)
            run_to_the_end(&tracee, &event);
        CHECK(WIFEXITED(tracee.status));
        if (WEXITSTATUS(tracee.status) == SENT) {
            char byte;

            if (accepted != 0)
                test_fail(__FILE__, __LINE__,
                          "lost: finished before event %zu, its connector has sent all the same", number);
            CHECK_INT(naru_recv(ch, &byte, 1, NARU_S(60)), 1);
            connected++;
        } else {
            CHECK_INT(WEXITSTATUS(tracee.status), NOT_CONNECTED);
            CHECK_INT(accepted, -ENOTCONN);
            refused++;
        }
        (void)naru_channel_close(ch);
        (void)naru_listener_close(l);
    }
    test_note("finished before %zu events of a connector: %zu times it was refused, %zu times accepted",
              connected + refused, refused, connected);
    CHECK(connected > 1 && refused > 1);
}

/* --- at any instant of a listener --- */

static int fork_listener(const char *url, struct test_gate *listens, struct test_gate *connected)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_listener *l;

        CHECK_INT(naru_listen(url, NULL, &l), 0);
        test_gate_open(listens);
        test_gate_wait(connected);
        tracee_begin();
        for (int i = 0; i < 2; i++) /* the second finds what came too late for the first */
            CHECK_INT(naru_listener_dispatch(l), 0);
        _exit(0);
    }
    return pid;
}

static int connect_plainly(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path + 1, name, strlen(name));
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, length) == 0);
    return fd;
}

TEST(a_plain_sender_is_told_at_whichever_instant_it_sends)
{
    const char *missing = tracee_unsupported(), *name = test_format("naru-doors-%d", (int)getpid()),
               *url = test_format("shm:@%s?service=manual", name);
    struct test_gate listens, connected;
    bool more = true;
    size_t number;

    if (missing)
        test_skip("%s", missing);
    test_gate_init(&listens);
    test_gate_init(&connected);
    for (number = 0; more; number++) {
        int pid = fork_listener(url, &listens, &connected), fd, code;
        struct tracee tracee;
        struct event event;
        char answer[256];
        ssize_t n;

        test_gate_wait(&listens);
        fd = connect_plainly(name);
        test_gate_open(&connected);
        tracee_take(&tracee, pid, false);
        more = run_to(&tracee, number, &event);
        n = send(fd, "hello", 5, MSG_NOSIGNAL);
        code = errno;
        if (more)
            run_to_the_end(&tracee, &event);
        CHECK(WIFEXITED(tracee.status));
        if (n < 0)
            CHECK_INT(code, EPIPE); /* it has ended, or the time for a HELLO was up */
        else if ((n = recv(fd, answer, sizeof answer, 0)) < 0)
            CHECK_INT(errno, ECONNRESET);
        else
            test_fail(__FILE__, __LINE__, "sent before event %zu, it was taken: an answer of %zd bytes",
                      number, n);
        CHECK_INT(close(fd), 0);
    }
    test_note("sent before each of %zu events of a listener", number - 1);
    CHECK(number > 10);
}
