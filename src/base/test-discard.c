/* SPDX-License-Identifier: MIT */
/* What is closed at once, and what by a thread. tests/test-shm-fuse.c has files whose closing waits. */
#include "base/discard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/local-file.h"
#include "runner-trap.h"
#include "runner.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_file(void)
{
    return open(test_format("%s/file", test_directory()), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
}

static int open_unnamed_file(void)
{
    return open(test_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int open_directory(void)
{
    return open(test_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_path(void)
{
    return open("/proc/self/status", O_PATH | O_CLOEXEC);
}

static int open_null(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int open_memory(void)
{
    return memfd_create("naru-test", MFD_CLOEXEC);
}

static int open_event(void)
{
    return eventfd(0, EFD_CLOEXEC);
}

static int open_epoll(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Whatever it is. */
static int open_socket_with_a_byte(void)
{
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0 && write(ends[1], "x", 1) == 1);
    close(ends[1]);
    return ends[0];
}

static int open_pipe(void)
{
    int fds[2];

    CHECK(pipe2(fds, O_CLOEXEC) == 0 && close(fds[1]) == 0);
    return fds[0];
}

static const struct {
    const char *name;
    int (*open)(void);
} kinds[] = {{"a file", open_file},           {"a file without a name", open_unnamed_file},
             {"a directory", open_directory}, {"a path", open_path},
             {"/dev/null", open_null},        {"memory", open_memory},
             {"an eventfd", open_event},      {"an epoll", open_epoll},
             {"a socket", open_socket}};

static const char *each_kind(size_t index)
{
    return index < sizeof kinds / sizeof *kinds ? kinds[index].name : NULL;
}

TEST_EACH(what_only_the_kernel_answers_for_is_closed_at_once, each_kind)
{
    int fd = kinds[index].open();

    CHECK(fd >= 0);
    errno = 7;
    discard_fds(&fd, 1);
    CHECK_INT(errno, 7);
    CHECK(!is_open(fd));
    fd = kinds[index].open();
    discard_shared_fds(&fd, 1);
    CHECK(!is_open(fd));
    CHECK(!discard_is_full());
}

TEST(of_everything_else_a_thread_takes_care)
{
    for (int round = 0; round < 100; round++) {
        int fds[5] = {open("/proc/self/status", O_RDONLY | O_CLOEXEC), -1, open_socket(),
                      open("/proc/self/maps", O_RDONLY | O_CLOEXEC), open_pipe()};

        fds[1] = open_socket_with_a_byte();
        CHECK(fds[0] >= 0 && fds[1] >= 0 && fds[3] >= 0 && !local_file(fds[0]));
        discard_fds(fds, 5);
        CHECK(!is_open(fds[2]));
        WAIT_UNTIL(!is_open(fds[0]) && !is_open(fds[1]) && !is_open(fds[3]) && !is_open(fds[4]));
    }
    WAIT_UNTIL(!discard_is_full());
}

/* The other end may still be in use. */
TEST(a_shared_socket_that_lingers_goes_on_to)
{
    const struct linger minute = {1, 60};
    struct linger now = {0, 0};
    socklen_t length = sizeof now;
    int fd = open_socket(), copy = dup(fd);

    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &minute, sizeof minute) == 0);
    discard_shared_fds(&copy, 1);
    WAIT_UNTIL(!is_open(copy));
    CHECK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &now, &length) == 0 && now.l_onoff && now.l_linger == 60);
    copy = dup(fd);
    discard_fds(&copy, 1);
    WAIT_UNTIL(!is_open(copy));
    CHECK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &now, &length) == 0 && !now.l_onoff);
    close(fd);
}

/* --- locks that the other side holds --- */

/* Somebody who is in a call of the kernel's with a page that never comes, and holds what that locks. */
struct held {
    int fd;
    void *trap;
    _Atomic int tid;
};

static void *read_into_trap(void *argument)
{
    struct held *held = argument;

    held->tid = (int)gettid();
    (void)!read(held->fd, held->trap, 1);
    return NULL;
}

static void *write_from_trap(void *argument)
{
    struct held *held = argument;

    held->tid = (int)gettid();
    (void)!write(held->fd, held->trap, TRAP_BYTES);
    return NULL;
}

static int open_held_pipe(struct held *ret_held)
{
    int fds[2];

    CHECK(pipe2(fds, O_CLOEXEC) == 0 && write(fds[1], "x", 1) == 1);
    ret_held->fd = fds[0];
    return fds[1]; /* the last of its side: to close it is not only to have one copy less */
}

/* TCP, connected to itself: by both of its ends opening at once. */
static int open_held_socket(struct held *ret_held)
{
    const struct linger hour = {1, 3600};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, length) == 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&at, length), 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof hour), 0);
    ret_held->fd = fd;
    return dup(fd);
}

static const struct {
    const char *name;
    int (*open)(struct held *ret_held);
    void *(*hold)(void *held);
} locks[] = {{"a pipe", open_held_pipe, read_into_trap}, {"a socket", open_held_socket, write_from_trap}};

static const char *each_lock(size_t index)
{
    return index < sizeof locks / sizeof *locks ? locks[index].name : NULL;
}

/* The caller goes on; a thread waits. Which nobody ends before the process does: so it is a child's. */
TEST_EACH(a_lock_that_somebody_holds_holds_nobody_up, each_lock)
{
    int pid;

    need_traps();
    pid = test_fork();
    if (pid == 0) {
        struct held held = {.tid = 0};
        pthread_t thread;
        int fd = locks[index].open(&held);

        held.trap = make_trap();
        CHECK(fd >= 0 && pthread_create(&thread, NULL, locks[index].hold, &held) == 0);
        WAIT_UNTIL(held.tid && test_is_thread_asleep(held.tid));
        discard_fds(&fd, 1);
        test_child_end();
    }
    test_join(pid);
}

/* Its kind stands in no list of this process. */
TEST(a_file_of_a_mount_that_is_nowhere_is_not_known)
{
    const char *where = test_format("%s/mount", test_directory());
    int fd;

    test_need_root();
    CHECK_INT(mkdir(where, 0700), 0);
    if (mount("naru-test", where, "tmpfs", 0, "size=64k") < 0)
        test_skip("cannot mount here: %s", strerror(errno));
    fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && local_file(fd));
    CHECK_INT(umount2(where, MNT_DETACH), 0);
    CHECK(!local_file(fd));
    close(fd);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which need address space themselves   \
                                                                     */
TEST(a_thread_that_was_not_to_be_had_comes_later)
{
    struct rlimit before, none;
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    void *room = malloc(65536);

    CHECK(fd >= 0 && room && getrlimit(RLIMIT_AS, &before) == 0);
    free(room); /* what it takes besides a stack is there */
    none = before;
    none.rlim_cur = 4096;
    CHECK_INT(setrlimit(RLIMIT_AS, &none), 0);
    discard_fds(&fd, 1);
    CHECK_INT(setrlimit(RLIMIT_AS, &before), 0);
    CHECK(is_open(fd));
    WAIT_UNTIL(!discard_is_full() && !is_open(fd));
}
#endif
