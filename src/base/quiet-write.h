/* SPDX-License-Identifier: MIT */
/* Writing where the kernel would raise a signal that kills by default: SIGPIPE, SIGXFSZ. */
#ifndef NARU_BASE_QUIET_WRITE_H
#define NARU_BASE_QUIET_WRITE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

/* A signal that is held back in the calling thread. */
struct quiet {
    sigset_t before;
    bool pending; /* it was already, and is somebody else's */
};

/* Around calls that may raise sig. raised: whether they said that they failed for its reason; then it is
 * taken back. Keeps errno. */
void quiet_begin(struct quiet *quiet, int sig);
void quiet_end(const struct quiet *quiet, int sig, bool raised);

/*
 * writev(2) that reports `code` (EPIPE, EFBIG) without the signal that the kernel raises along with it: sig
 * is blocked around the write and taken back if the write raised it. A library may neither die of it nor
 * touch its disposition. Costs two system calls. As writev(2): the count, or -1 and errno.
 */
ssize_t quiet_write(int fd, const struct iovec *iov, int count, int sig, int code);

#endif
