/* SPDX-License-Identifier: MIT */
/*
 * shm+posix: and shm+sysv:, beyond what the conformance suite asks of every mechanism: who has the name, and
 * who is alive. test-shm-named-ground.c has what may be in the way, test-shm-named-next.c what is in that of
 * the next segment, test-shm-named-hostile.c peers that write what they like.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/shm/test-shm-named.h"

static const char *const urls[] = {"shm+posix:/named", "shm+sysv:0x6e616d65"};

static const char *each_kind(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

/* --- who has the name --- */

TEST_EACH(connecting_does_not_wait_for_accept_but_only_one_is_ahead, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *first = connect_to(urls[index]), *second = NULL, *near;

    CHECK_INT(naru_send(first, "early", 6, NARU_NOWAIT), 0);
    CHECK_INT(naru_connect(urls[index], NULL, NARU_NOWAIT, &second), -EAGAIN);
    CHECK_INT(naru_connect(urls[index], NULL, NARU_MS(20), &second), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "not accepted the one before");
    near = accept_from(l);
    second = connect_to(urls[index]);
    naru_channel_close(first);
    {
        char text[8];

        CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
        CHECK_INT(naru_recv(near, text, sizeof text, patience), -EPIPE);
    }
    naru_channel_close(near);
    near = accept_from(l);
    check_carries(second, near);
    naru_channel_close(near);
    naru_channel_close(second);
    naru_listener_close(l);
}

TEST_EACH(a_connection_outlives_its_listener_and_the_next_listener_has_the_name, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = connect_to(urls[index]), *near = accept_from(l);

    naru_listener_close(l);
    CHECK_INT(naru_remove(urls[index]), -ENOENT);
    check_serves(urls[index]);
    check_carries(far, near);
    check_carries(near, far);
    naru_channel_close(far);
    naru_channel_close(near);
}

TEST_EACH(whoever_was_not_accepted_is_told_when_the_listener_closes, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = connect_to(urls[index]);
    char byte;

    naru_listener_close(l);
    CHECK_INT(naru_recv(far, &byte, 1, patience), -EPIPE);
    CHECK_INT(naru_send(far, "x", 1, NARU_NOWAIT), -EPIPE);
    naru_channel_close(far);
}

/* A process that listens, accepts if told to, tells the gate, and is there until it is killed. */
static int fork_listener(const char *url, bool accepts, struct test_gate *gate)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_listener *l = listen_at(url);

        test_gate_open(gate);
        if (accepts) {
            (void)accept_from(l);
            test_gate_open(gate);
        }
        pause();
    }
    test_gate_wait(gate);
    return pid;
}

TEST_EACH(what_a_killed_listener_left_is_reclaimed, each_kind)
{
    struct naru_channel *ch = NULL;
    struct test_gate gate;
    int listener;

    test_gate_init(&gate);
    listener = fork_listener(urls[index], false, &gate);
    {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen(urls[index], NULL, &l), -EADDRINUSE);
        CHECK_INT(naru_remove(urls[index]), -EBUSY);
    }
    test_kill(listener);
    CHECK_INT(naru_connect(urls[index], NULL, NARU_NOWAIT, &ch), -EAGAIN);
    check_serves(urls[index]);
    listener = fork_listener(urls[index], false, &gate);
    test_kill(listener);
    CHECK_INT(naru_remove(urls[index]), 0);
    CHECK_INT(naru_remove(urls[index]), -ENOENT);
}

TEST_EACH(whoever_waits_to_be_accepted_learns_that_the_listener_was_killed, each_kind)
{
    struct naru_channel *ch;
    struct test_gate gate;
    char byte;
    int listener;

    test_gate_init(&gate);
    listener = fork_listener(urls[index], false, &gate);
    ch = connect_to(urls[index]);
    test_kill(listener);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_FOREVER), -EOWNERDEAD);
    check_serves(urls[index]);
    naru_channel_close(ch);
}

TEST_EACH(a_connector_that_was_killed_before_it_was_accepted_is_still_heard, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *near;
    char text[8];
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(naru_send(connect_to(urls[index]), "words", 6, NARU_NOWAIT), 0);
        kill(getpid(), SIGKILL);
    }
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    near = accept_from(l);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    CHECK_STR(text, "words");
    CHECK_INT(naru_recv(near, text, sizeof text, patience), -EOWNERDEAD);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* What holds a seat is neither a mapping, which the child has, nor a number. */
