/* SPDX-License-Identifier: MIT */
/* shm+posix: and shm+sysv: where something is in the way: other objects of that name, a lack of room, limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/shm/test-shm-named.h"

enum { KEY = 0x6e616d65 };

static const char *const urls[] = {"shm+posix:/named", "shm+sysv:0x6e616d65"};

static const char *each_kind(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

static bool is_posix(size_t index)
{
    return index == 0;
}

static void put_something_else(size_t index)
{
    if (is_posix(index)) {
        int fd = open("/dev/shm/named", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        CHECK(fd >= 0 && ftruncate(fd, 16384) == 0);
        close(fd);
    } else {
        CHECK(shmget(KEY, 16384, IPC_CREAT | IPC_EXCL | 0600) >= 0);
    }
}

TEST_EACH(other_shared_memory_of_that_name_is_left_alone, each_kind)
{
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;

    put_something_else(index);
    CHECK_INT(naru_listen(urls[index], NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "no channel of naru's");
    CHECK_INT(naru_connect(urls[index], NULL, patience, &ch), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "no channel of naru's");
    CHECK_INT(naru_remove(urls[index]), -EEXIST);
    CHECK_INT(naru_segment_remove(urls[index]), 0); /* it is there */
    check_serves(urls[index]);
}

TEST(other_semaphores_with_that_key_are_left_alone)
{
    struct naru_listener *l = NULL;
    int set = semget(KEY, 1, IPC_CREAT | IPC_EXCL | 0600);

    CHECK(set >= 0);
    CHECK_INT(naru_listen(urls[1], NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "semaphores with this key");
    CHECK(semctl(set, 0, IPC_RMID) == 0);
    set = semget(KEY, 200, IPC_CREAT | IPC_EXCL | 0600);
    for (int first = 0; first < 2; first++) { /* 1: as a lock that is free */
        CHECK(semctl(set, 0, SETVAL, first) == 0);
        CHECK_INT(naru_listen(urls[1], NULL, &l), -EEXIST);
        CHECK_INT(naru_remove(urls[1]), -EEXIST);
        CHECK_INT(semctl(set, 0, GETVAL), first); /* it is there */
        CHECK_INT(semctl(set, 1, GETVAL), 0);
    }
    CHECK(semctl(set, 0, IPC_RMID) == 0);
    check_serves(urls[1]);
}

/* Listens, and is killed as if it was about to have a segment, or had it and not filled it in. */
static void die_making(bool with_segment)
{
    enum { MAKING = 2 }; /* as in sysv.c */
    struct naru_listener *l = NULL;
    int set;

    if (naru_listen(urls[1], NULL, &l) < 0)
        _exit(1);
    set = semget(KEY, 0, 0);
    if (semctl(set, MAKING, SETVAL, 1) < 0)
        _exit(1);
    if (!with_segment && shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL) < 0)
        _exit(1);
    (void)raise(SIGKILL);
}

TEST(of_a_listener_that_was_killed_while_it_made_a_segment_nothing_stays)
{
    for (int with_segment = 0; with_segment < 2; with_segment++) {
        int status = 0;
        pid_t child = fork();

        CHECK(child >= 0);
        if (child == 0)
            die_making(with_segment);
        CHECK_INT(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK(semget(KEY, 0, 0) >= 0);
        CHECK_INT(naru_remove(urls[1]), 0);
        CHECK(semget(KEY, 0, 0) < 0 && shmget(KEY, 0, 0) < 0);
        CHECK_INT(naru_remove(urls[1]), -ENOENT);
        check_serves(urls[1]);
    }
}

TEST_EACH(a_name_that_is_removed_ends_accepting_and_not_what_goes_on, each_kind)
{
    struct naru_listener *l = listen_at(urls[index]);
    struct naru_channel *far = connect_to(urls[index]), *near = accept_from(l), *other = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &other), -EAGAIN);
    CHECK_INT(naru_segment_remove(urls[index]), 0);
    CHECK_INT(naru_accept(l, patience, &other), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "listen again");
    check_carries(far, near);
    naru_listener_close(l);
    check_serves(urls[index]);
    naru_channel_close(far);
    naru_channel_close(near);
}

