/* SPDX-License-Identifier: MIT */
/* Finding and making POSIX queues, for posixmq.c. */
#ifndef NARU_CHANNEL_POSIXMQ_OPEN_H
#define NARU_CHANNEL_POSIXMQ_OPEN_H

#include <limits.h>
#include <mqueue.h>

#include "channel/queue.h"

enum {
    POSIXMQ_NAME_BYTES = NAME_MAX + 2, /* the slash, the name, the NUL */
    POSIXMQ_MSGSIZE_USUAL = 8192       /* /proc/sys/fs/mqueue/msgsize_default and msgsize_max */
};

/* What a URL asks for. */
struct posixmq_target {
    char name[POSIXMQ_NAME_BYTES];
    int64_t maxmsg, msgsize; /* 0: not said */
    struct queue_request request;
};

/* The queue's name, with its slash. 0 or explained: -EINVAL, -ENAMETOOLONG. */
int posixmq_parse_name(const struct url *url, char name[POSIXMQ_NAME_BYTES]);

/* The same and all options; one that nobody knows is refused: before anything is made or waited for. */
int posixmq_parse(struct url *url, const struct naru_options *opt, bool listens,
                  struct posixmq_target *ret_target);

/* Opens or makes it, and checks that it has the size asked for. The descriptor, or -errno; -ENOENT without an
 * explanation: there is none, and none is to be made. */
int posixmq_find(const struct url *url, const struct posixmq_target *target, unsigned mode,
                 struct mq_attr *ret_size);

#endif