TEST_EACH(a_child_that_goes_on_does_not_keep_its_parent_alive, each_kind)
{
    int *child = test_shared(sizeof *child);
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *near;
    struct test_gate gate;
    char byte;
    int parent;

    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    test_gate_init(&gate);
    parent = test_fork();
    if (parent == 0) {
        struct naru_channel *far = connect_to(urls[index]);

        if (test_fork() == 0) {
            *child = getpid();
            CHECK_INT(naru_send(far, "x", 1, NARU_NOWAIT), -ECHILD);
            test_gate_open(&gate);
        }
        pause();
    }
    near = accept_from(l);
    test_gate_wait(&gate);
    test_kill(parent);
    CHECK_INT(naru_recv(near, &byte, 1, NARU_FOREVER), -EOWNERDEAD);
    test_kill(*child);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST_EACH(a_child_that_adopts_a_channel_is_alive_after_its_parent, each_kind)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *near;
    struct test_gate adopted, go;
    char text[8];
    int parent;

    options.keep_on_fork = true;
    test_gate_init(&adopted);
    test_gate_init(&go);
    parent = test_fork();
    if (parent == 0) {
        struct naru_channel *far = NULL;
        int child;

        CHECK_INT(naru_connect(urls[index], &options, patience, &far), 0);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK_INT(naru_channel_adopt(far), 0);
            test_gate_open(&adopted);
            test_gate_wait(&go);
            CHECK_INT(naru_send(far, "child", 6, patience), 0);
            _exit(0);
        }
        pause();
    }
    near = accept_from(l);
    test_gate_wait(&adopted);
    test_kill(parent);
    CHECK_INT(naru_recv(near, text, sizeof text, NARU_MS(50)), -ETIMEDOUT);
    test_gate_open(&go);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), -EOWNERDEAD); /* it did not close */
    naru_channel_close(near);
    naru_listener_close(l);
}

/* A lock is inherited and a semaphore's undoing is not. */
TEST_EACH(a_child_that_adopts_a_channel_too_late_is_told, each_kind)
{
    const bool late = strstr(urls[index], "sysv") != NULL;
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = NULL, *near;
    struct test_gate go;
    char text[8];
    int child;

    options.keep_on_fork = true;
    CHECK_INT(naru_connect(urls[index], &options, patience, &far), 0);
    near = accept_from(l);
    CHECK_INT(naru_send(near, "first", 6, patience), 0);
    test_gate_init(&go);
    child = test_fork();
    if (child == 0) {
        test_gate_wait(&go);
        CHECK_INT(naru_channel_adopt(far), late ? -EOWNERDEAD : 0);
        if (late)
            CHECK_CONTAINS(naru_explain(), "before it was adopted");
        CHECK_INT(naru_send(far, "child", 6, patience), late ? -EOWNERDEAD : 0);
        CHECK_INT(naru_recv(far, text, sizeof text, patience), 6);
        CHECK_STR(text, "first");
        if (late)
            CHECK_INT(naru_recv(far, text, sizeof text, patience), -EOWNERDEAD);
        naru_channel_close(far);
        test_child_end();
    }
    naru_channel_close(far);
    test_gate_open(&go);
    if (!late)
        CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), -EOWNERDEAD); /* nobody can count the copies */
    test_join(child);
    naru_channel_close(near);
    naru_listener_close(l);
    check_serves(urls[index]);
}

/* The seats of System V are given to others then. */
TEST_EACH(a_child_that_adopts_what_is_over_takes_nobodys_seat, each_kind)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = NULL, *near;
    struct test_gate go;
    char text[8];
    int child;

    options.keep_on_fork = true;
    CHECK_INT(naru_connect(urls[index], &options, patience, &far), 0);
    near = accept_from(l);
    CHECK_INT(naru_send(near, "last", 5, patience), 0);
    test_gate_init(&go);
    child = test_fork();
    if (child == 0) {
        test_gate_wait(&go);
        CHECK_INT(naru_channel_adopt(far), 0);
        CHECK_INT(naru_recv(far, text, sizeof text, patience), 5);
        CHECK_INT(naru_recv(far, text, sizeof text, patience), -EPIPE);
        naru_channel_close(far);
        test_child_end();
    }
    naru_channel_close(far);
    naru_channel_close(near);
    far = connect_to(urls[index]);
    near = accept_from(l);
    test_gate_open(&go);
    test_join(child);
    CHECK_INT(naru_recv(near, text, sizeof text, NARU_MS(50)), -ETIMEDOUT); /* it lives */
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- what is said --- */

