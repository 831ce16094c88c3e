/* SPDX-License-Identifier: MIT */
/* Whoever holds a lock is found, by the lock and not by the open file; and so is who listens at each kind of
 * name. */
#include "base/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *make_file(const char *name)
{
    const char *path = test_format("%s/%s", test_directory(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    (void)close(fd);
    return path;
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0);
    return fd;
}

static void lock_byte(int fd, int64_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    CHECK(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

TEST(who_has_a_file_open_and_no_lock_holds_none)
{
    const char *path = make_file("lock");
    int fd = open_file(path);

    CHECK_INT(holder_of_lock(path), 0);
    lock_byte(fd, 1); /* another byte */
    CHECK_INT(holder_of_lock(path), 0);
    CHECK_INT(holder_of_lock("/nowhere/at/all"), 0);
    (void)close(fd);
    (void)unlink(path);
}

/* Whether the file system has the device and inode in /proc/PID/fdinfo that it has for stat(2): btrfs, and
 * some ways to stack file systems, do not. */
static bool locks_are_shown(void)
{
    const char *path = make_file("shown");
    int fd = open_file(path);
    bool shown;

    lock_byte(fd, 0);
    shown = holder_of_lock(path) == getpid();
    (void)close(fd);
    (void)unlink(path);
    return shown;
}

TEST(a_lock_of_either_kind_shows_its_holder)
{
    const char *path = make_file("lock"), *other = make_file("other");
    int fd = open_file(path), busy = open_file(other);

    if (!locks_are_shown())
        test_skip("the file system of %s has other numbers for locks", test_directory());

    CHECK_INT(flock(busy, LOCK_EX), 0);
    CHECK_INT(holder_of_lock(path), 0); /* another file */
    lock_byte(fd, 0);
    CHECK_INT(holder_of_lock(path), getpid());
    (void)close(fd);
    CHECK_INT(holder_of_lock(path), 0);
    fd = open_file(path);
    CHECK_INT(flock(fd, LOCK_SH), 0);
    CHECK_INT(holder_of_lock(path), getpid());
    (void)close(fd);
    (void)close(busy);
    (void)unlink(path);
    (void)unlink(other);
}

/* Inode numbers are a file system's own: each tmpfs counts from 2. */
TEST(the_same_inode_of_another_file_system_is_another_file)
{
    static const char *const where[] = {"one", "other"};
    const char *files[2];
    struct stat status[2];
    int fd;

    test_need_root();
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        test_skip("no mount namespace: %s", strerror(errno));
    for (int i = 0; i < 2; i++) {
        const char *directory = test_format("%s/%s", test_directory(), where[i]);

        CHECK_INT(mkdir(directory, 0700), 0);
        if (mount("tmpfs", directory, "tmpfs", 0, NULL) < 0)
            test_skip("no tmpfs: %s", strerror(errno));
        files[i] = make_file(test_format("%s/lock", where[i]));
        CHECK_INT(stat(files[i], &status[i]), 0);
    }
    if (status[0].st_ino != status[1].st_ino) /* before Linux 5.9 */
        test_skip("inodes of all tmpfs are numbered together");
    fd = open_file(files[0]);
    lock_byte(fd, 0);
    CHECK_INT(holder_of_lock(files[0]), getpid());
    CHECK_INT(holder_of_lock(files[1]), 0);
    (void)close(fd);
    for (int i = 0; i < 2; i++) {
        const char *directory = test_format("%s/%s", test_directory(), where[i]);

        CHECK_INT(umount(directory), 0);
        CHECK_INT(rmdir(directory), 0);
    }
}

TEST(a_holder_has_a_name)
{
    char name[HOLDER_NAME];

    CHECK_STR(holder_name(1234, name), "process 1234");
    CHECK_STR(holder_name(0, name), "a process");
}

static const struct {
    const char *url, *path;
} ends[] = {{"fifo:", "/fifo"},  {"unix:", "/socket"},         {"unix:", "/s?type=seqpacket"},
            {"shm:", "/socket"}, {"shm+posix:/naru-test", ""}, {"shm+sysv:0x4d3", ""}};

static const char *each_end(size_t index)
{
    return index < sizeof ends / sizeof *ends ? ends[index].url : NULL;
}

TEST_EACH(what_a_live_listener_has_is_not_removed_and_it_is_named, each_end)
{
    const char *url =
        test_format("%s%s%s", ends[index].url, *ends[index].path ? test_directory() : "", ends[index].path);
    struct naru_listener *l = NULL;
    struct test_gate gate;
    int listener;

    test_gate_init(&gate);
    listener = test_fork();
    if (listener == 0) {
        CHECK_INT(naru_listen(url, NULL, &l), 0);
        test_gate_open(&gate);
        (void)pause();
    }
    test_gate_wait(&gate);
    CHECK_INT(naru_remove(url), -EBUSY);
    if (*ends[index].path && !locks_are_shown())
        CHECK_CONTAINS(naru_explain(), ": a process listens there; end it first");
    else
        CHECK_CONTAINS(naru_explain(), test_format(": process %d listens there; end it first", listener));
    CHECK_INT(naru_listen(url, NULL, &l), -EADDRINUSE); /* it is still there */
    test_kill(listener);
    CHECK_INT(naru_remove(url), 0);
}
