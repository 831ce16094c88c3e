/* SPDX-License-Identifier: MIT */
/* Writing with a signal held back. */
#include "base/quiet-write.h"

#include <errno.h>
#include <pthread.h>

static sigset_t set_of(int sig)
{
    sigset_t one;

    (void)sigemptyset(&one);
    (void)sigaddset(&one, sig);
    return one;
}

void quiet_begin(struct quiet *quiet, int sig)
{
    const sigset_t one = set_of(sig);
    sigset_t pending;

    (void)pthread_sigmask(SIG_BLOCK, &one, &quiet->before);
    (void)sigpending(&pending);
    quiet->pending = sigismember(&pending, sig) == 1;
}

void quiet_end(const struct quiet *quiet, int sig, bool raised)
{
    static const struct timespec now = {0, 0};
    const sigset_t one = set_of(sig);
    int saved = errno;

    /* One that was pending before is somebody else's, and ours merged with it. */
    if (raised && !quiet->pending)
        while (sigtimedwait(&one, NULL, &now) < 0 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    errno = saved;
}

ssize_t quiet_write(int fd, const struct iovec *iov, int count, int sig, int code)
{
    struct quiet quiet;
    ssize_t n;

    quiet_begin(&quiet, sig);
    n = writev(fd, iov, count);
    quiet_end(&quiet, sig, n < 0 && errno == code);
    return n;
}
