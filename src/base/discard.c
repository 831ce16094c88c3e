/* SPDX-License-Identifier: MIT */
/*
 * What close(2) may wait for, and how long:
 *
 * - A socket that lingers (socket(7), SO_LINGER) waits for its peer, as long as its owner said. That can be
 *   taken back before, but setsockopt(2) waits for the socket's lock, which whoever sends from a page that
 *   never comes (userfaultfd(2), FUSE) holds meanwhile, by its own copy. getsockopt(2) does not.
 * - A pipe has a lock, too, which its reader holds: who closes the other end waits for it, and so does
 *   F_GETPIPE_SZ. Likewise terminals, and the memory that a userfaultfd is of.
 * - A unix socket waits for whatever lies in it unreceived, and is closed with it: a socket that lingers, in
 *   one that is in another. Whoever has the other end may put it there until the last moment; one with
 *   nothing in it now is taken for harmless.
 * - A file of FUSE is flushed: the kernel asks whoever serves that file system, and waits for the answer, for
 *   ever, and no signal ends that, not even SIGKILL (fuse_flush() in fs/fuse/file.c: the request is forced).
 *   Nothing can be asked of such a file first, as fstat(2) and fstatfs(2) are that server's to answer, too,
 *   and every way to free a descriptor's number flushes. What is dropped with a packet that was never
 *   received is not flushed, but nobody sees what a packet brings before it is received.
 *
 * So what is not known to be harmless is closed by threads that have nothing else to do, DISCARD_MOST at
 * most, which begin when there is something to close and end with it. While such a descriptor waits for its
 * server, so do the others that came with it, and a process that exits meanwhile, or is killed, keeps its
 * files until the server has answered or gone: that is the kernel's.
 *
 * Each holds a number (RLIMIT_NOFILE), and a process can be passed as many as somebody likes. The only thing
 * that helps against that is not to receive them: whoever receives from strangers asks discard_is_full()
 * before. As a packet brings up to 253 (SCM_MAX_FD of include/net/scm.h), a single one does not fill it, and
 * there may be so many more than its limit.
 *
 * The lock is taken with forks held off, so that a child finds it free. A child has copies of what waits, and
 * its numbers may mean something else by the time that it looks: it forgets them.
 */
#include "base/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "base/fork.h"
#include "base/local-file.h"

/* Of so many files among what came together it is asked where they are: some 0.1 ms each. */
enum { FILES_ASKED = 8 };

/* How long it is looked whether a thread makes room, and how often. */
enum { FULL_PAUSE_NS = 100 * 1000, FULL_PAUSES = 100 };

