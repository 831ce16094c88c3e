/* SPDX-License-Identifier: MIT */
/* What shm.c (attempts and waiting) and shm-open.c (options, pairs) share. */
#ifndef NARU_CHANNEL_SHM_H
#define NARU_CHANNEL_SHM_H

#include "channel/channel.h"
#include "shm/link.h"

enum {
    SHM_RING_DEFAULT = 256 * 1024, /* bytes; fits the second-level cache of two processors */
    SHM_SPINS = 4000 /* looks of the adaptive wait before it sleeps; some tens of microseconds */
};

enum wait_how { WAIT_ADAPTIVE, WAIT_SPIN, WAIT_SLEEP };

/* ch->state */
struct shm {
    struct shm_link link;
    enum wait_how how;
    int spins;     /* looks before a sleep */
    bool pair;     /* nobody knows who took the other end */
    size_t wanted; /* the length of the message that found no room: the sending thread's */
};

int shm_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt);

#endif
