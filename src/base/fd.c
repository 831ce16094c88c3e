/* SPDX-License-Identifier: MIT */
/* File descriptors: owning them, and waiting on them. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

int fd_close(int fd)
{
    int saved = errno;

    if (fd >= 0)
        (void)close(fd); /* close(2): the descriptor is gone whatever it returns, also after EINTR */
    errno = saved;
    return -1;
}

int fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

void fd_cleanup(int *fd)
{
    *fd = fd_close(*fd);
}

int fd_set_nonblocking(int fd, bool nonblocking)
{
    int flags = fcntl(fd, F_GETFL);
    int wanted;

    if (flags < 0)
        return -errno;
    wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0)
        return -errno;
    return 0;
}

int fd_poll(struct pollfd *fds, size_t count, int64_t deadline)
{
    struct timespec storage;
    int ready;

    do
        ready = ppoll(fds, count, deadline_left_timespec(deadline, &storage), NULL);
    while (ready < 0 && errno == EINTR);
    return ready < 0 ? -errno : ready;
}

unsigned fd_type(int fd)
{
    struct stat status;

    return fstat(fd, &status) < 0 ? 0 : status.st_mode & S_IFMT;
}

bool fd_is_path(int fd, const char *path)
{
    struct stat opened, named;

    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

bool fd_is_removed(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && status.st_nlink == 0;
}

void fd_set_event(int fd, bool readable)
{
    uint64_t value = 1;
    ssize_t r = readable ? write(fd, &value, sizeof value) : read(fd, &value, sizeof value);

    (void)r; /* cannot fail */
}

int fd_is_eventfd(int fd)
{
    static const char name[] = "anon_inode:[eventfd]"; /* proc_pid_fd(5); names of files begin with "/" */
    char path[64], found[sizeof name];
    ssize_t n;

    (void)snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    n = readlink(path, found, sizeof found);
    if (n < 0)
        return -1;
    return n == (ssize_t)strlen(name) && memcmp(found, name, strlen(name)) == 0;
}

int fd_socket_option(int fd, int option)
{
    int value = -1;
    socklen_t length = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

/* Since Linux 6.5; glibc 2.38 has it. */
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* Nobody here asks for the sender's pidfd. But whoever has a copy of the socket may have (SO_PASSPIDFD), and
 * from then on each message brings one. Its close waits for nobody. */
static void close_pidfd(const struct cmsghdr *cmsg)
{
    int fd = -1;

    if (cmsg->cmsg_len >= CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(cmsg), sizeof fd);
    (void)fd_close(fd); /* less than 0: the kernel had none to give */
}

size_t fd_received(const struct msghdr *header, int *fds)
{
    size_t total = 0;

    if (header->msg_controllen == 0)
        return 0;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg;
         cmsg = CMSG_NXTHDR((struct msghdr *)(uintptr_t)header, cmsg)) {
        size_t count;

        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_PIDFD)
            close_pidfd(cmsg);
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
        memcpy(fds + total, CMSG_DATA(cmsg), count * sizeof *fds); /* one SCM_RIGHTS comes at most: unix(7) */
        total += count;
    }
    return total;
}
