/* SPDX-License-Identifier: MIT */
/*
 * Peers in other namespaces, as in containers: PIDs mean nothing there, paths are elsewhere, users have other
 * numbers. What they share is a socket, and the kernel's word on who closed it.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "channel/shm/test-shm.h"

static bool can_unshare(int flags)
{
    int pid = fork(), status;

    if (pid == 0)
        _exit(unshare(flags) == 0 ? 0 : 77);
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* *ret_inner: the process inside, as seen from here. Returns 0 in it; here, the one around it, which ends as
 * that one does, or with 0 if it was killed. */
static int fork_into(int flags, int *ret_inner)
{
    int *shared = test_shared(sizeof *shared), pid;
    struct test_gate made;

    if (!can_unshare(flags))
        test_skip("no right to make namespaces");
    test_gate_init(&made);
    pid = test_fork();
    if (pid == 0) {
        int inner, status;

        CHECK(unshare(flags) == 0);
        inner = test_fork();
        if (inner == 0)
            return 0;
        *shared = inner; /* as seen from here: CLONE_NEWPID is for children only */
        test_gate_open(&made);
        CHECK(waitpid(inner, &status, 0) == inner);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    }
    test_gate_wait(&made);
    *ret_inner = *shared;
    return pid;
}

static void check_peer(struct naru_channel *ch, int64_t pid, int64_t uid)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    CHECK_INT(info.peer.pid, pid);
    CHECK_INT(info.peer.uid, uid);
}

static void talk(struct naru_channel *ch)
{
    char text[8];

    CHECK_INT(naru_send(ch, "there", 5, patience), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 4);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, patience), 0);
}

static void answer(struct naru_channel *ch)
{
    char text[8];

    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 5);
    CHECK_INT(naru_send(ch, "back", 4, patience), 0);
}

/* --- PIDs --- */

static const struct {
    const char *label;
    int flags;
} spaces[] = {
    {"pid", CLONE_NEWPID},
    {"pid, mount", CLONE_NEWPID | CLONE_NEWNS},
    {"pid, mount, ipc, uts", CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS},
    {"pid, mount, user", CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUSER},
};

static const char *each_space(size_t index)
{
    return index < sizeof spaces / sizeof *spaces ? spaces[index].label : NULL;
}

/* Whoever looks out of a namespace of PIDs has no number for those outside; those see the ones inside. A user
 * that a namespace does not map has the number of nobody in it: user_namespaces(7). */
static int64_t uid_seen(size_t index)
{
    return spaces[index].flags & CLONE_NEWUSER ? 65534 : geteuid();
}

