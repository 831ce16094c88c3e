/* SPDX-License-Identifier: MIT */
/*
 * Writing to regular files. A write that would begin at or beyond RLIMIT_FSIZE raises SIGXFSZ, which kills by
 * default (setrlimit(2)), and no flag of write or pwritev2 prevents it. So the signal is held back
 * (quiet-write.h), which costs as much as the write itself and is done only where there is a limit.
 */
#include "base/file-io.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/quiet-write.h"

bool file_io_unlimited(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

ssize_t file_io_write(int fd, const struct iovec *iov, int count, bool unlimited)
{
    ssize_t n = unlimited ? writev(fd, iov, count) : quiet_write(fd, iov, count, SIGXFSZ, EFBIG);

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
