/* SPDX-License-Identifier: MIT */
/* File descriptors: owning them, and waiting on them. */
#ifndef NARU_BASE_FD_H
#define NARU_BASE_FD_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Closes fd unless it is negative, keeping errno. Returns -1: `fd = fd_close(fd)`. */
int fd_close(int fd);

/* Gives the descriptor away: returns it and leaves -1 behind. */
int fd_steal(int *fd);

/* __attribute__((cleanup)) for a descriptor that a failing function must not leak. */
void fd_cleanup(int *fd);
#define FD_CLEANUP __attribute__((cleanup(fd_cleanup)))

/* Sets or clears O_NONBLOCK of the open file description: never on one that we inherited, others share it.
 * 0 or -errno. */
int fd_set_nonblocking(int fd, bool nonblocking);

/* ppoll(2) until the deadline, going on after EINTR. The number of ready fds, 0 at the deadline, or -errno.
 */
int fd_poll(struct pollfd *fds, size_t count, int64_t deadline);

/* Whether the path leads to what is open as fd: others may have removed or replaced it since. */
bool fd_is_path(int fd, const char *path);

/* Whether no name leads to what is open as fd any more: all were removed, or renamed over. Where that cannot
 * be told (NFS keeps a name while the file is open), false. */
bool fd_is_removed(int fd);

/* Whether the descriptor is a socket, a FIFO ... : st_mode & S_IFMT, or 0 if it is not open. */
unsigned fd_type(int fd);

/* getsockopt(2) of SOL_SOCKET, of an option that is a number; -1: it is no socket, or knows no such option.
 */
int fd_socket_option(int fd, int option);

/* The descriptors in what recvmsg(2) filled in (SCM_RIGHTS), of which there are no more than that had room
 * for. Returns how many; they are the caller's. A pidfd that came along is closed. */
size_t fd_received(const struct msghdr *header, int *fds);

/* Has an eventfd of our own, which is not near its limit, readable or not, as it is not yet. */
void fd_set_event(int fd, bool readable);

/* Whether it is an eventfd(2), whatever made it: 1 or 0; -1: without /proc nobody can tell. Asks only what
 * the kernel answers. */
int fd_is_eventfd(int fd);

#endif