TEST_EACH(a_connector_in_other_namespaces_is_served_and_its_death_is_seen, each_space)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int inner = 0, pid;

    pid = fork_into(spaces[index].flags, &inner);
    if (pid == 0) {
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        check_peer(ch, -1, uid_seen(index));
        talk(ch);
        pause();
    }
    l = listen_there("");
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    check_peer(ch, inner, geteuid());
    answer(ch);
    CHECK(kill(inner, SIGKILL) == 0);
    CHECK_INT(naru_recv(ch, NULL, 0, patience), -EOWNERDEAD);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST_EACH(a_listener_in_other_namespaces_serves_and_its_death_is_seen, each_space)
{
    struct naru_channel *ch = NULL;
    int inner = 0, pid;

    pid = fork_into(spaces[index].flags, &inner);
    if (pid == 0) {
        struct naru_listener *l = listen_there("");

        CHECK_INT(naru_accept(l, patience, &ch), 0);
        check_peer(ch, -1, uid_seen(index));
        answer(ch);
        pause();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    check_peer(ch, inner, geteuid());
    talk(ch);
    CHECK(kill(inner, SIGKILL) == 0);
    CHECK_INT(naru_recv(ch, NULL, 0, patience), -EOWNERDEAD);
    test_join(pid);
    naru_channel_close(ch);
    CHECK_INT(naru_remove(url()), 0);
}

/* A lock on a path is one for all namespaces that reach it: the listener is not taken over. */
TEST(a_name_is_not_taken_from_a_listener_in_another_namespace)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int inner = 0, pid = fork_into(CLONE_NEWPID, &inner);

    if (pid == 0) {
        l = listen_there("");
        CHECK_INT(naru_accept(l, patience, &ch), 0);
        pause();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    CHECK_INT(naru_listen(url(), NULL, &l), -EADDRINUSE);
    CHECK(kill(inner, SIGKILL) == 0);
    test_join(pid);
    CHECK_INT(naru_listen(url(), NULL, &l), 0);
    naru_channel_close(ch);
    naru_listener_close(l);
}

/* --- paths and names --- */

TEST(a_directory_that_is_mounted_elsewhere_leads_to_the_same_listener)
{
    const char *shared = test_format("%s/shared", test_directory());
    const char *elsewhere = test_format("%s/elsewhere", test_directory());
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int inner = 0, pid;

    CHECK(mkdir(shared, 0700) == 0 && mkdir(elsewhere, 0700) == 0);
    pid = fork_into(CLONE_NEWNS, &inner);
    if (pid == 0) {
        CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        CHECK(mount(shared, elsewhere, NULL, MS_BIND, NULL) == 0);
        CHECK(mount("naru-test", shared, "tmpfs", 0, NULL) == 0); /* the old name leads to nothing */
        CHECK_INT(naru_connect(test_format("shm://%s/s", shared), NULL, NARU_MS(10), &ch), -ETIMEDOUT);
        CHECK_INT(naru_connect(test_format("shm://%s/s", elsewhere), NULL, patience, &ch), 0);
        talk(ch);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(naru_listen(test_format("shm://%s/s", shared), NULL, &l), 0);
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    answer(ch);
    CHECK_INT(naru_recv(ch, NULL, 0, patience), -EPIPE);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(l);
}

/* Abstract names belong to the network namespace: unix(7). Paths do not. */
TEST(an_abstract_name_reaches_as_far_as_the_network_namespace)
{
    const char *name = test_format("shm:@naru%s", test_directory());
    struct naru_listener *abstract = NULL, *l = NULL;
    struct naru_channel *ch = NULL;
    int inner = 0, pid = fork_into(CLONE_NEWPID | CLONE_NEWNS, &inner);

    if (pid == 0) { /* in the same */
        CHECK_INT(naru_connect(name, NULL, patience, &ch), 0);
        talk(ch);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(naru_listen(name, NULL, &abstract), 0);
    CHECK_INT(naru_accept(abstract, patience, &ch), 0);
    answer(ch);
    test_join(pid);
    ch = naru_channel_close(ch);

    l = listen_there("");
    pid = fork_into(CLONE_NEWNET, &inner);
    if (pid == 0) {
        CHECK_INT(naru_connect(name, NULL, NARU_MS(10), &ch), -ETIMEDOUT);
        CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
        talk(ch);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    answer(ch);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(l);
    naru_listener_close(abstract);
}

/* The semaphores by which the ends of shm+sysv: know of each other. */
static int leave_ipc(void)
{
    return unshare(CLONE_NEWIPC);
}

static int leave_undo(void)
{
    return unshare(CLONE_SYSVSEM);
}

static int be_nobody(void)
{
    return setuid(65534);
}

static const struct {
    const char *name, *query;
    int (*leave)(void);
    bool knows, is_known; /* whether it still knows of its peer, and its peer of it */
} departures[] = {{"to another IPC namespace", "", leave_ipc, false, false},
                  {"from SEM_UNDO", "", leave_undo, true, false},
                  {"to another user", "", be_nobody, false, true},
                  {"to another user whom the mode lets", "?mode=0666", be_nobody, true, true}};

static const char *each_departure(size_t index)
{
    return index < sizeof departures / sizeof *departures ? departures[index].name : NULL;
}

/* docs/shared-memory.md says so. */
TEST_EACH(an_end_of_sysv_that_leaves_its_semaphores_leaves_its_peer, each_departure)
{
    const char *url =
        test_format("shm+sysv:0x4e41%04x%s", (unsigned)getpid() & 0xffff, departures[index].query);
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    struct test_gate gone, known;
    char byte;
    int pid;

    test_need_root();
    if (!can_unshare(CLONE_NEWIPC))
        test_skip("no right to make namespaces");
    test_gate_init(&gone);
    test_gate_init(&known);
    CHECK_INT(naru_listen(url, NULL, &l), 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_connect(url, NULL, patience, &ch), 0);
        CHECK_INT(naru_recv(ch, &byte, 1, patience), 1);
        CHECK_INT(departures[index].leave(), 0);
        if (departures[index].knows)
            CHECK_INT(naru_recv(ch, &byte, 1, NARU_MS(50)), -ETIMEDOUT);
        else
            CHECK_INT(naru_recv(ch, &byte, 1, patience), -EOWNERDEAD);
        test_gate_open(&gone);
        test_gate_wait(&known);
        test_child_end(); /* without closing */
    }
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    test_gate_wait(&gone);
    if (departures[index].is_known) {
        CHECK_INT(naru_recv(ch, &byte, 1, NARU_MS(50)), -ETIMEDOUT);
        test_gate_open(&known);
    }
    CHECK_INT(naru_recv(ch, &byte, 1, patience), -EOWNERDEAD);
    if (!departures[index].is_known)
        test_gate_open(&known);
    test_join(pid);
    naru_channel_close(ch);
    naru_listener_close(l);
}
