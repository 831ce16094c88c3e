/* SPDX-License-Identifier: MIT */
/*
 * The file that bind(2) makes has the socket's mode less the umask (unix_bind() in net/unix/af_unix.c;
 * fchmod(2) of the socket before, measured). A chmod(2) behind it comes too late for another user who
 * connects in between: he is told EACCES, and by us that he may not. A name in between, which rename(2) gives
 * the right one, would be shown as the address for good (ss(8), getpeername(2)). And the umask is the whole
 * process's.
 *
 * But it is that of the threads that share a working directory, which unshare(2) lets any of them leave: so a
 * thread of its own, with a umask of its own, binds, while the caller waits.
 */
#include "channel/unix-bind.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>

struct order {
    int fd;
    const struct sockaddr *address;
    socklen_t length;
    bool done;
    int failed; /* then: 0 or errno */
};

static void *bind_without_umask(void *argument)
{
    struct order *o = argument;

    if (unshare(CLONE_FS) < 0)
        return NULL;
    (void)umask(0);
    o->failed = bind(o->fd, o->address, o->length) < 0 ? errno : 0;
    o->done = true;
    return NULL;
}

int unix_bind_exactly(int fd, const struct sockaddr *address, socklen_t length)
{
    struct order order = {.fd = fd, .address = address, .length = length};
    sigset_t all, usual;
    pthread_t thread;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &usual); /* the program's signals are its own threads' */
    r = pthread_create(&thread, NULL, bind_without_umask, &order);
    (void)pthread_sigmask(SIG_SETMASK, &usual, NULL);
    if (r == 0)
        (void)pthread_join(thread, NULL);
    if (!order.done)
        return bind(fd, address, length);
    errno = order.failed;
    return order.failed ? -1 : 0;
}