/* What came together. */
struct strangers {
    struct strangers *next;
    bool shared; /* as of discard_shared_fds() */
    size_t count;
    int fds[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t generation;       /* of the process that all this is of */
static struct strangers *waiting; /* for a thread */
static size_t open_count, lots;   /* descriptors that wait or are being closed, and of how many times */
static size_t threads;            /* that close them */

static void enter(void)
{
    fork_hold();
    (void)pthread_mutex_lock(&lock);
    if (generation == fork_generation())
        return;
    generation = fork_generation();
    open_count = lots = threads = 0;
    for (struct strangers *s = waiting, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    waiting = NULL;
}

static void leave(void)
{
    (void)pthread_mutex_unlock(&lock);
    fork_release();
}

/* Whether it has none, for it is no memory. O_PATH is EBADF, and flushes nothing; a sandbox may say EPERM. */
static bool has_no_seals(int fd)
{
    return fcntl(fd, F_GET_SEALS) < 0 && errno == EINVAL;
}

bool discard_may_hold_others(int fd)
{
    int unread = 0;

    if (fd_socket_option(fd, SO_DOMAIN) != AF_UNIX)
        return false;
    /* Packets may be empty, and who waits to be accepted is not counted. */
    return fd_socket_option(fd, SO_TYPE) != SOCK_STREAM || fd_socket_option(fd, SO_ACCEPTCONN) != 0 ||
           ioctl(fd, FIONREAD, &unread) < 0 || unread > 0;
}

/* Whether it is a socket that does not linger, and holds no others. */
static bool is_brief(int fd)
{
    struct linger linger = {0, 0};
    socklen_t length = sizeof linger;

    return !discard_may_hold_others(fd) && getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length) == 0 &&
           !linger.l_onoff;
}

/* Whether close() cannot wait. Asks only what the kernel answers; of files, whose answer takes longer than
 * most, *files times at most. */
static bool is_harmless(int fd, unsigned *files)
{
    if (fd < 0 || is_brief(fd) || !has_no_seals(fd))
        return true;
    if (*files == 0)
        return false;
    --*files;
    return local_file(fd);
}

/* The next that wait; NULL: none do, and there is one thread less. done: how many have been closed. */
static struct strangers *next_strangers(size_t done)
{
    struct strangers *next;

    enter();
    open_count -= done;
    lots -= done > 0;
    next = waiting;
    if (next)
        waiting = next->next;
    else
        threads--;
    leave();
    return next;
}

static void close_one(int fd, bool shared)
{
    const struct linger at_once = {0, 0};

    if (!shared && !discard_may_hold_others(fd)) /* ENOTSOCK: it may be anything */
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)fd_close(fd);
}

static void *close_them(void *argument)
{
    size_t done = 0;

    for (struct strangers *s; (s = next_strangers(done)); free(s)) {
        for (size_t i = 0; i < s->count; i++)
            close_one(s->fds[i], s->shared);
        done = s->count;
    }
    return argument;
}

/* false: there is no thread to be had. */
static bool start_thread(void)
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
    r = pthread_create(&thread, &attributes, close_them, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return r == 0;
}

/* For what waits, if there may be one more. Where none can be had, it is asked for again with whatever comes
 * next, and whenever somebody asks whether there is room. */
static void want_thread(void)
{
    if (waiting && threads < DISCARD_MOST && start_thread())
        threads++; /* it comes to the lock after this */
}

static void put(struct strangers *strangers)
{
    enter();
    strangers->next = waiting;
    waiting = strangers;
    open_count += strangers->count;
    lots++;
    want_thread();
    leave();
}

/* Room for so many; NULL: there is none, and a number that is lost is better than a caller that hangs. */
static struct strangers *new_strangers(size_t most, bool shared)
{
    struct strangers *strangers = calloc(1, sizeof(struct strangers) + most * sizeof(int));

    if (strangers)
        strangers->shared = shared;
    return strangers;
}

static void discard(const int *fds, size_t count, bool shared)
{
    struct strangers *strangers = NULL;
    unsigned files = FILES_ASKED;
    int saved = errno;

    for (size_t i = 0; i < count; i++) {
        if (is_harmless(fds[i], &files)) {
            (void)fd_close(fds[i]);
            continue;
        }
        if (!strangers)
            strangers = new_strangers(count - i, shared);
        if (strangers)
            strangers->fds[strangers->count++] = fds[i];
    }
    if (strangers)
        put(strangers);
    errno = saved;
}

void discard_fds(const int *fds, size_t count)
{
    discard(fds, count, false);
}

void discard_shared_fds(const int *fds, size_t count)
{
    discard(fds, count, true);
}

void discard_by_thread(int fd)
{
    int saved = errno;
    struct strangers *stranger = new_strangers(1, true);

    if (stranger) {
        stranger->count = 1;
        stranger->fds[0] = fd;
        put(stranger);
    }
    errno = saved;
}

static bool is_full(void)
{
    bool full;

    enter();
    want_thread();
    full = lots >= DISCARD_MOST || open_count >= DISCARD_FDS_MOST;
    leave();
    return full;
}

/* Most of what waits is waited for by nobody, and is closed as soon as a thread gets to it. */
bool discard_is_full(void)
{
    const struct timespec pause = {.tv_nsec = FULL_PAUSE_NS};
    bool full = is_full();

    for (int i = 0; full && i < FULL_PAUSES; i++) {
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        full = is_full();
    }
    return full;
}
