/* SPDX-License-Identifier: MIT */
/*
 * Writing to regular files. A write that would begin at or beyond RLIMIT_FSIZE raises SIGXFSZ, which kills by
 * default (setrlimit(2)), and no flag of write or pwritev2 prevents it. So the signal is blocked around the
 * write and taken back if the write raised it. That costs two system calls, as much as the write itself; they
 * are spent only where there is a limit.
 */
#include "base/file-io.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

bool file_io_unlimited(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

static ssize_t write_held_back(int fd, const struct iovec *iov, int count)
{
    static const struct timespec now = {0, 0};
    sigset_t limit_only, before, pending;
    ssize_t n;
    int saved;

    (void)sigemptyset(&limit_only);
    (void)sigaddset(&limit_only, SIGXFSZ);
    (void)pthread_sigmask(SIG_BLOCK, &limit_only, &before);
    (void)sigpending(&pending);
    n = writev(fd, iov, count);
    saved = errno;
    /* One that was pending before is somebody else's, and ours merged with it. */
    if (n < 0 && saved == EFBIG && !sigismember(&pending, SIGXFSZ))
        while (sigtimedwait(&limit_only, NULL, &now) < 0 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}

ssize_t file_io_write(int fd, const struct iovec *iov, int count, bool unlimited)
{
    ssize_t n = unlimited ? writev(fd, iov, count) : write_held_back(fd, iov, count);

    return n < 0 ? -errno : n;
}

int file_io_why_short(off_t end)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (rlim_t)end >= limit.rlim_cur)
        return EFBIG;
    return ENOSPC;
}
