/* SPDX-License-Identifier: MIT */
/* shm: where descriptors run out, stacks are small, or there is no memory for what wakes; and its rendezvous
 * while processes are killed. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "channel/shm/test-shm.h"
#include "runner-syscalls.h"

enum { DESCRIPTORS = 14 }; /* more than either side needs */

/* Receives one message, which says that the other side came through, and answers. */
static void serve(struct naru_channel *ch)
{
    char text[8];

    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 3);
    CHECK_INT(naru_send(ch, "yes", 3, patience), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, patience), -EPIPE);
}

static void ask(struct naru_channel *ch)
{
    char text[8];

    CHECK_INT(naru_send(ch, "hey", 3, patience), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 3);
}

TEST(a_listener_without_descriptors_says_so_and_keeps_who_came)
{
    struct naru_listener *l = listen_there("?service=manual"); /* which descriptor it is that is missing */
    int refused = 0, pid = test_fork();

    if (pid == 0) {
        for (int i = 0; i < DESCRIPTORS; i++) {
            struct naru_channel *ch = NULL;

            CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
            ask(ch);
            naru_channel_close(ch);
        }
        test_child_end();
    }
    for (size_t i = 0; i < DESCRIPTORS; i++) {
        struct naru_channel *ch = NULL;
        int r;

        test_limit_descriptors(i);
        r = naru_accept(l, patience, &ch);
        test_limit_descriptors(SIZE_MAX);
        CHECK((r == 0 && ch) || (r == -EMFILE && !ch));
        refused += r < 0;
        if (r < 0)
            CHECK_INT(naru_accept(l, patience, &ch), 0);
        serve(ch);
        naru_channel_close(ch);
    }
    CHECK(refused > 3 && refused < DESCRIPTORS);
    test_join(pid);
    naru_listener_close(l);
}

TEST(a_connector_without_descriptors_says_so_and_leaves_nothing)
{
    struct test_gate listening;
    int refused = 0, pid;

    test_gate_init(&listening);
    pid = test_fork();
    if (pid == 0) {
        struct naru_listener *l = listen_there("");
        int served = 0;

        test_gate_open(&listening);
        while (served < DESCRIPTORS) {
            struct naru_channel *ch = NULL;
            char text[8];
            int r;

            CHECK_INT(naru_accept(l, patience, &ch), 0);
            r = (int)naru_recv(ch, text, sizeof text, patience);
            CHECK(r == 3 || r == -EPIPE); /* who had no descriptor for our memory gave up, and said so */
            if (r == 3) {
                CHECK_INT(naru_send(ch, "yes", 3, patience), 0);
                CHECK_INT(naru_recv(ch, text, sizeof text, patience), -EPIPE);
                served++;
            }
            naru_channel_close(ch);
        }
        naru_listener_close(l);
        test_child_end();
    }
    test_gate_wait(&listening);
    for (size_t i = 0; i < DESCRIPTORS; i++) {
        struct naru_channel *ch = NULL;
        int r;

        test_limit_descriptors(i);
        r = naru_connect(url(), NULL, patience, &ch);
        test_limit_descriptors(SIZE_MAX);
        CHECK((r == 0 && ch) || (r == -EMFILE && !ch));
        refused += r < 0;
        if (r < 0)
            CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        ask(ch);
        naru_channel_close(ch);
    }
    CHECK(refused > 3 && refused < DESCRIPTORS);
    test_join(pid);
}

/* --- kills --- */

/* Whoever is killed wherever in the handshake, the other goes on, and the name can be had again. */
TEST(connectors_killed_at_any_time_leave_a_listener_that_serves)
{
    struct naru_listener *l = listen_there("?ring=16k");

    for (int i = 0; i < 60; i++) {
        struct naru_channel *ch = NULL;
        int pid = test_fork();

        if (pid == 0)
            for (;;) {
                CHECK_INT(naru_connect(test_format("%s?ring=16k", url()), NULL, patience, &ch), 0);
                ch = naru_channel_close(ch);
            }
        for (uint64_t accepted = test_random() % 4; accepted > 0; accepted--) {
            CHECK_INT(naru_accept(l, patience, &ch), 0);
            naru_channel_close(ch);
        }
        WAIT_UNTIL(test_is_readable(naru_listener_fd(l)));
        test_kill(pid); /* connected, its HELLO said or not; perhaps answered */
        while (naru_accept(l, NARU_NOWAIT, &ch) == 0) {
            int r = (int)naru_recv(ch, NULL, 0, patience);

            CHECK(r == -EOWNERDEAD || r == -EPIPE);
            ch = naru_channel_close(ch);
        }
    }
    check_still_serves(l);
    naru_listener_close(l);
}

