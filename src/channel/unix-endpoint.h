/* SPDX-License-Identifier: MIT */
/* Listening under a name of unix(7): a path or an abstract name; for unix: and for the rendezvous of shm:. */
#ifndef NARU_CHANNEL_UNIX_ENDPOINT_H
#define NARU_CHANNEL_UNIX_ENDPOINT_H

#include "channel/unix-path.h"

struct naru_listener;

/* The file that a listener under a path made. */
struct unix_endpoint;

/* Takes the right to listen under the name, reclaims a dead socket's path, and makes fd, a new socket, listen
 * there. mode: of the path. Sets l->lock_fd and l->name_fd; they stay -1 for an abstract name, and
 * *ret_endpoint is NULL then. Forks are held off. 0, or explained (-EADDRINUSE, -EEXIST, -EACCES ...), and
 * then nothing is left behind. */
int unix_endpoint_open(struct naru_listener *l, int fd, const struct url *url, const struct unix_name *name,
                       unsigned mode, struct unix_endpoint **ret_endpoint);

/* Frees it and, if owner, removes the path and its lock. NULL is nothing. Returns NULL. */
struct unix_endpoint *unix_endpoint_close(struct unix_endpoint *endpoint, int lock_fd, bool owner);

/* Removes what a dead listener left. socket_type: as it had. 0, or explained: -EBUSY where one lives,
 * -ENOENT, -ENOTSUP for an abstract name. */
int unix_endpoint_remove(const struct url *url, const struct unix_name *name, int socket_type);

#endif
