/* SPDX-License-Identifier: MIT */
/* Closing unix sockets that strangers may have sent descriptors to. */
#ifndef NARU_CHANNEL_UNIX_END_H
#define NARU_CHANNEL_UNIX_END_H

/* Closes the socket, which nobody shares, without waiting for what is on its way to it. Who sent what stays
 * unread is told (ECONNRESET). Forks are held off. Returns -1. */
int unix_end(int fd);

/* Likewise one that listens, with those who have connected and were not accepted; it is not closed itself. */
void unix_end_waiting(int fd);

#endif
