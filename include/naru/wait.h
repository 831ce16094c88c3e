/* SPDX-License-Identifier: MIT */
/*
 * Waiting for any of several channels, listeners and descriptors, for a program that has no event loop
 * (naru/loop.h has one, for programs that want callbacks).
 *
 *   struct naru_wait items[2] = {NARU_INIT(struct naru_wait), NARU_INIT(struct naru_wait)};
 *   items[0].channel = orders;
 *   items[1].channel = cancellations;
 *   while (naru_wait_any(items, 2, NARU_FOREVER) > 0)
 *       for (int i = 0; i < 2; i++)
 *           while (items[i].ready && (n = naru_recv(items[i].channel, buf, sizeof buf, NARU_NOWAIT)) >= 0)
 *               ...
 *
 * To receive alike from many senders is naru_gather_recv() (naru/gather.h), which also accepts them, is fair,
 * and does not ask each of them each time. This is for few things, and for unlike ones.
 *
 * Threads: as naru_channel_fd() for each channel: in the thread that receives on it. Fork: see
 * naru/channel.h.
 */
#ifndef NARU_WAIT_H
#define NARU_WAIT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "naru/channel.h"
#include "naru/export.h"

NARU_BEGIN

/* One thing to wait for: a channel, or a listener, or, where both are NULL, a descriptor. NARU_INIT sets the
 * size. */
struct naru_wait {
    size_t size;
    struct naru_channel *channel;   /* ready: a receive, or a send that had found no room, is worth a call */
    struct naru_listener *listener; /* ready: an accept is */
    int fd;                         /* ready: as events says */
    int events;                     /* of fd: NARU_IN, NARU_OUT, or both */
    int ready; /* set by the call: 0, or what it is ready for; of fd also on its hang-up or error */
};

/*
 * Waits until at least one of n items is ready, and marks those that are. Level-triggered: what was left
 * unreceived makes the next call return at once. Returns how many are ready.
 *
 * n: at least 1. No memory is allocated for up to 32 items.
 *
 * -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: none is. -ECANCELED: naru_interrupt() of one of the channels. -EINVAL:
 * an item with a channel and a listener, or without anything; or more items, with each channel of
 * options.interruptible counted twice, than RLIMIT_NOFILE. -ENOTSUP: one of the mechanisms has no
 * descriptor to poll (no NARU_CAN_POLL). -EBADF: fd is not open.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_wait_any(struct naru_wait *items, size_t n, int64_t timeout_ns);

NARU_END

#endif
