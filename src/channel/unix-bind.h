/* SPDX-License-Identifier: MIT */
/* bind(2) whose file has the socket's mode from its first instant on. */
#ifndef NARU_CHANNEL_UNIX_BIND_H
#define NARU_CHANNEL_UNIX_BIND_H

#include <sys/socket.h>

/*
 * As bind(2), but that a socket's file does not lose the bits of the umask: its mode is what fchmod(2) has
 * said of fd. Where no thread is to be had for it (RLIMIT_NPROC), or a sandbox forbids unshare(2), it is as
 * bind(2).
 */
int unix_bind_exactly(int fd, const struct sockaddr *address, socklen_t length);

#endif
