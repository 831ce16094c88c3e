/* SPDX-License-Identifier: MIT */
/*
 * The file that bind(2) makes has the socket's mode less the umask (unix_bind() in net/unix/af_unix.c;
 * fchmod(2) of the socket before, measured). A chmod(2) behind it comes too late for another user who
 * connects in between: he is told EACCES, and by us that he may not. A name in between, which rename(2) gives
 * the right one, would be shown as the address for good (ss(8), getpeername(2)). And the umask is the whole
 * process's.
 *
 * But it is that of those who share a working directory (CLONE_FS of clone(2)), and a socket that is bound
 * belongs to whoever has it open. So a child that shares memory, as that of vfork(2), sets a umask of its own
 * and binds, while the calling thread waits. It sends no SIGCHLD and nobody else's wait(2) finds it
 * (__WCLONE). It runs nothing but system calls made by number: libc's functions, and what sanitizers put
 * around them, would take it for the thread whose memory it has.
 */
#include "channel/unix-bind.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK = 16 * 1024 /* bytes; glibc's clone(2) and syscall(2) take some hundred */ };

struct order {
    int fd;
    const struct sockaddr *address;
    socklen_t length;
};

/* errno is the thread's, and a tool that emulates clone(2) may give a copy of memory: so it is the exit
 * status, which has room for each. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int bind_without_umask(void *argument)
{
    const struct order *o = argument;

    (void)syscall(SYS_umask, 0);
    return syscall(SYS_bind, o->fd, o->address, o->length) < 0 ? errno : 0;
}

int unix_bind_exactly(int fd, const struct sockaddr *address, socklen_t length)
{
    _Alignas(16) char stack[STACK]; /* clone(2): its end is where it begins, as it grows down */
    struct order order = {fd, address, length};
    sigset_t all, usual;
    int child, status, r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &usual); /* a handler would run in the child, in our memory */
    child = clone(bind_without_umask, stack + STACK, CLONE_VM | CLONE_VFORK, &order);
    (void)pthread_sigmask(SIG_SETMASK, &usual, NULL);
    if (child < 0)
        return bind(fd, address, length);
    do
        r = waitpid(child, &status, (int)__WCLONE);
    while (r < 0 && errno == EINTR);
    if (r < 0 ||
        !WIFEXITED(status)) /* killed, by a filter of system calls maybe: before, or after it had bound */
        return bind(fd, address, length);
    errno = WEXITSTATUS(status);
    return errno ? -1 : 0;
}