struct pose {
    double x, y;
};

TEST_EACH(payloads_of_another_type_are_refused, each_kind)
{
    struct naru_options pose = NARU_INIT(struct naru_options), other = NARU_INIT(struct naru_options);
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    pose.type = (struct naru_type)NARU_TYPE(struct pose, 1);
    other.type = (struct naru_type)NARU_TYPE(struct pose, 2);
    CHECK_INT(naru_listen(urls[index], &pose, &l), 0);
    CHECK_INT(naru_connect(urls[index], &other, patience, &ch), -EPROTOTYPE);
    CHECK_CONTAINS(naru_explain(), "struct pose version 2");
    CHECK_CONTAINS(naru_explain(), "struct pose version 1");
    CHECK_INT(naru_connect(urls[index], &pose, patience, &ch), 0);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST_EACH(a_message_larger_than_half_the_ring_is_refused_with_the_mend, each_kind)
{
    static char large[256 * 1024];
    struct naru_listener *l = NULL;
    struct naru_channel *far, *near;

    CHECK_INT(naru_listen(test_format("%s?ring=64k", urls[index]), NULL, &l), 0);
    far = connect_to(urls[index]);
    near = accept_from(l);
    CHECK_INT(naru_send(far, large, 40 * 1024, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "?ring=");
    CHECK_INT(naru_send(far, large, 32 * 1024 - 16, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(near, large, sizeof large, NARU_NOWAIT), 32 * 1024 - 16);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* Loans and views lie in the segment; a view keeps it mapped. */
TEST_EACH(nothing_is_copied_and_views_outlive_the_channel, each_kind)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = connect_to(urls[index]), *near = accept_from(l);

    CHECK_INT(naru_loan(far, 1000, NARU_NOWAIT, &loan), 0);
    memset(loan.data, 'v', 1000);
    CHECK_INT(naru_commit(&loan, 1000, NULL), 0);
    CHECK_INT(naru_borrow(near, NARU_NOWAIT, &view), 0);
    CHECK_INT(view.length, 1000);
    naru_channel_close(far);
    naru_channel_close(near);
    far = connect_to(urls[index]); /* in memory of its own */
    near = accept_from(l);
    check_carries(far, near);
    for (size_t i = 0; i < view.length; i++)
        CHECK(((const char *)view.data)[i] == 'v');
    naru_release(&view);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* --- namespaces --- */

/* A peer of a pid namespace of its own, whose numbers mean nothing here. */
TEST_EACH(a_peer_in_another_pid_namespace_is_seen_to_live_and_to_die, each_kind)
{
    struct naru_listener *l;
    struct naru_channel *near;
    char text[8];
    int outer = fork(), status;

    if (outer == 0)
        _exit(unshare(CLONE_NEWPID) == 0 ? 0 : 77);
    CHECK(waitpid(outer, &status, 0) == outer);
    if (WEXITSTATUS(status) != 0)
        test_skip("no right to make namespaces");
    l = listen_at(urls[index]);
    outer = test_fork();
    if (outer == 0) {
        int inner;

        CHECK(unshare(CLONE_NEWPID) == 0);
        inner = test_fork();
        if (inner == 0) {
            CHECK_INT(naru_send(connect_to(urls[index]), "inside", 7, NARU_NOWAIT), 0);
            pause();
        }
        CHECK(waitpid(inner, NULL, 0) == inner);
        _exit(0);
    }
    near = accept_from(l);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 7);
    CHECK_INT(naru_recv(near, text, sizeof text, NARU_MS(50)), -ETIMEDOUT); /* it lives */
    {
        char path[64];
        int inner = 0;
        FILE *file;

        (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", outer, outer);
        file = fopen(path, "re");
        CHECK(file != NULL && fscanf(file, "%d", &inner) == 1);
        fclose(file);
        CHECK(kill(inner, SIGKILL) == 0);
    }
    CHECK_INT(naru_recv(near, text, sizeof text, NARU_FOREVER), -EOWNERDEAD);
    test_join(outer);
    naru_channel_close(near);
    naru_listener_close(l);
}
