/* SPDX-License-Identifier: MIT */
/*
 * What close(2) may wait for, and how long:
 *
 * - A socket that lingers (socket(7), SO_LINGER) waits for its peer, as long as its owner said. That can be
 *   taken back before.
 * - A file of FUSE is flushed: the kernel asks whoever serves that file system, and waits for the answer, for
 *   ever, and no signal ends that, not even SIGKILL (fuse_flush() in fs/fuse/file.c: the request is forced).
 *   Nothing can be asked of such a file first, as fstat(2) and fstatfs(2) are that server's to answer, too;
 * and every way to free a descriptor's number flushes. What is dropped with a packet that was never received
 * is not flushed, but nobody sees what a packet brings before it is received.
 *
 * So what is neither memory (only a memfd has seals) nor a socket nor a pipe is closed by a thread that has
 * nothing else to do and ends with it. While it waits, so do the rest of its descriptors; a process that
 * exits meanwhile, or is killed, keeps its files until the server has answered or gone: that is the kernel's.
 * Without memory or a thread for that they stay open: a number that is lost is better than a caller that
 * hangs. So whoever may pass files again and again can use up the numbers there are (RLIMIT_NOFILE), as who
 * may connect again and again can. A child of fork(2) has copies of what waits.
 */
#include "base/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

struct strangers {
    size_t count;
    int fds[];
};

/* Whether it has none, for it is no memory. O_PATH is EBADF, and flushes nothing; a sandbox may say EPERM. */
static bool has_no_seals(int fd)
{
    return fcntl(fd, F_GET_SEALS) < 0 && errno == EINVAL;
}

/* Takes away what close() would wait for. Whether it cannot wait now. Asks only what the kernel answers. */
static bool is_harmless(int fd)
{
    const struct linger off = {0, 0};

    return fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off) == 0 || !has_no_seals(fd) ||
           fcntl(fd, F_GETPIPE_SZ) >= 0;
}

static void *close_all(void *argument)
{
    struct strangers *strangers = argument;

    for (size_t i = 0; i < strangers->count; i++)
        (void)fd_close(strangers->fds[i]);
    free(strangers);
    return NULL;
}

/* false: there is no thread to be had. */
static bool close_elsewhere(struct strangers *strangers)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int r;

    if (pthread_attr_init(&attributes) != 0)
        return false;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* a program's handlers run in its own threads */
    r = pthread_create(&thread, &attributes, close_all, strangers);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return r == 0;
}

void discard_fds(const int *fds, size_t count)
{
    struct strangers *strangers = NULL;
    int saved = errno;

    for (size_t i = 0; i < count; i++) {
        if (is_harmless(fds[i])) {
            (void)fd_close(fds[i]);
            continue;
        }
        if (!strangers)
            strangers = calloc(1, sizeof *strangers + (count - i) * sizeof *fds);
        if (strangers)
            strangers->fds[strangers->count++] = fds[i];
    }
    if (strangers && !close_elsewhere(strangers))
        free(strangers);
    errno = saved;
}