TEST(a_name_that_another_has_taken_stays_his)
{
    struct naru_listener *before = listen_at(urls[0]), *after;
    struct naru_channel *far = connect_to(urls[0]), *near, *other = NULL;

    CHECK_INT(naru_segment_remove(urls[0]), 0);
    after = listen_at(urls[0]);
    near = accept_from(before); /* who came while the name was its own */
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    CHECK_INT(naru_accept(before, patience, &other), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "removed or replaced, so that nobody can connect here any more; listen");
    far = connect_to(urls[0]);
    near = accept_from(after);
    check_carries(far, near);
    naru_listener_close(before);
    naru_channel_close(far);
    naru_channel_close(near);
    far = connect_to(urls[0]); /* the end of the one before takes nothing from it */
    near = accept_from(after);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(after);
}

TEST(a_name_that_only_was_removed_is_taken_again_at_the_next_accept)
{
    struct naru_listener *l = listen_at(urls[0]);
    struct naru_channel *far = connect_to(urls[0]), *near;

    CHECK_INT(naru_segment_remove(urls[0]), 0);
    near = accept_from(l);
    naru_channel_close(far);
    naru_channel_close(near);
    far = connect_to(urls[0]);
    near = accept_from(l);
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

/* The same names as those of plain shared memory, which listed names may be of. */
TEST(a_name_may_begin_with_a_dot)
{
    struct naru_segment *segment = NULL;
    struct naru_listener *l = NULL;

    check_serves("shm+posix:/.hidden");
    CHECK_INT(symlink("/dev/null", "/dev/shm/.hidden"), 0);
    CHECK_INT(naru_listen("shm+posix:/.hidden", NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "/dev/shm/.hidden is in the way");
    CHECK_INT(unlink("/dev/shm/.hidden"), 0);
    CHECK_INT(naru_segment_open("shm+posix:/.hidden?unlink", 4096, NULL, &segment), 0);
    naru_segment_close(segment);
}

enum { CONTENDERS = 4, CONTESTS = 200 };

/* Several listen, connect to whoever does, and accept, at a name that is removed again and again: who listens
 * is alone in that, or learns of it. */
TEST(of_those_who_take_a_name_from_each_other_each_ends_whole)
{
    int pids[CONTENDERS];

    for (int i = 0; i < CONTENDERS; i++) {
        pids[i] = test_fork();
        if (pids[i] > 0)
            continue;
        for (int contest = 0; contest < CONTESTS; contest++) {
            struct naru_listener *l = NULL;
            struct naru_channel *far = NULL, *near = NULL;
            int r = naru_listen(urls[0], NULL, &l);

            CHECK(r == 0 || r == -EADDRINUSE || r == -ENOENT || r == -EAGAIN);
            if (contest % 3 == 0)
                (void)unlink("/dev/shm/named");
            if (naru_connect(urls[0], NULL, NARU_NOWAIT, &far) < 0)
                far = NULL;
            if (l && contest % 3 == 1)
                (void)unlink("/dev/shm/named");
            r = l ? naru_accept(l, NARU_NOWAIT, &near) : -EAGAIN;
            CHECK(r == 0 || r == -EAGAIN || r == -ENOENT);
            naru_channel_close(far);
            naru_channel_close(near);
            naru_listener_close(l);
        }
        test_child_end();
    }
    for (int i = 0; i < CONTENDERS; i++)
        test_join(pids[i]);
    CHECK(unlink("/dev/shm/named") == 0 || errno == ENOENT);
    check_serves(urls[0]);
}

TEST(a_full_dev_shm_is_said_at_the_opening)
{
    struct naru_listener *l = NULL;
    struct naru_channel *far, *near = NULL;
    int fd;

    if (mount("small", "/dev/shm", "tmpfs", 0, "size=400k") < 0)
        test_skip("no right to mount");
    CHECK_INT(naru_listen(urls[0], NULL, &l), -ENOSPC);
    CHECK_CONTAINS(naru_explain(), "/dev/shm");
    CHECK_INT(naru_listen("shm+posix:/named?ring=64k", NULL, &l), 0);
    far = connect_to(urls[0]);
    CHECK_INT(naru_send(far, "early", 6, NARU_NOWAIT), 0);
    fd = open("/dev/shm/filler", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && fallocate(fd, 0, 0, 160 * 1024) == 0);
    CHECK_INT(naru_accept(l, patience, &near), -ENOSPC); /* no room for the one who comes next */
    close(fd);
    CHECK(unlink("/dev/shm/filler") == 0);
    near = accept_from(l); /* it has stayed in the queue */
    {
        char text[8];

        CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
    CHECK(umount("/dev/shm") == 0);
}

TEST(without_descriptors_a_listener_keeps_its_name_and_who_has_come)
{
    struct naru_listener *l = listen_at(urls[0]), *other = NULL;
    struct naru_channel *far = connect_to(urls[0]), *near = NULL;
    int r = -EMFILE;

    for (size_t more = 0; r < 0; more++) {
        test_limit_descriptors(more);
        r = naru_accept(l, NARU_NOWAIT, &near);
        test_limit_descriptors(SIZE_MAX);
        CHECK(r == 0 ? more > 1 : r == -EMFILE);
        CHECK_INT(naru_listen(urls[0], NULL, &other), -EADDRINUSE);
        CHECK(access("/dev/shm/named.next", F_OK) < 0 && errno == ENOENT);
    }
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    far = connect_to(urls[0]);
    near = accept_from(l);
    check_carries(far, near);
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(a_ring_larger_than_shmmax_is_said_at_the_opening)
{
    int fd = open("/proc/sys/kernel/shmmax", O_RDWR | O_CLOEXEC);
    struct naru_listener *l = NULL;

    if (fd < 0)
        test_skip("no right to lower kernel.shmmax");
    CHECK_INT(write(fd, "65536", 5), 5); /* of the test's own IPC namespace */
    CHECK_INT(naru_listen(urls[1], NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "shmmax");
    CHECK_INT(pwrite(fd, "16777216", 8, 0), 8);
    close(fd);
    check_serves(urls[1]);
}

TEST(a_key_has_64_connections)
{
    enum { PLACES = 64 };
    struct naru_channel *far[PLACES], *near[PLACES], *more = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen("shm+sysv:0x6e616d65?ring=4k", NULL, &l), 0);
    for (int i = 0; i < PLACES - 1; i++) {
        far[i] = connect_to(urls[1]);
        near[i] = accept_from(l);
    }
    far[PLACES - 1] = connect_to(urls[1]);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &more), -EBUSY);
    CHECK_CONTAINS(naru_explain(), "64 connections");
    naru_channel_close(far[7]);
    naru_channel_close(near[7]);
    near[PLACES - 1] = accept_from(l);
    for (int i = 0; i < PLACES; i++) {
        if (i == 7)
            continue;
        check_carries(far[i], near[i]);
        naru_channel_close(far[i]);
        naru_channel_close(near[i]);
    }
    naru_listener_close(l);
}

TEST_EACH(urls_that_name_no_channel_are_refused, each_kind)
{
    static const char *const wrong[2][7] = {
        {"shm+posix:", "shm+posix:/", "shm+posix:/a/b", "shm+posix:/..", "shm+posix:/x?pool=1M",
         "shm+posix:/x?ring=5000", "shm+posix:/x?huge=yes"},
        {"shm+sysv:", "shm+sysv:0", "shm+sysv:?id=3", "shm+sysv:name", "shm+sysv:1?pool=1M",
         "shm+sysv:1?ring=5000", "shm+sysv:1?huge=yes"}};

    for (size_t i = 0; i < 7; i++) {
        struct naru_listener *l = NULL;
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_listen(wrong[index][i], NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), wrong[index][i]);
        CHECK_INT(naru_connect(wrong[index][i], NULL, NARU_NOWAIT, &ch), -EINVAL);
    }
}