TEST(listeners_killed_at_any_time_are_replaced)
{
    for (int i = 0; i < 30; i++) {
        struct naru_channel *ch = NULL;
        struct naru_listener *l;
        struct test_gate busy;
        int pid;

        test_gate_init(&busy);
        pid = test_fork();
        if (pid == 0) {
            l = listen_there("?ring=16k");
            test_gate_open(&busy);
            for (;;) {
                CHECK_INT(naru_accept(l, patience, &ch), 0);
                ch = naru_channel_close(ch);
            }
        }
        test_gate_wait(&busy);
        for (uint64_t n = test_random() % 3; n > 0; n--) {
            CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
            ch = naru_channel_close(ch);
        }
        test_kill(pid);
        CHECK_INT(naru_connect(url(), NULL, NARU_NOWAIT, &ch), -EAGAIN);
        l = listen_there("");
        check_still_serves(l);
        naru_listener_close(l);
        close(busy.fds[0]);
        close(busy.fds[1]);
    }
}

/* A sender whose kernel has no memory for what wakes, and which does nothing else after that. */
TEST(what_was_sent_is_received_though_no_bell_can_be_rung)
{
    struct naru_channel *ch[2];
    char bytes[8];
    int pid;

    CHECK_INT(naru_channel_pair("shm:?wait=sleep", NULL, ch), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_channel_adopt(ch[0]), 0);
        ch[1] = naru_channel_close(ch[1]);
        test_refuse_call(SYS_sendto, ENOBUFS);
        test_wait_asleep(getppid());
        CHECK_INT(naru_send(ch[0], "message", 8, NARU_FOREVER), 0);
        for (;;)
            (void)pause();
    }
    CHECK_INT(naru_channel_adopt(ch[1]), 0);
    ch[0] = naru_channel_close(ch[0]);
    CHECK_INT(naru_recv(ch[1], bytes, sizeof bytes, NARU_FOREVER), 8);
    CHECK_INT(naru_recv(ch[1], bytes, sizeof bytes, NARU_FOREVER), -EPIPE); /* nobody can wake us any more */
    ch[1] = naru_channel_close(ch[1]);
    test_kill(pid);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* these enlarge every frame */
enum { STACK = 32 * 1024 };

static void *talk(void *argument)
{
    struct naru_listener *l = listen_there("?lanes=3");
    struct naru_channel *near = NULL, *far = NULL, *none = NULL;

    CHECK_INT(naru_connect("shm://nobody-is-there", NULL, NARU_MS(1), &none), -ETIMEDOUT);
    CHECK_INT(naru_connect("shm://nobody-is-there?ring=7", NULL, NARU_MS(1), &none), -EINVAL);
    CHECK_INT(naru_connect(test_format("%s?lanes=3", url()), NULL, patience, &near), 0);
    CHECK_INT(naru_accept(l, patience, &far), 0);
    CHECK_INT(naru_send(near, "hey", 3, patience), 0);
    naru_channel_close(near);
    CHECK_INT(naru_recv(far, NULL, 0, patience), -EMSGSIZE);
    naru_channel_close(far);
    naru_listener_close(l);
    return argument;
}

TEST(a_small_stack_suffices)
{
    pthread_attr_t attributes;
    pthread_t thread;

    CHECK_INT(pthread_attr_init(&attributes), 0);
    CHECK_INT(pthread_attr_setstacksize(&attributes, STACK), 0);
    CHECK_INT(pthread_create(&thread, &attributes, talk, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(pthread_attr_destroy(&attributes), 0);
}
#endif
