/* SPDX-License-Identifier: MIT */
/* What the two kinds of kernel message queues, System V and POSIX, have in common: who makes and removes
 * them, which way they are used, and the limits that stand in /proc/sys. */
#ifndef NARU_CHANNEL_QUEUE_H
#define NARU_CHANNEL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "channel/channel.h"

struct queue_request {
    bool create; /* ?create=  make it if it is missing; by default a listener does and a connecter waits */
    bool unlink; /* ?unlink=  remove it when the listener or the connected channel is closed */
    enum naru_direction direction; /* never DEFAULT */
};

/* The options that both kinds have. listens: asked by naru_listen(). 0 or -EINVAL. */
int queue_parse(struct url *url, const struct naru_options *opt, bool listens,
                struct queue_request *ret_request);

/*
 * Sets l->url to the URL that the other side connects to: the listener's without the options in the
 * NULL-terminated list, and with more of them behind ("type=1", or "" for none). 0 or -ENOMEM.
 */
int queue_listener_url(struct naru_listener *l, const struct url *url, const char *const *without,
                       const char *more);

/* The number in a file of /proc/sys, or `usual`, the kernel's default, where it cannot be read. */
int64_t queue_limit(const char *path, int64_t usual);

#endif
