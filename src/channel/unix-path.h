/* SPDX-License-Identifier: MIT */
/* The path of a unix socket: who may listen on it, and how it is made free. See unix-path.c. */
#ifndef NARU_CHANNEL_UNIX_PATH_H
#define NARU_CHANNEL_UNIX_PATH_H

#include <stdbool.h>

#include "channel/unix-name.h"

/* Takes the right to listen on path. The descriptor that holds it until it is closed, or explained:
 * -EADDRINUSE where somebody else has it. */
int unix_path_lock(const struct url *url, const char *path);

/* With the right held: removes a dead socket. socket_type: of the socket to be made. 0 or explained: -EEXIST
 * where something else is in the way, -EADDRINUSE where a program without the lock listens. */
int unix_path_clear(const struct url *url, const struct unix_name *name, int socket_type);

/* Whether there is a lock beside path, held or left by the dead. */
bool unix_path_has_lock(const char *path);

/* Who holds the lock beside path; 0: nobody that this process may see. */
pid_t unix_path_holder(const char *path);

/* Whether lock_fd still is the lock that others would find beside path. */
bool unix_path_is_locked_by(int lock_fd, const char *path);

/* With the lock held: removes the lock's file. */
void unix_path_unlock(const char *path);

#endif
