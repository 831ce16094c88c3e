/* SPDX-License-Identifier: MIT */
/* Connecting a unix socket to a listener that may be yet to come. */
#ifndef NARU_CHANNEL_UNIX_CONNECT_H
#define NARU_CHANNEL_UNIX_CONNECT_H

#include "channel/unix-path.h"

/* connect(2) as soon as somebody listens and has room for one more. fd must be non-blocking, or a full
 * backlog would hold it up. 0 or explained: -ETIMEDOUT, or what connect(2) said for good. */
int unix_connect_until(int fd, const struct url *url, const struct unix_name *name, int64_t deadline);

#endif
