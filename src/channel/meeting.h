/* SPDX-License-Identifier: MIT */
/*
 * Connecting without waiting (naru_connect(NARU_NOWAIT)), where that takes the other side's answer:
 *
 *     MEETS ---- a call finds the answer ----> UP
 *       `------- a call finds that there is none ----> FAILED: so says every call
 *                                              `---> LOST, if it connects again (reopen.h)
 *
 * While it meets, ch->direction is 0: no short way is open, and every call comes by channel_begin_sending()
 * or channel_begin_receiving(), which end up here; the descriptor for event loops shows the answer's coming.
 * It is used by one thread at a time until a call has found it.
 */
#ifndef NARU_CHANNEL_MEETING_H
#define NARU_CHANNEL_MEETING_H

#include <errno.h>

#include "base/error.h"
#include "channel/channel.h"

/* The first member of what a mechanism's connect has allocated, and left as ch->meeting. */
struct channel_meeting {
    int fd;                        /* where the answer comes; -1: it has been found */
    int epoll;                     /* that shows it; -1: none does */
    enum naru_direction direction; /* the answer was found, and what is to be done here is not; else 0 */
    int failed;                    /* 0, or what each call says */
    char why[ERROR_SENTENCE_MAX]; /* with that sentence; until it failed: what a call says whose time is up */
};

/* For a call that finds ch->direction without its own. 0: it is connected, and *timeout_ns is what is left of
 * it. -EAGAIN, -ETIMEDOUT, -ECANCELED: not yet; else why it never will be. */
int meeting_go_on(struct naru_channel *ch, int direction, int64_t *timeout_ns);

/* After a send, or a loan, that could not begin, as r says: when it is connected, that is shown as room is.
 * Returns r. */
static inline int meeting_refuses(struct naru_channel *ch, int r)
{
    if (ch->meeting && (r == -EAGAIN || r == -ETIMEDOUT))
        ch->refused = true;
    return r;
}

/* A call is worth it, and no socket will tell: it failed, or what is to be done here is to be tried again. */
static inline bool meeting_is_found(const struct channel_meeting *m)
{
    return m->failed || m->direction;
}

/* Before ch is closed. */
void meeting_end(struct naru_channel *ch, bool owner);

/* Has its answer shown by an epoll instance. 0 or -errno. */
int meeting_watch(struct channel_meeting *m, int epoll);

/* No longer: it is given up, and the channel whose epoll that is goes on. */
void meeting_unwatch(struct channel_meeting *m);

#endif
