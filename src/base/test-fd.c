/* SPDX-License-Identifier: MIT */
/* Descriptors: owning them, and waiting on them through signals. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "runner.h"

TEST(closing_keeps_errno_and_bears_a_negative)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    errno = EPROTO;
    CHECK_INT(fd_close(fd), -1);
    CHECK_INT(fd_close(fd), -1); /* close(2) fails, errno stays */
    CHECK_INT(fd_close(-1), -1);
    CHECK_INT(errno, EPROTO);
    CHECK_INT(fcntl(fd, F_GETFD), -1);
}

TEST(stealing_leaves_nothing_for_the_cleanup)
{
    int stolen;

    {
        FD_CLEANUP int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        CHECK(fd >= 0);
        stolen = fd_steal(&fd);
        CHECK_INT(fd, -1);
    }
    CHECK(fcntl(stolen, F_GETFD) >= 0);
    {
        FD_CLEANUP int fd = stolen;

        CHECK_INT(fd, stolen);
    }
    CHECK_INT(fcntl(stolen, F_GETFD), -1);
}

TEST(nonblocking_is_set_and_cleared)
{
    int fds[2];
    char byte;

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    CHECK_INT(fd_set_nonblocking(fds[0], true), 0);
    CHECK(read(fds[0], &byte, 1) == -1 && errno == EAGAIN);
    CHECK_INT(fd_set_nonblocking(fds[0], false), 0);
    CHECK_INT(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
    CHECK_INT(fd_set_nonblocking(fds[0], true), -EBADF);
}

TEST(the_type_is_told_by_fstat)
{
    int fds[2];

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    CHECK_INT(fd_type(fds[0]), S_IFIFO);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
    CHECK_INT(fd_type(fds[0]), 0);
}

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
    (void)signal;
    ticks++;
}

TEST(polling_goes_on_after_signals_and_keeps_its_deadline)
{
    struct itimerval every_ms = {{0, 1000}, {0, 1000}};
    struct sigaction action = {.sa_handler = tick}; /* no SA_RESTART: each tick interrupts */
    int before, fds[2];
    struct pollfd poll;

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
    poll = (struct pollfd){.fd = fds[0], .events = POLLIN};
    do { /* one in which all stood still sees none */
        int64_t deadline = deadline_after(NARU_MS(30));

        before = ticks;
        CHECK_INT(fd_poll(&poll, 1, deadline), 0);
        CHECK(clock_now() >= deadline);
    } while (ticks == before);
    CHECK_INT(write(fds[1], "x", 1), 1);
    CHECK_INT(fd_poll(&poll, 1, NARU_FOREVER), 1);
    CHECK_INT(poll.revents, POLLIN);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
}

TEST(an_eventfd_is_told_from_what_is_like_it)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int copy = dup(event), file;
    const char *path = test_format("%s/anon_inode:[eventfd]", test_directory());

    file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(event >= 0 && timer >= 0 && copy >= 0 && file >= 0);
    CHECK_INT(fd_is_eventfd(event), 1);
    CHECK_INT(fd_is_eventfd(copy), 1);
    CHECK_INT(fd_is_eventfd(timer), 0);
    CHECK_INT(fd_is_eventfd(file), 0);
    CHECK_INT(unlink(path), 0);
    CHECK(close(event) == 0 && close(timer) == 0 && close(copy) == 0 && close(file) == 0);
}
