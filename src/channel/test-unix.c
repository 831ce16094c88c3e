/* SPDX-License-Identifier: MIT */
/* unix: whose path it is, what is never removed, and what a wrong path or kind is told. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/test-unix.h"
#include "runner-syscalls.h"

static bool exists(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

TEST_EACH(a_foreign_listener_is_neither_replaced_nor_removed, each_kind)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s?type=%s", path, kinds[index]);
    struct naru_listener *l = NULL;
    struct naru_channel *ch;
    int fd = foreign_socket(path, types[index]);

    CHECK_INT(naru_listen(url, NULL, &l), -EADDRINUSE);
    CHECK_CONTAINS(naru_explain(), "another listener is there");
    CHECK(l == NULL);
    CHECK_INT(naru_remove(url), -EBUSY);
    CHECK(!exists(test_format("%s.lock", path)));
    CHECK_INT(naru_connect(url, NULL, patience, &ch), 0); /* it is still there */
    naru_channel_close(ch);
    close(fd);
    CHECK_INT(naru_listen(url, NULL, &l), 0); /* dead now, and reclaimed */
    naru_listener_close(l);
    CHECK(!exists(path) && !exists(test_format("%s.lock", path)));
}

TEST(a_dead_socket_is_removed_when_asked)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s", path);

    close(foreign_socket(path, SOCK_STREAM));
    CHECK_INT(naru_remove(url), 0);
    CHECK(!exists(path) && !exists(test_format("%s.lock", path)));
    CHECK_INT(naru_remove(url), -ENOENT);
}

TEST(a_lock_that_was_left_without_its_socket_is_removed_when_asked)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s", path), *lock = test_format("%s.lock", path);
    int fd = open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0); /* of a listener that is about to bind */
    CHECK_INT(naru_remove(url), -EBUSY);
    CHECK(exists(lock));
    close(fd); /* and is killed instead */
    CHECK_INT(naru_remove(url), 0);
    CHECK(!exists(lock));
    CHECK_INT(naru_remove(url), -ENOENT);
    CHECK(!exists(lock));
}

TEST(what_is_no_socket_is_never_removed)
{
    const char *path = test_format("%s/precious", test_directory());
    const char *url = test_format("unix://%s", path);
    struct naru_listener *l = NULL;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    close(fd);
    CHECK_INT(naru_listen(url, NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "not a socket");
    CHECK_INT(naru_remove(url), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "not a socket");
    CHECK(exists(path));
    CHECK(!exists(test_format("%s.lock", path)));
}

TEST(a_listener_whose_path_was_taken_leaves_the_new_owners_alone)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s", path);
    struct naru_listener *first, *second;
    struct naru_channel *ch;

    CHECK_INT(naru_listen(url, NULL, &first), 0);
    CHECK(unlink(path) == 0 && unlink(test_format("%s.lock", path)) == 0); /* somebody cleaned up in /tmp */
    CHECK_INT(naru_listen(url, NULL, &second), 0);
    naru_listener_close(first);
    CHECK_INT(naru_connect(url, NULL, patience, &ch), 0);
    naru_channel_close(ch);
    naru_listener_close(second);
    CHECK(!exists(path));
}

TEST(the_mode_is_exact_whatever_the_umask)
{
    static const unsigned umasks[] = {0, 022, 077, 0777};
    const char *path = test_format("%s/s", test_directory());
    struct naru_listener *l;
    struct stat status;

    for (size_t i = 0; i < 4; i++) {
        umask(umasks[i]);
        CHECK_INT(naru_listen(test_format("unix://%s?mode=0660", path), NULL, &l), 0);
        CHECK(stat(path, &status) == 0);
        CHECK_INT(status.st_mode & 0777, 0660);
        naru_listener_close(l);
    }
}

/* Between bind(2) and a chmod(2) another user would be refused. Without a chmod(2) that works, what is seen
 * is what the file has from the first. */
