/* SPDX-License-Identifier: MIT */
/*
 * open(2), O_TMPFILE, and linkat(2). AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; by way of /proc it does
 * not.
 */
#include "base/nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int nameless_open(int directory_fd, const char *directory, int access_mode)
{
    int fd;

    if (access("/proc/self/fd", F_OK) < 0)
        return -EOPNOTSUPP;
    fd = openat(directory_fd, directory, O_TMPFILE | access_mode | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    return errno == EISDIR ? -EOPNOTSUPP : -errno; /* a kernel or file system that knows no O_TMPFILE */
}

int nameless_link(int fd, int directory_fd, const char *path)
{
    char self[32];

    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, directory_fd, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}
