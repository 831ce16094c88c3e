/* SPDX-License-Identifier: MIT */
/* Whoever holds a lock is found, by the lock and not by the open file; and so is who listens at each kind of
 * name. */
#include "base/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
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

TEST(a_lock_of_either_kind_shows_its_holder)
{
    const char *path = make_file("lock"), *other = make_file("other");
    int fd = open_file(path), busy = open_file(other);

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
    CHECK_CONTAINS(naru_explain(), test_format(": process %d listens there; end it first", listener));
    CHECK_INT(naru_listen(url, NULL, &l), -EADDRINUSE); /* it is still there */
    test_kill(listener);
    CHECK_INT(naru_remove(url), 0);
}