TEST(the_file_of_a_socket_has_its_mode_from_the_first)
{
    const char *path = test_format("%s/s", test_directory());
    struct naru_listener *l;
    struct stat status;

    (void)umask(077);
#ifdef SYS_chmod
    test_refuse_call(SYS_chmod, 0); /* which does nothing, and says 0 */
#endif
    test_refuse_call(SYS_fchmodat, 0);
    CHECK_INT(naru_listen(test_format("unix://%s?mode=0666", path), NULL, &l), 0);
    CHECK(stat(path, &status) == 0);
    CHECK_INT(status.st_mode & 0777, 0666);
    (void)naru_listener_close(l);
    CHECK_INT(umask(077), 077); /* which is as it was */
}

TEST(where_no_thread_may_have_its_own_umask_a_socket_has_its_mode_when_it_listens)
{
    const char *path = test_format("%s/s", test_directory());
    struct naru_listener *l;
    struct stat status;

    (void)umask(077);
    test_refuse_call(SYS_unshare, EPERM); /* as in most containers */
    CHECK_INT(naru_listen(test_format("unix://%s?mode=0666", path), NULL, &l), 0);
    CHECK(stat(path, &status) == 0);
    CHECK_INT(status.st_mode & 0777, 0666);
    (void)naru_listener_close(l);
}

TEST(connecting_to_another_kind_is_explained)
{
    const char *path = test_format("%s/s", test_directory());
    struct naru_channel *ch = NULL;
    struct naru_listener *l;

    CHECK_INT(naru_listen(test_format("unix://%s?type=dgram", path), NULL, &l), 0);
    CHECK_INT(naru_connect(test_format("unix://%s", path), NULL, patience, &ch), -EPROTOTYPE);
    CHECK_CONTAINS(naru_explain(), "?type=");
    CHECK(ch == NULL);
    naru_listener_close(l);
}

TEST(a_path_that_cannot_be_is_explained)
{
    char longest[256];
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    CHECK_INT(naru_listen(test_format("unix:///%s", longest), NULL, &l), -ENAMETOOLONG);
    CHECK_CONTAINS(naru_explain(), "107");
    CHECK_INT(naru_listen(test_format("unix://%s/none/s", test_directory()), NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "none/s");
    CHECK_INT(naru_connect("unix:///dev/null/s", NULL, NARU_NOWAIT, &ch), -ENOTDIR);
    CHECK_CONTAINS(naru_explain(), "not a directory");
    CHECK_INT(naru_listen("unix:", NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "unix:///run/my.sock");
    CHECK_INT(naru_remove("unix:@abstract"), -ENOTSUP);
    CHECK(l == NULL && ch == NULL);
}

/* A listener that is killed again and again, by chance while it binds: the path never stays stuck. */
TEST(a_path_is_never_stuck_however_its_owner_dies)
{
    const char *url = test_format("unix://%s/s", test_directory());
    struct naru_listener *l;

    for (int i = 0; i < 100; i++) {
        struct timespec pause = {.tv_nsec = (long)(test_random() % 400000)};
        int pid = test_fork();

        if (pid == 0)
            for (;;) {
                CHECK_INT(naru_listen(url, NULL, &l), 0);
                naru_listener_close(l);
            }
        nanosleep(&pause, NULL);
        test_kill(pid);
        CHECK_INT(naru_listen(url, NULL, &l), 0);
        naru_listener_close(l);
    }
}

TEST(of_many_who_listen_at_once_exactly_one_succeeds)
{
    enum { RIVALS = 8, ROUNDS = 20 };
    const char *url = test_format("unix://%s/s", test_directory());

    for (int round = 0; round < ROUNDS; round++) {
        struct test_gate go, tried, done;
        _Atomic int *winners = test_shared(sizeof *winners);
        int pids[RIVALS];

        test_gate_init(&go);
        test_gate_init(&tried);
        test_gate_init(&done);
        for (int i = 0; i < RIVALS; i++) {
            pids[i] = test_fork();
            if (pids[i] == 0) {
                struct naru_listener *l = NULL;
                int r;

                test_gate_wait(&go);
                r = naru_listen(url, NULL, &l);
                CHECK(r == 0 || r == -EADDRINUSE);
                *winners += r == 0;
                test_gate_open(&tried);
                test_gate_wait(&done);
                naru_listener_close(l);
                test_child_end();
            }
        }
        for (int i = 0; i < RIVALS; i++)
            test_gate_open(&go);
        for (int i = 0; i < RIVALS; i++)
            test_gate_wait(&tried);
        CHECK_INT(*winners, 1);
        for (int i = 0; i < RIVALS; i++)
            test_gate_open(&done);
        for (int i = 0; i < RIVALS; i++)
            test_join(pids[i]);
    }
}

/* Connects to path until the kernel takes no more; the descriptors are the test's to close. */
static size_t fill_backlog(const char *path, int type, int *fds, size_t capacity)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t count = 0;

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    for (; count < capacity; count++) {
        fds[count] = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(fds[count] >= 0);
        if (connect(fds[count], (struct sockaddr *)&address, sizeof address) < 0) {
            CHECK_INT(errno, EAGAIN);
            close(fds[count]);
            return count;
        }
    }
    test_fail(__FILE__, __LINE__, "the backlog takes more than %zu connections", capacity);
}

static const char *each_connected_kind(size_t index)
{
    return index < 2 ? kinds[index] : NULL;
}

TEST_EACH(connecting_to_a_full_backlog_ends_in_time, each_connected_kind)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s?type=%s", path, kinds[index]);
    struct naru_channel *ch = NULL, *accepted;
    struct naru_listener *l;
    int fds[600];
    size_t count;

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    count = fill_backlog(path, types[index], fds, sizeof fds / sizeof *fds);
    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_connect(url, NULL, NARU_MS(5), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "its queue of connections is full");
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &accepted), 0);
    naru_channel_close(accepted);
    CHECK_INT(naru_connect(url, NULL, patience, &ch), 0);
    CHECK(!(fcntl(ch->rfd, F_GETFL) & O_NONBLOCK)); /* NARU_FOREVER sleeps in the call itself */
    naru_channel_close(ch);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    naru_listener_close(l);
}

