/* SPDX-License-Identifier: MIT */
/* Writing with a signal held back. */
#include "base/quiet-write.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

ssize_t quiet_write(int fd, const struct iovec *iov, int count, int sig, int code)
{
    static const struct timespec now = {0, 0};
    sigset_t one, before, pending;
    ssize_t n;
    int saved;

    (void)sigemptyset(&one);
    (void)sigaddset(&one, sig);
    (void)pthread_sigmask(SIG_BLOCK, &one, &before);
    (void)sigpending(&pending);
    n = writev(fd, iov, count);
    saved = errno;
    /* One that was pending before is somebody else's, and ours merged with it. */
    if (n < 0 && saved == code && !sigismember(&pending, sig))
        while (sigtimedwait(&one, NULL, &now) < 0 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}