TEST(a_listener_without_descriptors_leaves_nothing_behind)
{
    const char *path = test_format("%s/s", test_directory());
    struct naru_listener *l;

    struct rlimit usual;

    CHECK_INT(getrlimit(RLIMIT_NOFILE, &usual), 0);
    for (rlim_t more = 2; more-- > 0;) {
        test_limit_descriptors(more);
        CHECK_INT(naru_listen(test_format("unix://%s", path), NULL, &l), -EMFILE);
        CHECK(!exists(path) && !exists(test_format("%s.lock", path)));
    }
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &usual), 0); /* the runner looks for leaks */
}

/* A socket removed from outside, and something of somebody's in its place: not ours to remove any more. */
TEST(what_replaced_the_socket_stays)
{
    const char *path = test_format("%s/s", test_directory());
    const char *url = test_format("unix://%s", path);
    struct naru_listener *l;
    int fd;

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    CHECK(unlink(path) == 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
    naru_listener_close(l);
    CHECK(exists(path));
    CHECK(!exists(test_format("%s.lock", path)));
    CHECK(unlink(path) == 0 && symlink("/nowhere", path) == 0);
    CHECK_INT(naru_listen(url, NULL, &l), -EEXIST);
    CHECK(exists(path) && !exists(test_format("%s.lock", path)));
}

TEST(a_file_that_only_is_named_like_a_lock_is_left_alone)
{
    const char *path = test_format("%s/Cargo", test_directory());
    const char *lock = test_format("%s.lock", path);
    struct naru_listener *l = NULL;
    int fd = open(lock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    CHECK(write(fd, "precious", 8) == 8);
    close(fd);
    CHECK_INT(naru_listen(test_format("unix://%s", path), NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "Cargo.lock is in the way");
    CHECK_INT(naru_remove(test_format("unix://%s", path)), -EEXIST);
    CHECK(exists(lock) && !exists(path));
    CHECK(unlink(lock) == 0); /* the runner takes it for a leak */
}
